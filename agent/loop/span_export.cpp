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

}  // namespace

void SpanExport::tick(const std::vector<identity::Pod>& pods, MonotonicNs now) {
  auto taken = reader_.take(now);
  const std::string wrong = taken ? "" : taken.error().message;
  if (wrong != complaint_) {
    spdlog::warn("reading spans state=\"{}\"", wrong.empty() ? "works again" : wrong);
    complaint_ = wrong;
  }
  if (!taken || taken->empty()) {
    return;
  }
  std::unordered_map<sample::CgroupId, const identity::Pod*> by_cgroup;
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id != 0) {
      by_cgroup.emplace(pod.cgroup_id, &pod);
    }
  }
  const std::uint64_t offset = wall_offset(SystemClock().now());
  std::vector<telemetry::ExportSpan> out;
  for (sample::Span& span : *taken) {
    const auto found = by_cgroup.find(span.cgroup);
    identity::Pod pod;
    pod.cgroup = "cgroup-" + std::to_string(span.cgroup);
    out.push_back({std::move(span), found == by_cgroup.end() ? pod : *found->second, 0});
    out.back().unix_start_ns = out.back().span.start + offset;
  }
  exporter_->offer(std::move(out));
}

}  // namespace ballast::loop
