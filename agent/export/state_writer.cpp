// SPDX-License-Identifier: Apache-2.0
#include "agent/export/state_writer.h"

#include <algorithm>
#include <cstring>
#include <string_view>
#include <unordered_set>

#include "agent/export/decision_row.h"
#include "agent/export/text_field.h"
#include "core/spec/unnamed.h"

namespace ballast::telemetry {

namespace {

template <std::size_t N>
std::string text_of(const char (&from)[N]) {
  return {from, ::strnlen(from, N)};
}

// One row that cannot be written must not keep the others from being written: the first error is
// told, the rest goes on.
void keep_first(Status& first, Status next) {
  if (first && !next) {
    first = std::move(next);
  }
}

}  // namespace

Result<StateWriter> StateWriter::create(sample::PinnedMaps maps) {
  StateWriter writer(std::move(maps));
  const auto identities = writer.maps_.identity();
  if (!identities) {
    return identities.error();
  }
  for (const auto& [id, value] : *identities) {
    writer.identities_[id] = {};
  }
  const auto decisions = writer.maps_.decisions();
  if (!decisions) {
    return decisions.error();
  }
  for (const sample::DecisionRow& row : *decisions) {
    writer.rows_[{text_of(row.key.ns), text_of(row.key.service)}][text_of(row.key.pod)] = {};
  }
  return writer;
}

Status StateWriter::write_identity(const std::vector<identity::Pod>& pods, MonotonicNs now) {
  Status status = ok();
  std::unordered_set<sample::CgroupId> present;
  present.reserve(pods.size());
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id == 0) {
      continue;
    }
    present.insert(pod.cgroup_id);
    const auto known = identities_.find(pod.cgroup_id);
    if (known != identities_.end() && known->second == pod) {
      continue;
    }
    ballast_identity_value value{};
    copy_text(value.cgroup, pod.cgroup);
    copy_text(value.pod, pod.pod);
    copy_text(value.ns, pod.ns);
    copy_text(value.container, pod.container);
    copy_text(value.service, pod.service);
    Status written = maps_.put_identity(pod.cgroup_id, value);
    if (written) {
      identities_[pod.cgroup_id] = pod;
    }
    keep_first(status, std::move(written));
  }
  std::vector<sample::CgroupId> gone;
  for (const auto& [id, pod] : identities_) {
    if (!present.contains(id)) {
      gone.push_back(id);
    }
  }
  for (const sample::CgroupId id : gone_.due(gone, now)) {
    Status erased = maps_.erase_identity(id);
    if (erased) {
      identities_.erase(id);
    }
    keep_first(status, std::move(erased));
  }
  return status;
}

Status StateWriter::write_decisions(const std::vector<turn::Decision>& services, const TickState& tick) {
  ++generation_;
  Status status = ok();
  std::size_t refreshed = 0;
  for (const turn::Decision& service : services) {
    keep_first(status, write_service(service, tick, refreshed));
  }
  keep_first(status, erase_gone());
  if (refreshed < kRefresh) {
    // All that was due is written: the next round begins with the next tick.
    refresh_before_ = generation_ + 1;
  }
  return status;
}

Status StateWriter::write_service(const turn::Decision& service, const TickState& tick,
                                  std::size_t& refreshed) {
  Status status = ok();
  const DecisionRows made(service, tick);
  const auto& endpoints = service.weights.endpoints();
  Rows& rows = rows_[service.weights.service()];
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    if (!spec::is_named(endpoints[i].id)) {
      continue;
    }
    Row& row = rows[endpoints[i].id.pod];
    row.seen_at = generation_;
    const decide::Proposal* const proposal = made.proposal(i);
    const Pressing pressing = {
        .weight = endpoints[i].weight,
        .in_force = i < service.in_force.size() ? service.in_force[i] : 0,
        .outcome = service.answer.outcome,
        .guard_reasons = endpoints[i].reasons,
        .action = static_cast<std::uint32_t>(proposal != nullptr ? proposal->action : spec::kKeep),
        .mode = service.weights.mode(),
        .neutral = service.weights.neutral(),
        .policy_epoch = tick.policy_epoch,
        .policy_version = tick.policy_version};
    const bool at_once = row.written_at == 0 || !(row.pressing == pressing);
    if (!at_once && (row.written_at >= refresh_before_ || refreshed >= kRefresh)) {
      continue;
    }
    refreshed += at_once ? 0 : 1;
    Status written = maps_.put_decision(made.row(i));
    if (written) {
      row.pressing = pressing;
      row.written_at = generation_;
    }
    keep_first(status, std::move(written));
  }
  return status;
}

Status StateWriter::erase_gone() {
  Status status = ok();
  for (auto service = rows_.begin(); service != rows_.end();) {
    Rows& rows = service->second;
    for (auto row = rows.begin(); row != rows.end();) {
      if (row->second.seen_at == generation_) {
        ++row;
        continue;
      }
      Status erased = maps_.erase_decision(decision_key(service->first, row->first));
      row = erased ? rows.erase(row) : std::next(row);
      keep_first(status, std::move(erased));
    }
    service = rows.empty() ? rows_.erase(service) : std::next(service);
  }
  return status;
}

Status StateWriter::heartbeat(const TickState& tick) {
  Result<ballast_meta> meta = maps_.meta();
  if (!meta) {
    return meta.error();
  }
  meta->heartbeat_ns = tick.now;
  meta->tick_ms = tick.tick_ms;
  meta->mode = static_cast<std::uint32_t>(tick.mode);
  meta->subscribers = static_cast<std::uint32_t>(tick.subscribers);
  meta->policy_epoch = tick.policy_epoch;
  meta->policy_version = tick.policy_version;
  meta->policy_crc32 = tick.policy_crc32;
  copy_text(meta->policy, tick.policy);
  copy_text(meta->sink, tick.sink);
  copy_text(meta->loop, tick.loop);
  copy_text(meta->leader, tick.leader);
  copy_sentence(meta->trouble, tick.trouble);
  return maps_.put_meta(*meta);
}

}  // namespace ballast::telemetry
