// SPDX-License-Identifier: Apache-2.0
#include "model/sync/fleet/fleet_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/observe/aggregate.h"
#include "core/observe/observation.h"

namespace ballast::fleet {

namespace {

// Two clocks may run apart by so much of the time that passes; a quartz is ten times better.
constexpr double kDrift = 500e-6;

using Nanoseconds = std::chrono::nanoseconds;

MonotonicNs ns(std::chrono::milliseconds span) {
  return static_cast<MonotonicNs>(std::chrono::duration_cast<Nanoseconds>(span).count());
}

bool finite(const EndpointReport& e) {
  const spec::EndpointTelemetry& t = e.telemetry;
  const double all[] = {t.qps,          t.tick_requests, t.p50_ns,       t.p99_ns,        t.tick_p50_ns,
                        t.in_flight,    t.error_rate,    t.success,      t.cpu_cores,     t.cpu_limit_cores,
                        t.wait_share,   t.speed,         t.utilisation,  t.running_share, t.usable_cores,
                        t.cpu_evidence, t.memory_bytes,  t.memory_share, t.capacity_qps,  t.answers_per_s,
                        t.seen_per_s,   t.seen_p99_ns,   t.p50_stretch,  t.mean_stretch,  e.offset};
  return std::all_of(std::begin(all), std::end(all), [](double x) { return std::isfinite(x); });
}

}  // namespace

const char* to_string(ReportVerdict verdict) {
  static constexpr std::array<const char*, kReportVerdicts> kNames = {"accepted", "replay",   "session",
                                                                      "late",     "too_many", "malformed"};
  return kNames[static_cast<std::size_t>(verdict)];
}

struct FleetRegistry::Row {
  EndpointReport report;
  Node* node = nullptr;
  Service* service = nullptr;
};

struct FleetRegistry::Node {
  std::string name;
  std::uint64_t session = 0;
  std::uint64_t sequence = 0;
  MonotonicNs received = 0;
  /// Least of received - sent in this session: the way of a report that nothing held up.
  double quickest_ns = 0;
  double tick_s = 0;
  double loop_delay_s = 0;
  std::vector<std::unique_ptr<Row>> rows;
  std::list<Node*>::iterator place;
};

struct FleetRegistry::Service {
  spec::ServiceId id;
  std::map<std::string, Row*> rows;  ///< by pod
  observe::PersistenceEstimator persistence;
  spec::ServiceAggregate aggregate;
  spec::LoopTiming loop;
  MonotonicNs made = 0;    ///< the aggregate; 0: never
  MonotonicNs period = 0;  ///< until it is made anew
};

FleetRegistry::FleetRegistry(FleetRegistryOptions options) : options_(options) {}
FleetRegistry::~FleetRegistry() = default;

ReportVerdict FleetRegistry::judge(const NodeReport& report, MonotonicNs now, std::string* why) {
  const auto refuse = [&](ReportVerdict verdict, const std::string& detail) {
    *why = fmt::format("{}: {}", to_string(verdict), detail);
    return verdict;
  };
  if (report.node.empty() || !std::isfinite(report.tick_s) || !std::isfinite(report.loop_delay_s)) {
    return refuse(ReportVerdict::kMalformed, "no node, or a loop that is not finite");
  }
  if (report.endpoints.size() > options_.most_endpoints) {
    return refuse(ReportVerdict::kTooMany, fmt::format("{} endpoints where {} are the most",
                                                       report.endpoints.size(), options_.most_endpoints));
  }
  const auto known = nodes_.find(report.node);
  if (known == nodes_.end()) {
    return nodes_.size() < options_.most_nodes
               ? ReportVerdict::kAccepted
               : refuse(ReportVerdict::kTooMany, fmt::format("{} nodes report", nodes_.size()));
  }
  const Node& node = *known->second;
  if (report.session < node.session) {
    return refuse(ReportVerdict::kSession, "of an earlier life of this node's agent");
  }
  if (report.session > node.session) {
    return ReportVerdict::kAccepted;
  }
  if (report.sequence <= node.sequence) {
    return refuse(ReportVerdict::kReplay,
                  fmt::format("sequence {} after {}", report.sequence, node.sequence));
  }
  const double way_ns = static_cast<double>(now) - static_cast<double>(report.sent);
  const double held_up_ns = way_ns - node.quickest_ns;
  if (held_up_ns > static_cast<double>(ns(options_.late))) {
    return refuse(ReportVerdict::kLate, fmt::format("under way for {:.1f} s", held_up_ns * 1e-9));
  }
  return ReportVerdict::kAccepted;
}

ReportVerdict FleetRegistry::refuse(ReportVerdict verdict) {
  const std::lock_guard lock(mutex_);
  ++counts_.verdicts[static_cast<std::size_t>(verdict)];
  return verdict;
}

ReportVerdict FleetRegistry::report(NodeReport report, MonotonicNs now, std::string* why) {
  std::string reason;
  const std::lock_guard lock(mutex_);
  forget_silent(now);
  const ReportVerdict verdict = judge(report, now, why == nullptr ? &reason : why);
  ++counts_.verdicts[static_cast<std::size_t>(verdict)];
  if (verdict != ReportVerdict::kAccepted) {
    return verdict;
  }
  auto& node = nodes_[report.node];
  if (node == nullptr) {
    node = std::make_unique<Node>();
    node->name = report.node;
    node->place = by_age_.insert(by_age_.begin(), node.get());
  }
  take_in(*node, std::move(report), now);
  return verdict;
}

void FleetRegistry::take_in(Node& node, NodeReport report, MonotonicNs now) {
  const double way_ns = static_cast<double>(now) - static_cast<double>(report.sent);
  const bool anew = report.session != node.session;
  const double drifted = node.quickest_ns + kDrift * static_cast<double>(now - node.received);
  node.quickest_ns = anew ? way_ns : std::min(way_ns, drifted);
  const double held_up_ns = std::max(0.0, way_ns - node.quickest_ns);
  node.session = report.session;
  node.sequence = report.sequence;
  node.received = now;
  node.tick_s = report.tick_s;
  node.loop_delay_s = report.loop_delay_s;
  by_age_.splice(by_age_.begin(), by_age_, node.place);

  // Mostly the same endpoints in the same order as the last time: then nothing has to be linked anew.
  const bool same = node.rows.size() == report.endpoints.size() &&
                    std::equal(node.rows.begin(), node.rows.end(), report.endpoints.begin(),
                               [](const auto& row, const EndpointReport& e) {
                                 return row->report.telemetry.id == e.telemetry.id;
                               });
  const std::vector<Service*> touched = same ? std::vector<Service*>() : unlink(node);
  std::size_t at = 0;
  for (EndpointReport& e : report.endpoints) {
    const MonotonicNs taken = e.telemetry.taken;
    const double age_ns = (report.sent > taken ? static_cast<double>(report.sent - taken) : 0) + held_up_ns;
    e.telemetry.taken = now - std::min(now, static_cast<MonotonicNs>(std::min(age_ns, 1e18)));
    if (!finite(e)) {
      ++counts_.not_finite;
      e.telemetry.known = false;
      e.offset = 0;
    }
    if (same) {
      node.rows[at++]->report = std::move(e);
      continue;
    }
    auto& service = services_[e.telemetry.id.service];
    if (service == nullptr) {
      service = std::make_unique<Service>();
      service->id = e.telemetry.id.service;
      // Services made anew in step would hold up all reports that come meanwhile.
      const MonotonicNs least = ns(options_.refresh);
      service->period = least + std::hash<std::string>()(service->id.name) % (least / 2 + 1);
    }
    const auto [place, free] = service->rows.try_emplace(e.telemetry.id.pod, nullptr);
    if (!free) {
      ++counts_.claimed;
      continue;
    }
    auto row = std::make_unique<Row>(Row{std::move(e), &node, service.get()});
    place->second = row.get();
    node.rows.push_back(std::move(row));
    ++rows_;
  }
  prune(touched);
}

std::vector<FleetRegistry::Service*> FleetRegistry::unlink(Node& node) {
  std::vector<Service*> touched;
  for (const auto& row : node.rows) {
    row->service->rows.erase(row->report.telemetry.id.pod);
    touched.push_back(row->service);
  }
  rows_ -= node.rows.size();
  node.rows.clear();
  std::sort(touched.begin(), touched.end());
  touched.erase(std::unique(touched.begin(), touched.end()), touched.end());
  return touched;
}

void FleetRegistry::prune(const std::vector<Service*>& services) {
  for (const Service* service : services) {
    if (service->rows.empty()) {
      services_.erase(spec::ServiceId(service->id));
    }
  }
}

void FleetRegistry::forget_silent(MonotonicNs now) {
  while (!by_age_.empty() && now - std::min(now, by_age_.back()->received) > ns(options_.forget)) {
    Node* node = by_age_.back();
    prune(unlink(*node));
    by_age_.pop_back();
    nodes_.erase(std::string(node->name));
  }
}

void FleetRegistry::refresh(Service& service, MonotonicNs now) {
  if (service.made != 0 && now - service.made < service.period) {
    return;
  }
  std::vector<spec::EndpointTelemetry> endpoints;
  std::vector<double> offsets;
  endpoints.reserve(service.rows.size());
  offsets.reserve(service.rows.size());
  spec::LoopTiming loop{now, 0, 0};
  for (const auto& [pod, row] : service.rows) {
    endpoints.push_back(row->report.telemetry);
    offsets.push_back(row->report.offset);
    loop.tick_s = std::max(loop.tick_s, row->node->tick_s);
    loop.loop_delay_s = std::max(loop.loop_delay_s, row->node->loop_delay_s);
  }
  service.aggregate = observe::aggregate(service.id, endpoints, offsets, loop, service.persistence);
  service.made = now;
}

FleetView FleetRegistry::view(const std::string& name, bool whole, MonotonicNs now) {
  const std::lock_guard lock(mutex_);
  forget_silent(now);
  FleetView out{.received = now, .whole = whole, .nodes = nodes_.size(), .services = {}};
  const auto found = nodes_.find(name);
  const Node* node = found == nodes_.end() ? nullptr : found->second.get();
  if (!whole) {
    if (node == nullptr) {
      return out;
    }
    std::vector<Service*> own;
    for (const auto& row : node->rows) {
      own.push_back(row->service);
    }
    std::sort(own.begin(), own.end());
    own.erase(std::unique(own.begin(), own.end()), own.end());
    for (Service* service : own) {
      refresh(*service, now);
      out.services.push_back({service->aggregate, {}});
    }
    return out;
  }
  for (const auto& [id, service] : services_) {
    refresh(*service, now);
    ServiceReport joined{service->aggregate, {}};
    for (const auto& [pod, row] : service->rows) {
      if (row->node != node) {
        joined.others.push_back(row->report);
      }
    }
    out.services.push_back(std::move(joined));
  }
  return out;
}

bool FleetRegistry::reports(const std::string& node, const spec::ServiceId& service) const {
  const std::lock_guard lock(mutex_);
  const auto found = nodes_.find(node);
  return found != nodes_.end() && std::ranges::any_of(found->second->rows, [&](const auto& row) {
           return row->service->id == service;
         });
}

FleetRegistryStats FleetRegistry::stats(MonotonicNs now) const {
  const std::lock_guard lock(mutex_);
  FleetRegistryStats out = counts_;
  out.nodes = nodes_.size();
  out.endpoints = rows_;
  out.services = services_.size();
  if (!by_age_.empty()) {
    out.oldest_s = static_cast<double>(now - std::min(now, by_age_.back()->received)) * 1e-9;
  }
  return out;
}

}  // namespace ballast::fleet
