// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/service_reconciler.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <tuple>
#include <utility>

#include "agent/kube/events.h"
#include "core/base/log.h"

namespace ballast::actuate::istio {
namespace {

constexpr MonotonicNs kFactsPause = 300'000'000ULL;
/// What is read in a pass is ended by news of membership when it has had so long.
constexpr MonotonicNs kReadsUndisturbed = 50'000'000ULL;
constexpr std::size_t kMostUnsaid = 256;  ///< the oldest Events give way

/// Is it one that a proxy would send to?
bool serves(const kube::Service& service, const kube::Endpoint& endpoint) {
  return endpoint.ready &&
         std::any_of(service.ports.begin(), service.ports.end(),
                     [&](const kube::ServicePort& port) { return endpoint.ports->contains(port.name); });
}

bool all_identified(const kube::Service& service, const Facts& facts) {
  return std::all_of(service.endpoints.begin(), service.endpoints.end(), [&](const kube::Endpoint& endpoint) {
    return !serves(service, endpoint) || identified(endpoint, facts);
  });
}

/// All of its pods, of which there is one at least.
bool all_ambient(const kube::Service& service, const Facts& facts) {
  bool any = false;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    const auto pod = facts.pods.find(pod_key(endpoint));
    if (endpoint.ready && (pod == facts.pods.end() || !pod->second.ambient)) {
      return false;
    }
    any = any || endpoint.ready;
  }
  return any;
}

const Json& endpoints_of(const Json& spec) {
  return kube::at(spec, {"endpoints"});
}

/// Are two specs the same but for their endpoints' weights?
bool only_weights(const Json& a, const Json& b) {
  const Json& from = endpoints_of(a);
  const Json& to = endpoints_of(b);
  if (!from.is_array() || from.size() != to.size() || a.size() != b.size()) {
    return false;
  }
  for (const auto& [key, value] : b.items()) {
    if (key != "endpoints" && (!a.contains(key) || a.at(key) != value)) {
      return false;
    }
  }
  return std::equal(from.begin(), from.end(), to.begin(), [](Json one, Json other) {
    one.erase("weight");
    other.erase("weight");
    return one == other;
  });
}

bool only_weights(const std::map<std::string, Object>& have, const std::map<std::string, Json>& wanted) {
  return have.size() == wanted.size() &&
         std::equal(have.begin(), have.end(), wanted.begin(), [](const auto& one, const auto& other) {
           return one.first == other.first && !one.second.uid.empty() &&
                  one.second.spec.endpoints() == endpoints_of(other.second.at("spec")).size() &&
                  only_weights(one.second.spec.json(), other.second.at("spec"));
         });
}

bool same(const std::map<std::string, Object>& have, const std::map<std::string, Json>& wanted) {
  return have.size() == wanted.size() &&
         std::equal(have.begin(), have.end(), wanted.begin(), [](const auto& one, const auto& other) {
           return one.first == other.first && one.second.spec == other.second.at("spec");
         });
}

/// Does what stands keep an address that should stand in none of them any more?
bool keeps_left(const std::map<std::string, Object>& have, const std::map<std::string, Json>& wanted) {
  std::set<std::string> addresses;
  for (const auto& [name, object] : wanted) {
    for (const Json& endpoint : endpoints_of(object.at("spec"))) {
      addresses.insert(kube::text_at(endpoint, {"address"}));
    }
  }
  return std::any_of(have.begin(), have.end(), [&](const auto& one) {
    const Json spec = one.second.spec.json();
    const Json& endpoints = endpoints_of(spec);
    return std::any_of(endpoints.begin(), endpoints.end(), [&](const Json& endpoint) {
      return !addresses.contains(kube::text_at(endpoint, {"address"}));
    });
  });
}

/// Of what only_weights() holds for: does no weight change by more than `most` of its logarithm? Back to
/// equal weights is never small.
bool is_small(const std::map<std::string, Object>& have, const std::map<std::string, Json>& wanted,
              double most) {
  bool equal = true;
  bool small = true;
  double first = 0;
  for (const auto& [name, object] : wanted) {
    const Json spec = have.at(name).spec.json();
    const Json& from = endpoints_of(spec);
    const Json& to = endpoints_of(object.at("spec"));
    for (std::size_t i = 0; i < to.size(); ++i) {
      const double now = to[i].at("weight").get<double>();
      first = first == 0 ? now : first;
      equal = equal && now == first;
      small = small && std::abs(std::log(now / from[i].at("weight").get<double>())) <= most;
    }
  }
  return small && !equal;
}

auto named(const Wanted& wanted, const std::string& key) {
  return std::find_if(wanted.services.begin(), wanted.services.end(),
                      [&](const kube::Service& service) { return service.key() == key; });
}

std::optional<kube::Service> with_endpoints(const Wanted& wanted, kube::Service service) {
  return wanted.fill && !wanted.fill(service) ? std::nullopt : std::optional(std::move(service));
}

std::string selector_text(const kube::Service& service) {
  std::string text;
  for (const auto& [key, value] : service.selector) {
    text.append(text.empty() ? "" : ",").append(key).append("=").append(value);
  }
  return text.empty() ? "none" : text;
}

}  // namespace

