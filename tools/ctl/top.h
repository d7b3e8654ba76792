// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <filesystem>
#include <map>
#include <string>

#include "tools/ctl/view.h"

namespace ballast::ctl {

/// The counters that `top` subtracts, at one moment.
struct TopSample {
  MonotonicNs taken = 0;
  struct Cgroup {
    Name name;
    bool serves = false;  ///< requests arrived on its sockets
    std::uint64_t responses = 0;
    std::uint64_t requests = 0;
    std::uint64_t failed = 0;  ///< sample::Outcomes: answered so, given up, or without an answer
    std::int64_t in_flight = 0;
    std::uint64_t on_cpu_ns = 0;
    spec::Latency first_byte;
  };
  std::map<sample::CgroupId, Cgroup> cgroups;
};

Result<TopSample> top_sample(View& view);
/// One row a serving cgroup and one an endpoint that is not on this node; rates over the time
/// between the samples. Counters that went back count from zero.
Result<Report> top_report(View& view, const TopSample& before, const TopSample& now,
                          const std::string& target, std::size_t width);

/// Live on a terminal until q; else prints one table of the coming second.
Status top(const std::filesystem::path& bpffs, const std::string& target, bool json);

}  // namespace ballast::ctl
