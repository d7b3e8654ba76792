// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/span_export.h"

#include <time.h>

#include <unordered_map>
#include <utility>

#include "core/base/log.h"

namespace ballast::loop {

namespace {

/// What has to be added to CLOCK_MONOTONIC to get the wall clock's time.
std::uint64_t wall_offset(MonotonicNs now) {
  timespec wall{};
  ::clock_gettime(CLOCK_REALTIME, &wall);
  return static_cast<std::uint64_t>(wall.tv_sec) * 1'000'000'000ULL +
         static_cast<std::uint64_t>(wall.tv_nsec) - now;
}

/// Names of what has an address, for the other end of a span. An address of several pods (the host's) tells
/// them apart by port alone.
class Peers {
 public:
  explicit Peers(const std::vector<identity::Pod>& pods) {
    for (const identity::Pod& pod : pods) {
      if (pod.address.empty()) {
        continue;
      }
      const std::string host =
          pod.address.find(':') == std::string::npos ? pod.address : "[" + pod.address + "]";
      by_port_.emplace(host + ":" + std::to_string(pod.port), &pod);
      const auto [known, fresh] = by_host_.emplace(host, &pod);
      if (!fresh && known->second != nullptr &&
          (known->second->pod != pod.pod || known->second->ns != pod.ns)) {
        known->second = nullptr;
      }
    }
  }
  const identity::Pod* find(const std::string& address) const {
    if (const auto found = by_port_.find(address); found != by_port_.end()) {
      return found->second;
    }
    const auto found = by_host_.find(address.substr(0, address.rfind(':')));
    return found == by_host_.end() ? nullptr : found->second;
  }

 private:
  std::unordered_map<std::string, const identity::Pod*> by_port_;
  std::unordered_map<std::string, const identity::Pod*> by_host_;  // null: of several pods
};

}  // namespace

bool SpanExport::tick(const std::vector<identity::Pod>& pods, MonotonicNs now,
                      telemetry::PrometheusExporter* metrics) {
  auto taken = reader_.take(now);
  const std::string wrong = taken ? "" : taken.error().message;
  if (wrong != complaint_) {
    spdlog::warn("reading spans state=\"{}\"", wrong.empty() ? "works again" : wrong);
    complaint_ = wrong;
  }
  if (!taken || taken->empty()) {
    return false;
  }
  std::unordered_map<sample::CgroupId, const identity::Pod*> by_cgroup;
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id != 0) {
      by_cgroup.emplace(pod.cgroup_id, &pod);
    }
  }
  const std::uint64_t offset = wall_offset(SystemClock().now());
  const Peers peers(pods);
  std::vector<telemetry::ExportSpan> out;
  for (sample::Span& span : *taken) {
    const auto found = by_cgroup.find(span.cgroup);
    identity::Pod pod;
    pod.cgroup = "cgroup-" + std::to_string(span.cgroup);
    out.push_back({std::move(span), found == by_cgroup.end() ? pod : *found->second, 0, {}, {}});
    if (const identity::Pod* peer = peers.find(out.back().span.peer)) {
      out.back().peer_service = peer->service.empty() ? "" : peer->service + "." + peer->ns;
      out.back().peer_pod = peer->pod;
    }
    out.back().unix_start_ns = out.back().span.start + offset;
  }
  routes_.add(out, now);
  if (metrics != nullptr) {
    for (telemetry::ExportSpan& one : out) {
      one.route = routes_.route_of(one);
    }
    metrics->learn(out, exporter_ != nullptr);
  }
  if (exporter_ != nullptr) {
    exporter_->offer(std::move(out));
  }
  return true;
}

}  // namespace ballast::loop