ServiceReconciler::ServiceReconciler(kube::Client& client, ReconcilerOptions options)
    : client_(client),
      writer_(client, options.plan.lease),
      options_(std::move(options)),
      merge_window_(writer_, options_.merge_window),
      tokens_(options_.weights_burst) {
  if (options_.may_write) {
    writer_.may_write = options_.may_write;
  }
  if (options_.released) {
    writer_.released = options_.released;
  }
}

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
  if (!troubles_.empty()) {
    return troubles_.begin()->second;
  }
  const auto off = std::find_if(held_off_.begin(), held_off_.end(),
                                [](const auto& one) { return !one.second.why.empty(); });
  return off == held_off_.end() ? "" : off->second.why;
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
  post(service, warning, reason, message);
}

void ServiceReconciler::post(const kube::Service& service, bool warning, const std::string& reason,
                             const std::string& message) {
  spdlog::log(warning ? spdlog::level::warn : spdlog::level::info,
              "istio service={} reason={} message=\"{}\"", service.key(), reason, message);
  unsaid_.push_back({.object = {.ns = service.ns, .name = service.name, .uid = service.uid},
                     .warning = warning,
                     .reason = reason,
                     .message = message});
  if (unsaid_.size() > kMostUnsaid) {
    unsaid_.pop_front();
  }
  if (!events_away_) {
    write_events();
  }
}

/// In their order; what cannot be written waits, unless the API server will never take it.
void ServiceReconciler::write_events() {
  for (auto one = unsaid_.begin(); one != unsaid_.end();) {
    if (events_refused_.contains(one->object.ns)) {
      ++one;
      continue;
    }
    const Status posted = kube::post_event(client_, one->object, one->warning, one->reason, one->message);
    if (const bool later = !posted && posted.error().kind != Error::Kind::kUsage; later) {
      std::ignore = noted("event", posted);
      events_away_ = posted.error().kind != Error::Kind::kPrivilege;
      if (events_away_) {
        return;
      }
      events_refused_.insert(one->object.ns);
      continue;
    }
    if (!posted) {
      spdlog::warn("event not taken service={}/{} reason=\"{}\"", one->object.ns, one->object.name,
                   posted.error().message);
    }
    one = unsaid_.erase(one);
  }
  events_away_ = false;
  if (events_refused_.empty()) {
    std::ignore = noted("event", ok());
  }
}

/// Those of Services that are not there any more are given up.
void ServiceReconciler::write_late_events(const std::set<std::string>& there, MonotonicNs now) {
  if (!unsaid_.empty() && now >= events_retry_) {
    events_refused_.clear();
    write_events();
    events_retry_ = now + 10 * options_.retry_ns;
    std::erase_if(unsaid_,
                  [&](const Unsaid& one) { return !there.contains(one.object.ns + "/" + one.object.name); });
    std::ignore = unsaid_.empty() ? noted("event", ok()) : ok();
  }
  if (!unsaid_.empty()) {
    due(events_retry_);
  }
}

void ServiceReconciler::tell_odd(const kube::Service& service, MonotonicNs now) {
  std::string what;
  for (const std::string& one : service.odd) {
    what += (what.empty() ? "" : "; ") + one;
  }
  Odd& odd = odd_[service.key()];
  if (odd.what != what) {
    odd = {.what = what, .since = now};
  }
  if (what.empty() || odd.told) {
    return;
  }
  if (now - odd.since < options_.odd_ns) {
    due(odd.since + options_.odd_ns);
    return;
  }
  odd.told = true;
  post(service, true, "OddEndpoints", what);
}

/// Nothing that we could write reaches proxies then, a deletion neither: it can but be said.
void ServiceReconciler::tell_stale(const kube::Service& service, bool stale, MonotonicNs now) {
  if (!stale && !stale_.contains(service.key())) {
    return;
  }
  Stale& before = stale_[service.key()];
  if (before.told == stale || (stale && before.at != 0 && now - before.at < options_.stale_again_ns)) {
    return;
  }
  before.told = stale;
  if (!stale) {
    post(service, false, "EndpointsCurrent", "istiod tells proxies what is written again");
    return;
  }
  before.at = now;
  post(service, true, "StaleEndpoints",
       "istiod tells proxies nothing of what was written for it within half a minute: they send by older "
       "weights and to older endpoints, and what they have of other Services may be as old; look at istiod's "
       "log and at its way to the API server");
}

/// Of one that is not held now and would be taken: is it taken and let go again and again?
bool ServiceReconciler::flaps(const kube::Service& service, MonotonicNs now) {
  auto& taken = taken_[service.key()];
  std::erase_if(taken, [&](MonotonicNs at) { return now - at >= options_.flaps_ns; });
  if (taken.size() < options_.flaps) {
    taken.push_back(now);
    return false;
  }
  say(service, true, "Flapping",
      "it was taken and let go " + std::to_string(taken.size()) +
          " times within a minute; the plain Service has its traffic for the next minute; leave its label " +
          kube::kModeLabel + " as it is");
  held_off_[service.key()].until = now + options_.flaps_ns;
  due(now + options_.flaps_ns);
  return true;
}

/// Reads again, now and then, what is known of a Service's pods.
void ServiceReconciler::refresh(const kube::Service& service, Held& held, const Wanted& wanted,
                                MonotonicNs now) {
  held.refreshed = now;
  const auto heard = wanted.heard.find(service.ns);
  const std::uint64_t number = heard == wanted.heard.end() ? 0 : heard->second;
  if (number == 0 || number != held.heard) {
    held.heard = noted("pods", writer_.refresh_labels(service, facts_)) ? number : 0;
  }
  for (const kube::Endpoint& endpoint : service.endpoints) {
    if (const auto pod = facts_.pods.find(pod_key(endpoint)); pod != facts_.pods.end() && pod->second.gone) {
      facts_.pods.erase(pod);
    }
  }
}

