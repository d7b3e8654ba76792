// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/service_reconciler.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/kube/events.h"
#include "core/base/log.h"

namespace ballast::actuate::istio {
namespace {

constexpr MonotonicNs kFactsPause = 500'000'000ULL;
constexpr std::size_t kMaxPods = 200'000;  ///< facts of pods that are long gone are forgotten with the rest

/// Facts that a ready endpoint needs and that are not known yet.
bool wants_facts(const kube::Service& service, const Facts& facts) {
  return std::any_of(service.endpoints.begin(), service.endpoints.end(), [&](const kube::Endpoint& endpoint) {
    const bool pod_unknown = !endpoint.uid.empty() && !facts.pods.contains(endpoint.uid);
    return endpoint.ready &&
           (pod_unknown || (!endpoint.node.empty() && !facts.localities.contains(endpoint.node)));
  });
}

/// Are the endpoints the same but for their weights?
bool only_weights(const Json& a, const Json& b) {
  return a.size() == b.size() && std::equal(a.begin(), a.end(), b.begin(), [](Json one, Json other) {
           one.erase("weight");
           other.erase("weight");
           return one == other;
         });
}

/// Of two lists that only_weights() holds for: does no weight change by more than `most` of its logarithm?
bool is_small(const Json& a, const Json& b, double most) {
  const auto weight = [](const Json& endpoint) { return endpoint.at("weight").get<double>(); };
  const bool equal =
      std::all_of(b.begin(), b.end(), [&](const Json& e) { return weight(e) == weight(b[0]); });
  return !equal && std::equal(a.begin(), a.end(), b.begin(), [&](const Json& one, const Json& other) {
    return std::abs(std::log(weight(other) / weight(one))) <= most;
  });
}

std::string selector_text(const kube::Service& service) {
  std::string text;
  for (const auto& [key, value] : service.selector) {
    text += (text.empty() ? "" : ",") + key + "=" + value;
  }
  return text.empty() ? "none" : text;
}

}  // namespace

ServiceReconciler::ServiceReconciler(kube::Client& client, ReconcilerOptions options)
    : client_(client), writer_(client), options_(std::move(options)), tokens_(options_.weights_burst) {}

Status ServiceReconciler::noted(const std::string& what, Status status) {
  // What only an operator can mend is said by an Event at the Service.
  if (status || status.error().kind == Error::Kind::kUsage) {
    troubles_.erase(what);
  } else {
    troubles_[what] = status.error().message;
  }
  return status;
}

std::string ServiceReconciler::trouble() const {
  return troubles_.empty() ? "" : troubles_.begin()->second;
}

Status ServiceReconciler::counted(const std::string& object, const Status& written) {
  ++writes_;
  return noted("write " + object, written);
}

void ServiceReconciler::say(const kube::Service& service, bool warning, const std::string& reason,
                            const std::string& message) {
  std::string& last = said_[service.key()];
  if (last == reason) {
    return;
  }
  last = reason;
  spdlog::log(warning ? spdlog::level::warn : spdlog::level::info,
              "istio service={} reason={} message=\"{}\"", service.key(), reason, message);
  const kube::ObjectRef object{.ns = service.ns, .name = service.name, .uid = service.uid};
  if (Status posted = noted("event", kube::post_event(client_, object, warning, reason, message)); !posted) {
    spdlog::warn("event not written service={} reason=\"{}\"", service.key(), posted.error().message);
  }
}

/// false while something that mTLS or locality needs could not be read.
bool ServiceReconciler::learn_facts(const kube::Service& service, MonotonicNs now) {
  if (facts_.pods.size() > kMaxPods) {
    facts_.pods.clear();
  }
  if (!wants_facts(service, facts_)) {
    return true;
  }
  MonotonicNs& asked = facts_asked_[service.key()];
  if (asked != 0 && now - asked < kFactsPause) {
    due(asked + kFactsPause);
    return false;
  }
  asked = now;
  for (const Status& read :
       {noted("pods", writer_.read_pods(service, facts_)), noted("nodes", writer_.read_nodes(facts_))}) {
    if (!read) {
      spdlog::warn("pods and nodes not read service={} reason=\"{}\"", service.key(), read.error().message);
      due(asked + kFactsPause);
      return false;
    }
  }
  // A pod that was gone before we asked must not be asked for again and again.
  for (const kube::Endpoint& endpoint : service.endpoints) {
    facts_.localities.try_emplace(endpoint.node);
    facts_.pods.try_emplace(endpoint.uid);
  }
  return true;
}

bool ServiceReconciler::fail(const kube::Service& service, Held& held, const Status& status,
                             MonotonicNs now) {
  if (status) {
    return false;
  }
  held.retry = now + options_.retry_ns;
  due(held.retry);
  if (status.error().kind == Error::Kind::kUsage) {
    held.retry = now + 10 * options_.retry_ns;
    say(service, true, "WriteRefused", status.error().message);
  } else {
    spdlog::warn("istio write failed service={} reason=\"{}\"", service.key(), status.error().message);
  }
  return true;
}

void ServiceReconciler::adopt(const kube::Service& service, Held& held, const Json& endpoints,
                              MonotonicNs now) {
  const Json entry = service_entry(service, endpoints);
  if (fail(service, held, counted(service.key(), writer_.apply(entry)), now)) {
    return;
  }
  held.phase = Phase::kShadow;
  held.since = now;
  held.written = now;
  held.endpoints = endpoints;
  held.shares.clear();
  due(now + options_.settle_ns);
}

bool ServiceReconciler::write_route(const kube::Service& service, Held& held, const Json& route,
                                    MonotonicNs now) {
  if (fail(service, held, counted(service.key(), writer_.apply(route)), now)) {
    return false;
  }
  held.phase = Phase::kRouted;
  held.since = now;
  held.written = now;
  held.route_spec = route["spec"];
  return true;
}

void ServiceReconciler::route(const kube::Service& service, Held& held, MonotonicNs now) {
  if (write_route(service, held, virtual_service(service, options_.domain), now)) {
    say(service, false, "Managed",
        "traffic to " + service_host(service, options_.domain) + " is weighted by Ballast through " +
            shadow_host(service) + "; `ballastctl release` gives it back");
  }
}

void ServiceReconciler::update(const kube::Service& service, Held& held, const Json& endpoints,
                               MonotonicNs now) {
  if (endpoints == held.endpoints) {
    return;
  }
  bool gone = false;
  const Status patched = counted(service.key(), writer_.patch_endpoints(held.ns, held.name, endpoints, gone));
  if (fail(service, held, patched, now)) {
    return;
  }
  if (gone) {
    adopt(service, held, endpoints, now);
    return;
  }
  held.endpoints = endpoints;
  held.written = now;
}

bool ServiceReconciler::drifted(const Held& held, const Wanted& wanted, MonotonicNs now) const {
  if (held.phase != Phase::kRouted || now - held.written < options_.drift_ns) {
    return false;
  }
  const auto route = wanted.seen.find("VirtualService " + held.ns + "/" + held.name);
  const auto entry = wanted.seen.find("ServiceEntry " + held.ns + "/" + held.name);
  if (route == wanted.seen.end() || route->second != held.route_spec) {
    return true;
  }
  return !held.endpoints.is_null() &&
         (entry == wanted.seen.end() || kube::at(entry->second, {"endpoints"}) != held.endpoints);
}

void ServiceReconciler::keep(const kube::Service& service, const Wanted& wanted, MonotonicNs now) {
  const bool known = learn_facts(service, now);
  const Json endpoints = endpoints_json(service, wanted.weights.at(service.key()), facts_);
  Held& held = held_[service.key()];
  held.ns = service.ns;
  held.name = object_name(service);
  if (held.retry > now) {
    due(held.retry);
    return;
  }
  if (held.since == 0 || held.phase == Phase::kLeaving || held.endpoints.is_null()) {
    if (known) {
      adopt(service, held, endpoints, now);
    }
    return;
  }
  if (drifted(held, wanted, now)) {
    spdlog::warn("istio objects were changed by somebody else and are written again service={}",
                 service.key());
    adopt(service, held, endpoints, now);
    route(service, held, now);
    return;
  }
  if (held.phase == Phase::kRouted && only_weights(held.endpoints, endpoints)) {
    keep_weights(service, held, endpoints, now);
  } else {
    update(service, held, endpoints, now);
  }
  if (held.phase == Phase::kShadow) {
    if (now - held.since >= options_.settle_ns) {
      route(service, held, now);
    } else {
      due(held.since + options_.settle_ns);
    }
  } else if (const MonotonicNs look = held.written + options_.drift_ns + options_.retry_ns; look > now) {
    due(look);
  }
}

void ServiceReconciler::keep_weights(const kube::Service& service, Held& held, const Json& endpoints,
                                     MonotonicNs now) {
  if (endpoints == held.endpoints) {
    return;
  }
  const bool small = is_small(held.endpoints, endpoints, options_.small);
  const bool patient = small && held.wrote_small;
  const MonotonicNs free =
      held.written + (patient ? std::max(options_.small_apart_ns, options_.apart_ns) : options_.apart_ns);
  if (now < free) {
    hurry_ = hurry_ || !small;
    due(free);
  } else {
    late_.push_back({&service, &held, endpoints, small});
  }
}

void ServiceReconciler::write_late(MonotonicNs now) {
  const double passed_s = now > tokens_at_ ? static_cast<double>(now - tokens_at_) * 1e-9 : 0;
  tokens_ = std::min(options_.weights_burst, tokens_ + passed_s * options_.weights_per_s);
  tokens_at_ = now;
  std::sort(late_.begin(), late_.end(),
            [](const Late& a, const Late& b) { return a.held->written < b.held->written; });
  const SystemClock clock;
  const MonotonicNs begun = clock.now();
  for (const Late& late : late_) {
    if (clock.now() - begun > options_.burst_ns) {
      hurry_ = hurry_ || !late.small;
      due(now);
      break;
    }
    if (tokens_ < 1) {
      hurry_ = hurry_ || !late.small;
      due(now + static_cast<MonotonicNs>((1 - tokens_) / options_.weights_per_s * 1e9) + 1);
      break;
    }
    tokens_ -= 1;
    update(*late.service, *late.held, late.endpoints, now);
    late.held->wrote_small = late.small;
  }
  late_.clear();
}

bool ServiceReconciler::leave(const std::string& service, Held& held, MonotonicNs now) {
  if (held.retry > now) {
    due(held.retry);
    return false;
  }
  const bool routed = held.phase != Phase::kLeaving;
  const Status removed =
      counted(service, writer_.remove(routed ? "VirtualService" : "ServiceEntry", held.ns, held.name));
  if (routed && removed) {
    held.phase = Phase::kLeaving;
    held.since = now;
    due(now + options_.settle_ns);
    return false;
  }
  if (!removed) {
    spdlog::warn("hand-back waits object={}/{} reason=\"{}\"", held.ns, held.name, removed.error().message);
    held.retry = now + options_.retry_ns;
    due(held.retry);
  }
  return removed.ok();
}

MonotonicNs ServiceReconciler::reconcile(const Wanted& wanted, MonotonicNs now, MonotonicNs until) {
  next_ = 0;
  hurry_ = false;
  std::set<std::string> kept;
  std::set<std::string> there;
  for (const kube::Service& service : wanted.services) {
    there.insert(service.key());
    if (SystemClock().now() >= until) {
      kept.insert(service.key());
      due(now);
      continue;
    }
    if (const auto refusal = judge(service, wanted.conflicting_routes, options_.domain)) {
      say(service, true, refusal->reason, refusal->message);
      continue;
    }
    const bool released = wanted.released.contains("*") || wanted.released.contains(service.key());
    if (service.mode != "active" || released) {
      if (held_.contains(service.key())) {
        say(service, false, "Released", "the plain Service takes its traffic again");
      }
      continue;
    }
    const bool any = std::any_of(service.endpoints.begin(), service.endpoints.end(),
                                 [](const kube::Endpoint& endpoint) { return endpoint.ready; });
    if (!any) {
      say(service, true, "NoReadyEndpoint",
          "no endpoint is ready (selector: " + selector_text(service) +
              "); nothing is weighted until a pod that it matches is");
      continue;
    }
    if (wanted.weights.contains(service.key())) {
      if (const auto trip = wanted.tripped.find(service.key()); trip != wanted.tripped.end()) {
        say(service, true, "Tripped", trip->second);
      } else if (said_[service.key()] == "Tripped") {
        say(service, false, "Recovered", "the guard lets weights through again");
      }
      kept.insert(service.key());
      by_subset(service) ? keep_subsets(service, wanted, now) : keep(service, wanted, now);
    }
  }
  write_late(now);
  for (auto held = held_.begin(); held != held_.end();) {
    if (kept.contains(held->first)) {
      ++held;
      continue;
    }
    Held& leaving = held->second;
    const bool waits = leaving.phase == Phase::kLeaving && now - leaving.since < options_.settle_ns;
    if (waits) {
      due(leaving.since + options_.settle_ns);
    }
    held = !waits && leave(held->first, leaving, now) ? held_.erase(held) : std::next(held);
  }
  std::erase_if(said_, [&](const auto& said) { return !there.contains(said.first); });
  return next_;
}

guard::Answer ServiceReconciler::answer(const std::string& service, const Weights& weights) const {
  if (const auto failed = troubles_.find("write " + service); failed != troubles_.end()) {
    return {guard::Outcome::kRefused, failed->second};
  }
  const auto found = held_.find(service);
  if (found == held_.end() || found->second.phase == Phase::kLeaving) {
    const auto said = said_.find(service);
    return {guard::Outcome::kHeldBack, said == said_.end() ? "the Service is not managed" : said->second};
  }
  const Held& held = found->second;
  const bool same = std::ranges::all_of(held.endpoints, [&](const Json& endpoint) {
    const auto weight = weights.find(endpoint.at("address").get<std::string>());
    return weight == weights.end() || endpoint.at("weight") == weight->second;
  });
  if (held.phase != Phase::kRouted || !same) {
    return {guard::Outcome::kHeldBack, "it waits for its time: Envoy merges what comes within a second"};
  }
  return {guard::Outcome::kWritten, ""};
}

Status ServiceReconciler::sweep(MonotonicNs now) {
  held_.clear();
  for (const char* kind : {"VirtualService", "ServiceEntry"}) {
    const Result<std::vector<Owned>> owned = writer_.list(kind);
    if (!owned) {
      return owned.error();
    }
    for (const Owned& object : *owned) {
      if (std::string(kind) == "VirtualService") {
        if (Status removed = writer_.remove(kind, object.ns, object.name); !removed) {
          return removed;
        }
        spdlog::info("override removed virtual_service={}/{}", object.ns, object.name);
      }
      Held& held = held_[object.key()];
      held = {.ns = object.ns, .name = object.name, .phase = Phase::kLeaving, .since = now};
    }
  }
  return ok();
}

bool ServiceReconciler::hand_back(MonotonicNs now) {
  next_ = 0;
  for (auto held = held_.begin(); held != held_.end();) {
    Held& leaving = held->second;
    const bool waits = leaving.phase == Phase::kLeaving && now - leaving.since < options_.settle_ns;
    held = !waits && leave(held->first, leaving, now) ? held_.erase(held) : std::next(held);
  }
  return held_.empty();
}

}  // namespace ballast::actuate::istio
