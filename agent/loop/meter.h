// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <vector>

#include "agent/base/clock.h"
#include "agent/base/result.h"
#include "agent/identity/identity.h"
#include "agent/sample/cgroup_tree.h"
#include "agent/sample/maps.h"
#include "agent/sample/sampler.h"

namespace ballast::loop {

/// Reads the pinned maps once a tick, and keeps them from filling up: what belongs to a cgroup that
/// is gone is taken out after kForgetNs. Until then its last figures can still be read.
class Meter {
 public:
  static constexpr MonotonicNs kForgetNs = 300'000'000'000ULL;

  /// `cgroup_root` is the v2 mount that is measured. `clock` must outlive the meter.
  static Result<Meter> create(const std::filesystem::path& bpffs, const std::filesystem::path& cgroup_root,
                              const Clock& clock);
  /// The containers of `pods` get the figures of their own files too.
  Result<sample::Sample> sample(const std::vector<identity::Pod>& pods);

 private:
  Meter(std::shared_ptr<const sample::PinnedMaps> maps, sample::CgroupTree tree, sample::Sampler sampler)
      : maps_(std::move(maps)), tree_(std::move(tree)), sampler_(std::move(sampler)) {}
  void forget_gone(const sample::Sample& sample);

  std::shared_ptr<const sample::PinnedMaps> maps_;
  sample::CgroupTree tree_;
  sample::Sampler sampler_;
  std::map<sample::CgroupId, MonotonicNs> gone_since_;
};

}  // namespace ballast::loop