/// Those whose turn it is, the longest not read first, when all else of the pass is done. News end it, but
/// for one Service that has waited twice as long as it should.
void ServiceReconciler::refresh_some(const Wanted& wanted, MonotonicNs now, MonotonicNs until,
                                     const std::function<bool()>& news) {
  std::vector<std::pair<MonotonicNs, std::string>> old;
  for (auto& [key, held] : held_) {
    held.refreshed = held.refreshed == 0 ? now : held.refreshed;
    if (now - held.refreshed > options_.refresh_ns) {
      old.emplace_back(held.refreshed, key);
    }
  }
  std::sort(old.begin(), old.end());
  const SystemClock clock;
  bool any = false;
  for (const auto& [refreshed, key] : old) {
    const bool hurried = news && news();
    const bool waits = now - refreshed <= 2 * options_.refresh_ns;
    if (any ? hurried || clock.now() >= until : hurried && waits) {
      due(now);
      return;
    }
    if (const auto bare = named(wanted, key); bare != wanted.services.end()) {
      if (const auto service = with_endpoints(wanted, *bare)) {
        refresh(*service, held_.at(key), wanted, now);
        any = true;
        due(now);  // what it says otherwise is to be written
      }
    }
  }
}

/// Reads what mTLS, subsets and localities need of the pods that are new.
bool ServiceReconciler::learn_facts(const kube::Service& service, Held& held, MonotonicNs now) {
  if (all_identified(service, facts_)) {
    return true;
  }
  MonotonicNs& asked = facts_asked_[service.key()];
  if (asked != 0 && now - asked < kFactsPause) {
    due(asked + kFactsPause);
    return false;
  }
  // One that the API server did not know is asked for again: a slice may tell of a pod before the pods do.
  for (const kube::Endpoint& endpoint : service.endpoints) {
    const auto pod = facts_.pods.find(endpoint.uid);
    if (endpoint.ready && pod != facts_.pods.end() && pod->second.gone) {
      facts_.pods.erase(pod);
    }
  }
  reading_ = false;
  bool from_cache = false;
  const Status pods = noted("pods", writer_.read_pods(service, facts_, from_cache));
  held.heard = from_cache ? 0 : held.heard;  // older than what was heard of, it may be: read again
  const Status nodes = noted("nodes", writer_.read_nodes(service, facts_));
  for (const Status& read : {pods, nodes}) {
    if (!read) {
      spdlog::warn("pods and nodes not read service={} reason=\"{}\"", service.key(), read.error().message);
    }
  }
  const bool known = all_identified(service, facts_);
  asked = known || reading_ ? 0 : now;
  if (!known) {
    due(reading_ ? now : now + kFactsPause);
  }
  return known;
}

/// Memory is that of the endpoints that are there, not of all that ever were.
void ServiceReconciler::forget_facts(const Wanted& wanted, MonotonicNs now) {
  if (now - forgot_ < options_.refresh_ns) {
    return;
  }
  forgot_ = now;
  Facts kept;
  for (const kube::Service& bare : wanted.services) {
    const auto service = with_endpoints(wanted, bare);
    if (!service) {
      continue;
    }
    for (const kube::Endpoint& endpoint : service->endpoints) {
      if (auto pod = facts_.pods.extract(pod_key(endpoint))) {
        kept.pods.insert(std::move(pod));
      }
      if (auto node = facts_.localities.extract(endpoint.node)) {
        kept.localities.insert(std::move(node));
      }
    }
  }
  facts_ = std::move(kept);
}

bool ServiceReconciler::fail(const kube::Service& service, Held& held, const Status& status,
                             MonotonicNs now) {
  if (status) {
    return false;
  }
  held.retry = now + options_.retry_ns;
  held.why = status.error().message;
  held.refused =
      status.error().kind == Error::Kind::kUsage ||
      (status.error().kind == Error::Kind::kPrivilege && !(options_.away_of_late && options_.away_of_late()));
  if (status.error().kind == Error::Kind::kUsage) {
    held.retry = now + 10 * options_.retry_ns;
    say(service, true, "WriteRefused", status.error().message);
  } else {
    spdlog::warn("istio write failed service={} reason=\"{}\"", service.key(), status.error().message);
  }
  due(held.retry);
  return true;
}

/// Each time; but who writes against us all the time is told of now and then.
void ServiceReconciler::tell_others(const kube::Service& service, const Json& object, Others others,
                                    MonotonicNs now) {
  const std::string what = kube::text_at(object, {"kind"}) + " " + kube::key_of(object) + " was " +
                           (others == Others::kRemoved ? "removed by somebody else and is made again"
                                                       : "changed by somebody else and is written again");
  std::erase_if(others_, [&](const auto& told) { return now - told.second >= options_.others_again_ns; });
  if (others_.try_emplace(what, now).second) {
    post(service, true, "ChangedByOthers",
         what + "; take the label " + kube::kModeLabel + " from the Service before you change it");
  }
}

Status ServiceReconciler::put(const kube::Service& service, const Json& wanted, Object& have,
                              MonotonicNs now) {
  Others others = Others::kNothing;
  have.at = SystemClock().now();
  Status done = counted(service.key(), writer_.put(wanted, have, others));
  if (done && others != Others::kNothing) {
    tell_others(service, wanted, others, now);
  }
  return done;
}

