// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "agent/sample/maps.h"
#include "core/base/clock.h"

namespace ballast::lab {

/// What the kernel has measured for one pod, and what Ballast decided.
struct KernelPod {
  std::uint64_t requests = 0;  ///< since the maps were made
  std::int64_t in_flight = 0;
  spec::Latency first_byte;  ///< totals
  spec::Latency last_byte;
  double rps = 0;     ///< since the reading before
  double p50_ms = 0;  ///< first byte, since the reading before
  double p99_ms = 0;
  std::string why;
};

/// Reads the pinned maps beside ballastd, as ballastctl does: also while ballastd is dead.
class KernelView {
 public:
  KernelView(std::filesystem::path bpffs, std::filesystem::path v2_root)
      : bpffs_(std::move(bpffs)), v2_root_(std::move(v2_root)) {}

  /// By pod; `cgroups` gives each pod's path relative to the v2 root. Empty while there are no maps.
  std::map<std::string, KernelPod> read(const std::map<std::string, std::string>& cgroups);

 private:
  struct Before {
    std::uint64_t requests = 0;
    spec::Latency first_byte;
  };
  std::filesystem::path bpffs_;
  std::filesystem::path v2_root_;
  SystemClock clock_;
  MonotonicNs read_ns_ = 0;
  std::map<std::string, Before> before_;
};

}  // namespace ballast::lab
