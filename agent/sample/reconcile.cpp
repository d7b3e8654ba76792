// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/reconcile.h"

#include <sys/stat.h>

#include <algorithm>
#include <fstream>

namespace ballast::sample {

namespace {

/// Moves whenever a connection came or went.
std::uint64_t movements(const ballast_connection_value& row) {
  return row.accepted + row.connected + row.closed + row.adopted;
}

}  // namespace

std::optional<bool> shares_network(const std::filesystem::path& cgroup_folder) {
  struct stat ours {};
  struct stat theirs {};
  std::ifstream processes(cgroup_folder / "cgroup.procs");
  std::string pid;
  if (!std::getline(processes, pid) || ::stat("/proc/self/ns/net", &ours) != 0 ||
      ::stat(("/proc/" + pid + "/ns/net").c_str(), &theirs) != 0) {
    return std::nullopt;
  }
  return ours.st_ino == theirs.st_ino && ours.st_dev == theirs.st_dev;
}

Status Reconciler::dump() {
  const auto before = sources_.connections();
  if (!before) {
    return before.error();
  }
  const auto table = sources_.sockets();
  if (!table) {
    return table.error();
  }
  const auto after = sources_.connections();
  if (!after) {
    return after.error();
  }
  std::unordered_map<CgroupId, ballast_connection_value> counted(before->begin(), before->end());
  for (const auto& [id, row] : *after) {
    if (movements(row) != movements(counted[id])) {
      counted.erase(id);
    }
  }
  for (const auto& [id, sockets] : table->cgroups) {
    if (std::ranges::none_of(*after, [&, cgroup = id](const auto& row) { return row.first == cgroup; })) {
      counted.try_emplace(id);  // the programs know nothing of it yet
    }
  }
  for (const auto& [id, row] : counted) {
    const auto found = table->cgroups.find(id);
    if (found != table->cgroups.end()) {
      drift_[id] = found->second.open - row.open;
    } else if (sources_.our_network(id) == true) {
      drift_[id] = -row.open;
    } else {
      drift_.erase(id);  // its sockets are in a table that we do not see
    }
  }
  return ok();
}

void Reconciler::apply(Sample& sample) {
  if (!last_ || sample.taken - *last_ >= every_ns_) {
    last_ = sample.taken;
    const Status done = dump();
    failures_ += done ? 0 : 1;
    complaint_ = done ? "" : done.error().message;
  }
  sample.reconcile_failures = failures_;
  std::unordered_map<CgroupId, std::int64_t> alive;
  for (CgroupSample& cgroup : sample.cgroups) {
    const auto drift = drift_.find(cgroup.id);
    if (drift != drift_.end()) {
      alive.insert(*drift);
      cgroup.connection_drift = drift->second;
      cgroup.connections = std::max<std::int64_t>(0, cgroup.connections + drift->second);
    }
  }
  drift_ = std::move(alive);
}

}  // namespace ballast::sample