/// Every entry that is not as it should be, then away with those that should not be. False when one failed.
bool ServiceReconciler::write_entries(const kube::Service& service, Held& held,
                                      const std::map<std::string, Json>& entries, MonotonicNs now) {
  bool whole = true;
  for (const auto& [name, object] : entries) {
    Object& have = held.entries[name];
    if (have.uid.empty() || have.spec != object.at("spec")) {
      const bool done = !fail(service, held, put(service, object, have, now), now);
      if (done && options_.wrote && held.way == Way::kOwnHost && name == entries.begin()->first) {
        options_.wrote(service.key(), object.at("spec"), have.at, entries.size() == 1);
      }
      whole = done && whole;
      held.written = now;
    }
  }
  for (auto have = held.entries.begin(); have != held.entries.end();) {
    if (entries.contains(have->first)) {
      ++have;
      continue;
    }
    const Status gone =
        counted(service.key(), writer_.remove("ServiceEntry", held.ns, have->first, have->second.uid));
    whole = !fail(service, held, gone, now) && whole;
    have = gone ? held.entries.erase(have) : std::next(have);
  }
  return whole;
}

bool ServiceReconciler::write_route(const kube::Service& service, Held& held, const Json& route,
                                    MonotonicNs now) {
  if (!held.route) {
    held.route.emplace();
  }
  if (fail(service, held, put(service, route, *held.route, now), now)) {
    return false;
  }
  held.phase = Phase::kHeld;
  held.since = now;
  held.written = now;
  return true;
}

std::string ServiceReconciler::managed_message(const kube::Service& service, const Held& held) const {
  const std::string host = service_host(service, options_.plan.domain);
  const std::string release = "; `ballastctl release` gives it back";
  switch (held.way) {
    case Way::kOwnHost:
      return "the endpoints of " + host + " are weighted by Ballast, for sidecars, subsets and gateways" +
             release;
    case Way::kRoute:
      return "traffic to " + host + " is weighted by Ballast through " + shadow_host(service) + release;
    default:
      return "traffic to the subsets of " + host + " is weighted by Ballast" + release;
  }
}

/// Membership is not what the EndpointSlices say, or it is again. True when it has not been for too long.
bool ServiceReconciler::behind(const kube::Service& service, Held& held, bool is,
                               const std::map<std::string, Json>& entries, MonotonicNs now) {
  if (!is) {
    held.behind = 0;
    held.why.clear();
    held.refused = false;
    return false;
  }
  held.behind = held.behind == 0 ? now : held.behind;
  if (!(held.refused && keeps_left(held.entries, entries)) && now - held.behind < options_.behind_ns) {
    due(held.behind + options_.behind_ns);
    return false;
  }
  const std::string why = !held.why.empty()    ? held.why
                          : !troubles_.empty() ? troubles_.begin()->second
                                               : "the pod of a ready endpoint is not known to the API server";
  say(service, true, "HandedBack",
      "the plain Service has its traffic, because membership could not be kept up: " + why);
  held_off_[service.key()] = {now + options_.held_off_ns,
                              service.key() + " was handed back to the plain Service: " + why};
  return true;
}

/// What others changed is forgotten, so that it is written again.
void ServiceReconciler::look_for_drift(Held& held, const Wanted& wanted, MonotonicNs now) {
  const auto look = [&](const std::string& kind, const std::string& name, Object& have) {
    const auto seen = wanted.seen.find(kind + " " + held.ns + "/" + name);
    if (seen == wanted.seen.end()) {
      if (!have.uid.empty() && (have.seen || now - held.written >= options_.drift_ns)) {
        // Removed, or without the label that it is watched by, or its watch has not heard of it yet: looked
        // at before it is written.
        have.spec = Json();
        have.seen = false;
      }
    } else if (seen->second.uid != have.uid || seen->second.generation > have.generation ||
               !seen->second.labelled) {
      have.spec = Json();
      have.seen = false;
    } else {
      have.seen = have.seen || seen->second.generation == have.generation;
      have.stood = have.stood || have.seen;
    }
  };
  for (auto& [name, have] : held.entries) {
    look("ServiceEntry", name, have);
  }
  if (held.route && held.phase == Phase::kHeld) {
    look("VirtualService", held.name, *held.route);
  }
  if (const MonotonicNs again = held.written + options_.drift_ns + options_.retry_ns; again > now) {
    due(again);
  }
}

bool ServiceReconciler::hold(const kube::Service& service, const Shared<Weights>& weights,
                             const Wanted& wanted, MonotonicNs now, bool learn) {
  const Way way = way_of(service, wanted.own_host);
  Held& held = held_[service.key()];
  if (held.phase == Phase::kNew) {
    held.ns = service.ns;
    held.name = object_name(service);
    held.service_uid = service.uid;
    held.way = way;
  }
  if (held.phase == Phase::kLeaving || held.way != way || held.service_uid != service.uid) {
    // Another way, or another Service of the same name: from the beginning, when what there is has gone.
    if (held.service_uid != service.uid) {
      say(service, false, "MadeAgain",
          "what was written for the Service of this name before is taken away, and this one is taken anew");
    }
    due(now + 1);
    return false;
  }
  if (!learn && !all_identified(service, facts_)) {
    if (held.phase != Phase::kNew && way != Way::kSubset) {
      look_for_drift(held, wanted, now);
      write_who_left(service, held, weights, now);
    }
    unread_.push_back({service.key(), weights});
    return true;
  }
  if (way == Way::kSubset) {
    return keep_subsets(service, held, weights, wanted, now);
  }
  return keep(service, held, weights, wanted, now);
}

