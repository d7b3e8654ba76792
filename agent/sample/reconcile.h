// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/sample/sample.h"
#include "agent/sample/sock_diag.h"
#include "core/base/result.h"

namespace ballast::sample {

/// true when a process of the cgroup is known to live in our network namespace, false when it is
/// known not to; none when that cannot be told (no process, or no right to look).
std::optional<bool> shares_network(const std::filesystem::path& cgroup_folder);

/// Holds the programs' count of open connections against the kernel's socket table: at the first
/// sample (connections that were open and silent before the programs came count too) and then
/// every `every_ns`. Between two dumps a count is the programs' plus the difference found last.
class Reconciler {
 public:
  using ConnectionRows = std::vector<std::pair<CgroupId, ballast_connection_value>>;
  struct Sources {
    std::function<Result<SocketTable>()> sockets;
    std::function<Result<ConnectionRows>()> connections;       ///< the BPF map, now
    std::function<std::optional<bool>(CgroupId)> our_network;  ///< see shares_network()
  };

  Reconciler(Sources sources, MonotonicNs every_ns) : sources_(std::move(sources)), every_ns_(every_ns) {}

  /// Corrects `connections` and fills `connection_drift` of the cgroups that the table speaks for.
  /// A cgroup whose connections came or went while the table was read keeps its last difference.
  /// So do all when the dump fails.
  void apply(Sample& sample);

  /// Why the last dump failed; empty when it did not.
  const std::string& complaint() const { return complaint_; }

 private:
  Status dump();

  Sources sources_;
  MonotonicNs every_ns_;
  std::optional<MonotonicNs> last_;
  std::unordered_map<CgroupId, std::int64_t> drift_;  ///< socket table less programs
  std::uint64_t failures_ = 0;
  std::string complaint_;
};

}  // namespace ballast::sample
