// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "core/base/feature.h"
#include "core/base/result.h"

namespace ballast::kernel {

struct ProbeOptions {
  /// Pins live here. A bpffs is mounted at its mount point when there is none (needs CAP_SYS_ADMIN).
  std::filesystem::path bpffs = "/sys/fs/bpf/ballast";
  /// The cgroup v2 mount whose sockets are measured; found from /proc/self/mountinfo when empty.
  std::filesystem::path cgroup_root;
  /// Spans: one time slice (67 ms) in so many is sampled; 0: none.
  std::uint32_t span_every = 0;
  /// Where the verifier walks it. false: some 60 ns a packet more.
  bool parse_in_place = true;
};

/// The loaded, attached and pinned programs of one bpffs folder. One owner a folder: a second
/// load is refused naming the first one's pid. Links are pinned, so that measuring goes on while
/// ballastd is dead and no counter jumps at its restart; a restart adopts the maps and swaps the
/// programs in place. Destroying the object lets go of the folder and leaves the pins;
/// unload() takes everything out of the kernel.
class Probes {
 public:
  /// Errors: kPrivilege names the missing capability or kernel feature.
  static Result<Probes> load(const ProbeOptions& options);
  /// Removes all pins of a folder, hence all programs, whoever loaded them. Refused while a
  /// ballastd holds the folder.
  static Status unload(const std::filesystem::path& bpffs);

  Probes(Probes&&) noexcept;
  Probes& operator=(Probes&&) noexcept;
  Probes(const Probes&) = delete;
  Probes& operator=(const Probes&) = delete;
  ~Probes();

  std::uint32_t flags() const;  ///< BALLAST_META_* of the probes in force
  /// What was probed by loading and attaching it, in the order of `ballastctl status`.
  const std::vector<Feature>& features() const;
  /// true when the maps of an earlier run were taken over.
  bool adopted() const;
  const std::filesystem::path& cgroup_root() const;

 private:
  struct State;
  explicit Probes(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::kernel