/// Who leaves does not wait for what has to be read of who comes.
void ServiceReconciler::write_who_left(const kube::Service& service, Held& held,
                                       const Shared<Weights>& weights, MonotonicNs now) {
  if (held.retry > now) {
    return;
  }
  if (const auto entries = service_entries(service, held.way, weights, facts_, options_.plan);
      !entries.empty() && !only_weights(held.entries, entries)) {
    write_entries(service, held, entries, now);
  }
}

/// What has to be read of Services, after all that is known was written: one list of pods may take seconds,
/// and nobody who leaves waits for it. A part of it in each pass, which is gone on with in the next.
void ServiceReconciler::learn_some(const Wanted& wanted, std::set<std::string>& kept, MonotonicNs now,
                                   MonotonicNs until, const std::function<bool()>& news) {
  const SystemClock clock;
  const MonotonicNs begun = clock.now();
  const auto first = std::find_if(unread_.begin(), unread_.end(),
                                  [&](const Unread& one) { return one.service == learn_next_; });
  std::rotate(unread_.begin(), first == unread_.end() ? unread_.begin() : first, unread_.end());
  for (std::size_t i = 0; i < unread_.size(); ++i) {
    const MonotonicNs at = clock.now();
    if (i > 0 && (at >= until || (at - begun > kReadsUndisturbed && news && news()))) {
      learn_next_ = unread_[i].service;
      due(now);
      break;
    }
    const auto service = with_endpoints(wanted, *named(wanted, unread_[i].service));
    if (service && !hold(*service, unread_[i].weights, wanted, now, true)) {
      kept.erase(unread_[i].service);
    }
  }
  unread_.clear();
}

/// False: it has to be let go.
bool ServiceReconciler::keep(const kube::Service& service, Held& held, const Shared<Weights>& weights,
                             const Wanted& wanted, MonotonicNs now) {
  const bool held_now = held.phase != Phase::kNew;
  if (held_now) {
    look_for_drift(held, wanted, now);
  }
  const bool known = learn_facts(service, held, now);
  if (known && !has_waypoint(service) && all_ambient(service, facts_)) {
    say(service, true, "Ambient",
        "its pods are of the ambient mesh, and ztunnel, which picks the pod there, is told no weights; it "
        "is not weighed, and traffic is the plain Service's; through a waypoint, named by the label "
        "istio.io/use-waypoint of the Service or of its namespace, it can be");
    return false;
  }
  const auto entries = service_entries(service, held.way, weights, facts_, options_.plan);
  const std::uint64_t said = digest(weights);
  if (held.retry > now) {
    due(held.retry);
    return !behind(service, held, held_now && (!known || !only_weights(held.entries, entries)), entries, now);
  }
  if (!held_now) {
    if (!known) {
      // Nothing is there to be handed back: said, and tried again. What is being read is not late.
      behind(service, held, !reading_, entries, now);
      held_off_.erase(service.key());
      return true;
    }
    held.behind = 0;
    held.said = said;
    if (!write_entries(service, held, entries, now)) {
      const bool some = std::any_of(held.entries.begin(), held.entries.end(),
                                    [](const auto& entry) { return !entry.second.uid.empty(); });
      return !behind(service, held, some, entries, now);
    }
    for (const auto& [name, have] : held.entries) {
      if (!have.created.empty() && have.created <= service.created) {
        // An entry that is as old as its Service changes the pods' inbound clusters: anew, a second later.
        held_off_[service.key()].until = now + options_.retry_ns;
        due(now + options_.retry_ns);
        return false;
      }
    }
    held.phase = held.way == Way::kOwnHost ? Phase::kHeld : Phase::kShadow;
    held.since = now;
    if (held.phase == Phase::kHeld) {
      say(service, false, "Managed", managed_message(service, held));
    } else {
      due(now + options_.settle_ns);
    }
    return true;
  }
  bool whole = true;
  if (same(held.entries, entries)) {
    if (held.way == Way::kOwnHost) {
      troubles_.erase("write " + service.key());  // what was refused is not wanted any more
    }
    held.said = said;
  } else if (held.phase == Phase::kHeld && only_weights(held.entries, entries)) {
    keep_weights(service, held, entries, weights, now);
  } else {
    whole = write_entries(service, held, entries, now);
    held.said = whole ? said : 0;
  }
  if (behind(service, held, !known || !whole, entries, now)) {
    return false;
  }
  if (held.way == Way::kRoute && whole) {
    const bool settled = held.phase == Phase::kHeld || now - held.since >= options_.settle_ns;
    if (!settled) {
      due(held.since + options_.settle_ns);
    } else if (!held.route && options_.told &&
               !std::all_of(entries.begin(), entries.end(), [&](const auto& entry) {
                 return options_.told(held.ns, entry.second.at("spec"));
               })) {
      due(now + options_.retry_ns);
    } else if (const Json route = virtual_service(service, options_.plan);
               (!held.route || held.route->spec != route.at("spec")) &&
               write_route(service, held, route, now)) {
      say(service, false, "Managed", managed_message(service, held));
    }
  }
  return true;
}

