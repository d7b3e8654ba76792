// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/kernel_view.h"

#include <sys/stat.h>

#include <algorithm>

namespace ballast::lab {

namespace {

/// A v2 cgroup's id is the inode number of its folder.
std::uint64_t cgroup_id(const std::filesystem::path& folder) {
  struct stat info {};
  return ::stat(folder.c_str(), &info) == 0 ? static_cast<std::uint64_t>(info.st_ino) : 0;
}

spec::Latency to_latency(const ballast_latency& from) {
  spec::Latency out;
  out.count = from.count;
  out.sum_ns = from.sum_ns;
  std::copy(std::begin(from.buckets), std::end(from.buckets), out.buckets.begin());
  return out;
}

/// What came since; all of it when the counter went back.
spec::Latency since(const spec::Latency& now, const spec::Latency& before) {
  if (now.count < before.count) {
    return now;
  }
  spec::Latency out = now;
  out.count -= before.count;
  out.sum_ns -= before.sum_ns;
  for (std::size_t i = 0; i < out.buckets.size(); ++i) {
    out.buckets[i] -= std::min(before.buckets[i], out.buckets[i]);
  }
  return out;
}

}  // namespace

std::map<std::string, KernelPod> KernelView::read(const std::map<std::string, std::string>& cgroups) {
  std::map<std::string, KernelPod> pods;
  const auto maps = sample::PinnedMaps::open(bpffs_);
  if (!maps) {
    return pods;
  }
  const auto requests = maps->requests();
  const auto decisions = maps->decisions();
  const MonotonicNs now = clock_.now();
  const double elapsed_s = read_ns_ == 0 ? 0 : static_cast<double>(now - read_ns_) * 1e-9;
  read_ns_ = now;
  for (const auto& [pod, relative] : cgroups) {
    const auto id = cgroup_id(v2_root_ / relative.substr(1));
    KernelPod& out = pods[pod];
    if (requests) {
      for (const auto& row : *requests) {
        if (row.key.cgroup_id == id && row.key.role == BALLAST_ROLE_SERVER) {
          out.requests += row.value.requests;
          out.in_flight += row.value.in_flight;
          out.first_byte.add(to_latency(row.value.first_byte));
          out.last_byte.add(to_latency(row.value.last_byte));
        }
      }
    }
    Before& before = before_[pod];
    const auto grown = since(out.first_byte, before.first_byte);
    out.p50_ms = grown.quantile_ns(0.5) * 1e-6;
    out.p99_ms = grown.quantile_ns(0.99) * 1e-6;
    if (elapsed_s > 0 && out.requests >= before.requests) {
      out.rps = static_cast<double>(out.requests - before.requests) / elapsed_s;
    }
    before = {out.requests, out.first_byte};
    if (decisions) {
      for (const auto& row : *decisions) {
        if (pod == row.key.pod) {
          out.why = row.value.why;
        }
      }
    }
  }
  return pods;
}

}  // namespace ballast::lab