void ServiceReconciler::keep_weights(const kube::Service& service, Held& held,
                                     const std::map<std::string, Json>& entries,
                                     const Shared<Weights>& weights, MonotonicNs now) {
  const bool small = is_small(held.entries, entries, options_.small);
  const bool patient = small && held.wrote_small;
  const MonotonicNs free =
      held.written + (patient ? std::max(options_.small_apart_ns, options_.apart_ns) : options_.apart_ns);
  if (now < free) {
    hurry_ = hurry_ || !small;
    due(free);
  } else {
    late_.push_back({service.key(), &held, weights, small});
  }
}

void ServiceReconciler::write_late(const Wanted& wanted, MonotonicNs now, const std::function<bool()>& news) {
  const double passed_s = now > tokens_at_ ? static_cast<double>(now - tokens_at_) * 1e-9 : 0;
  tokens_ = std::min(options_.weights_burst, tokens_ + passed_s * options_.weights_per_s);
  tokens_at_ = now;
  std::sort(late_.begin(), late_.end(),
            [](const Late& a, const Late& b) { return a.held->written < b.held->written; });
  const SystemClock clock;
  const MonotonicNs begun = clock.now();
  for (const Late& late : late_) {
    if (clock.now() - begun > options_.burst_ns || (news && news())) {
      hurry_ = hurry_ || !late.small;
      due(now);
      break;
    }
    if (tokens_ < 1) {
      hurry_ = hurry_ || !late.small;
      due(now + static_cast<MonotonicNs>((1 - tokens_) / options_.weights_per_s * 1e9) + 1);
      break;
    }
    const auto service = with_endpoints(wanted, *named(wanted, late.service));
    if (!service) {
      continue;
    }
    const auto entries = service_entries(*service, late.held->way, late.weights, facts_, options_.plan);
    if (!only_weights(late.held->entries, entries)) {
      due(now);  // membership changed meanwhile, which is more than this may write
      continue;
    }
    tokens_ -= 1;
    late.held->said = write_entries(*service, *late.held, entries, now) ? digest(late.weights) : 0;
    late.held->wrote_small = late.small;
  }
  late_.clear();
}

/// Deletes; and where that is refused, once, makes it say nothing.
Status ServiceReconciler::take_away(const std::string& kind, Held& held, const std::string& name,
                                    const std::string& uid, const std::string& service, MonotonicNs since) {
  Status removed = counted(service, writer_.remove(kind, held.ns, name, uid));
  if (!removed) {
    const bool in_force = kind == "VirtualService" || held.way == Way::kOwnHost;
    const std::string host =
        service.substr(service.find('/') + 1) + "." + held.ns + ".svc." + options_.plan.domain;
    const bool plain = in_force && writer_.disarm(kind, held.ns, name, host).ok();
    if (in_force && !plain && removed.error().kind == Error::Kind::kPrivilege &&
        !(options_.away_of_late && options_.away_of_late())) {
      held.stuck = since;
    }
    spdlog::warn("hand-back waits object={} {}/{} traffic={} reason=\"{}\"", kind, held.ns, name,
                 plain ? "plain" : "as it was", removed.error().message);
  }
  return removed;
}

MonotonicNs ServiceReconciler::stuck() const {
  MonotonicNs since = 0;
  for (const auto& [service, held] : held_) {
    since = held.stuck != 0 && (since == 0 || held.stuck < since) ? held.stuck : since;
  }
  return since;
}

bool ServiceReconciler::remove_entries(const std::string& service, Held& held, MonotonicNs since) {
  bool all = true;
  for (auto have = held.entries.begin(); have != held.entries.end();) {
    const bool gone = take_away("ServiceEntry", held, have->first, have->second.uid, service, since).ok();
    have = gone ? held.entries.erase(have) : std::next(have);
    all = all && gone;
  }
  return all;
}

bool ServiceReconciler::leave(const std::string& service, Held& held, MonotonicNs now) {
  const bool first = held.phase != Phase::kLeaving;
  const bool settles = held.phase == Phase::kLeaving && held.way == Way::kRoute && !held.route;
  const MonotonicNs at = std::max(held.retry, settles ? held.since + options_.settle_ns : 0);
  if (!first && at > now) {
    due(at);
    return false;
  }
  if (first && options_.left) {
    options_.left(service);
  }
  held.phase = Phase::kLeaving;
  held.retry = 0;
  const MonotonicNs since = held.stuck == 0 ? now : std::exchange(held.stuck, 0);
  if (held.route) {
    if (!take_away("VirtualService", held, held.name, held.route->uid, service, since)) {
      held.retry = now + options_.retry_ns;
      due(held.retry);
      return false;
    }
    held.route.reset();
    held.since = now;
    if (!held.entries.empty()) {
      due(now + options_.settle_ns);
      return false;
    }
  }
  if (!remove_entries(service, held, since)) {
    held.retry = now + options_.retry_ns;
    due(held.retry);
    return false;
  }
  return true;
}

/// What carries our name and nobody here wrote: a deposed leader's write that landed late.
void ServiceReconciler::remove_strays(const Wanted& wanted, MonotonicNs now) {
  std::erase_if(strays_, [&](const auto& stray) { return !wanted.seen.contains(stray.first); });
  for (const auto& [key, object] : wanted.seen) {
    const bool route = key.starts_with("VirtualService ");
    const auto held = held_.find(object.key());
    if (held != held_.end() && (route ? held->second.route && held->second.name == object.name
                                      : held->second.entries.contains(object.name))) {
      strays_.erase(key);
      continue;
    }
    const MonotonicNs since = strays_.try_emplace(key, now).first->second;
    if (now - since < options_.retry_ns) {
      due(since + options_.retry_ns);
      continue;
    }
    spdlog::warn("an object of ours that is not ours to keep is removed object={}", key);
    if (counted(object.key(), writer_.remove(route ? "VirtualService" : "ServiceEntry", object.ns,
                                             object.name, object.uid))) {
      strays_[key] = now;
    }
    due(now + options_.retry_ns);
  }
}

void ServiceReconciler::keep_merge_window(MonotonicNs now) {
  std::set<std::string> hosts;
  for (const auto& [key, held] : held_) {
    const std::string name = key.substr(key.find('/') + 1);
    if (held.way != Way::kSubset && (held.phase == Phase::kHeld || held.phase == Phase::kShadow)) {
      hosts.insert(name + "." + held.ns +
                   (held.way == Way::kOwnHost ? ".svc." + options_.plan.domain : kShadowDomain));
    }
  }
  MonotonicNs next = 0;
  const Status kept = merge_window_.keep(hosts, options_.plan, now, next);
  // No Event says it: it is of no one Service.
  std::ignore = noted("merge window", kept ? kept : Status(Error::failed(kept.error().message)));
  if (next != 0) {
    due(next);
  }
}

void ServiceReconciler::pace(MonotonicNs apart_ns, MonotonicNs small_apart_ns) {
  options_.apart_ns = apart_ns;
  options_.small_apart_ns = small_apart_ns;
}

bool ServiceReconciler::hear(const std::map<std::string, PodFacts>& pods) {
  bool news = false;
  for (const auto& [uid, told] : pods) {
    // Who is not known here yet is read when it is needed.
    if (const auto pod = facts_.pods.find(uid); pod != facts_.pods.end() && !pod->second.gone) {
      news = news || pod->second.labels != told.labels || pod->second.ambient != told.ambient;
      pod->second.labels = told.labels;
      pod->second.ambient = told.ambient;
    }
  }
  return news;
}

MonotonicNs ServiceReconciler::reconcile(const Wanted& wanted, MonotonicNs now, MonotonicNs until,
                                         const std::function<bool()>& news) {
  next_ = 0;
  hurry_ = false;
  std::erase_if(held_off_, [&](const auto& off) { return off.second.until <= now; });
  if (!owner_known_ && !options_.plan.owner_name.empty()) {
    const Result<std::string> uid = writer_.role_uid(options_.plan.owner_name);
    owner_known_ = noted("owner", uid ? ok() : Status(uid.error())).ok();
    options_.plan.owner_uid = uid ? *uid : "";
  }
  const SystemClock clock;
  writer_.may_read = [&] {
    reading_ = clock.now() >= until || (news && news());
    return !reading_;
  };
  std::set<std::string> kept;
  std::set<std::string> there;
  std::string rest;
  const std::size_t n = wanted.services.size();
  const auto resumed = named(wanted, resume_);
  const auto first = resumed == wanted.services.end() ? 0 : resumed - wanted.services.begin();
  for (std::size_t i = 0; i < n; ++i) {
    const kube::Service& bare = wanted.services[(static_cast<std::size_t>(first) + i) % n];
    const std::string key = bare.key();
    if (i > 0 && clock.now() >= until) {
      rest = rest.empty() ? key : rest;
      there.insert(key);
      kept.insert(key);
      due(now);
      continue;
    }
    const auto filled = with_endpoints(wanted, bare);
    if (!filled) {
      continue;
    }
    const kube::Service& service = *filled;
    there.insert(key);
    if (const auto refusal = judge(service, way_of(service, wanted.own_host), wanted.conflicting_routes,
                                   options_.plan.domain)) {
      say(service, true, refusal->reason, refusal->message);
      continue;
    }
    const bool released = wanted.released.contains("*") || wanted.released.contains(key);
    if (service.mode != "active" || released) {
      if (held_.contains(key)) {
        say(service, false, "Released", "the plain Service takes its traffic again");
      }
      continue;
    }
    const bool any = std::any_of(service.endpoints.begin(), service.endpoints.end(),
                                 [&](const kube::Endpoint& endpoint) { return serves(service, endpoint); });
    if (!any) {
      say(service, true, "NoReadyEndpoint",
          "no endpoint is ready (selector: " + selector_text(service) +
              "); nothing is weighted until a pod that it matches is");
      continue;
    }
    if (const auto off = held_off_.find(key); off != held_off_.end()) {
      due(off->second.until);
      continue;
    }
    const auto own = wanted.weights.find(key);
    const auto lent = own == wanted.weights.end() ? lent_weights(service, wanted.weights) : std::nullopt;
    if (own != wanted.weights.end() || lent) {
      tell_odd(service, now);
      if (!held_.contains(key) && flaps(service, now)) {
        continue;
      }
      if (const auto trip = wanted.tripped.find(key); trip != wanted.tripped.end()) {
        say(service, true, "Tripped", trip->second);
      } else if (said_[key] == "Tripped") {
        say(service, false, "Recovered", "the guard lets weights through again");
      }
      if (hold(service, lent ? Shared<Weights>(*lent) : own->second, wanted, now, false)) {
        kept.insert(key);
        tell_stale(service, wanted.stale.contains(key), now);
      }
    } else if (std::none_of(service.endpoints.begin(), service.endpoints.end(),
                            [](const kube::Endpoint& endpoint) { return !endpoint.uid.empty(); })) {
      say(service, true, "NoPods",
          "the endpoints of " + key +
              " name no pods (targetRef), so that nobody measures them; it is not weighed");
    }
  }
  resume_ = rest;
  learn_some(wanted, kept, now, until, news);
  write_late(wanted, now, news);
  for (auto held = held_.begin(); held != held_.end();) {
    held = !kept.contains(held->first) && leave(held->first, held->second, now) ? held_.erase(held)
                                                                                : std::next(held);
  }
  remove_strays(wanted, now);
  keep_merge_window(now);
  write_late_events(there, now);
  std::erase_if(said_, [&](const auto& said) { return !there.contains(said.first); });
  std::erase_if(taken_, [&](const auto& taken) { return !there.contains(taken.first); });
  std::erase_if(odd_, [&](const auto& odd) { return !there.contains(odd.first); });
  std::erase_if(stale_, [&](const auto& stale) { return !there.contains(stale.first); });
  std::erase_if(held_off_, [&](const auto& off) { return !there.contains(off.first); });
  std::erase_if(facts_asked_, [&](const auto& asked) { return !there.contains(asked.first); });
  forget_facts(wanted, now);
  refresh_some(wanted, now, until, news);
  writer_.may_read = [] { return true; };
  return next_;
}

bool says(const Json& spec, const Weights& weights) {
  const Json& endpoints = endpoints_of(spec);
  for (const Json& endpoint : endpoints.is_array() ? endpoints : Json::array()) {
    for (const auto& [port, number] : kube::at(endpoint, {"ports"}).items()) {
      const auto weight =
          weights.find({endpoint.at("address").get<std::string>(), number.get<std::uint16_t>()});
      if (weight != weights.end() && endpoint.at("weight") != weight->second) {
        return false;
      }
    }
  }
  return true;
}

std::uint64_t digest(const Weights& weights) {
  std::uint64_t sum = weights.size();
  for (const auto& [place, weight] : weights) {
    sum = (sum ^ std::hash<std::string>()(place.first) ^ place.second) * 1099511628211ULL;
    sum = (sum ^ weight) * 1099511628211ULL;
  }
  return sum;
}

guard::Answer ServiceReconciler::answer(const std::string& service, const Weights& weights) const {
  if (const auto failed = troubles_.find("write " + service); failed != troubles_.end()) {
    return {guard::Outcome::kRefused, failed->second};
  }
  if (const auto off = held_off_.find(service); off != held_off_.end() && !off->second.why.empty()) {
    return {guard::Outcome::kRefused, off->second.why};
  }
  const auto found = held_.find(service);
  if (found == held_.end() || found->second.phase == Phase::kLeaving) {
    const auto said = said_.find(service);
    return {guard::Outcome::kHeldBack, said == said_.end() ? kNotManaged : said->second};
  }
  const Held& held = found->second;
  const bool in_force =
      held.phase == Phase::kHeld && (held.way == Way::kSubset || held.said == digest(weights));
  if (!in_force) {
    return {guard::Outcome::kHeldBack, "it waits for its time: Envoy merges what comes within a second"};
  }
  return {guard::Outcome::kWritten, ""};
}

Status ServiceReconciler::sweep(MonotonicNs now) {
  for (const auto& [service, held] : held_) {
    if (options_.left) {
      options_.left(service);
    }
  }
  held_.clear();
  held_off_.clear();
  strays_.clear();
  if (Status removed = merge_window_.remove(); !removed) {
    return removed;
  }
  for (const char* kind : {"VirtualService", "ServiceEntry"}) {
    const Result<std::vector<Owned>> owned = writer_.list(kind);
    if (!owned) {
      return owned.error();
    }
    for (const Owned& object : *owned) {
      const bool route = std::string(kind) == "VirtualService";
      if (route || object.own_host) {
        if (Status removed = writer_.remove(kind, object.ns, object.name, object.uid); !removed) {
          return removed;
        }
        spdlog::info("override removed object={} {}/{}", kind, object.ns, object.name);
      }
      if (!object.own_host) {
        Held& held = held_[object.key()];
        held.ns = object.ns;
        held.way = Way::kRoute;
        held.phase = Phase::kLeaving;
        held.since = now;
        if (!route) {
          held.entries[object.name].uid = object.uid;
        }
      }
    }
  }
  return ok();
}

bool ServiceReconciler::hand_back(MonotonicNs now, MonotonicNs until) {
  next_ = 0;
  for (auto held = held_.begin(); held != held_.end() && SystemClock().now() < until;) {
    held = leave(held->first, held->second, now) ? held_.erase(held) : std::next(held);
  }
  return held_.empty() && noted("merge window", merge_window_.remove()).ok();
}

Json ServiceReconciler::sample(MonotonicNs now, const std::string& last) const {
  auto next = held_.upper_bound(last);
  for (std::size_t i = 0; i < held_.size(); ++i) {
    next = next == held_.end() ? held_.begin() : next;
    const auto& [key, held] = *next++;
    if (held.way != Way::kOwnHost || held.phase != Phase::kHeld || now - held.since <= options_.settle_ns ||
        held.entries.empty()) {
      continue;
    }
    // Not what somebody else changed or removed: that says nothing of istiod. Weights may have been written
    // just now: where every decision writes there is no other time.
    if (const Object& first = held.entries.begin()->second; first.stood && !first.spec.is_null()) {
      return {{"service", key},
              {"ns", held.ns},
              {"spec", first.spec.json()},
              {"whole", held.entries.size() == 1}};
    }
  }
  return {};
}

}  // namespace ballast::actuate::istio
