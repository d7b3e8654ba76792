// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/identity/identity.h"
#include "agent/sample/cgroup_tree.h"
#include "agent/sample/gone.h"
#include "agent/sample/maps.h"
#include "agent/sample/reconcile.h"
#include "agent/sample/sampler.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace ballast::loop {

/// Reads the pinned maps once a tick, and keeps them from filling up: what belongs to a cgroup that
/// is gone is taken out after a while (sample::GoneCgroups). Connections are held against netlink's socket
/// table every kReconcileNs, and the maps' entries counted; without netlink the rest goes on.
class Meter {
 public:
  static constexpr MonotonicNs kReconcileNs = 10'000'000'000ULL;
  static constexpr MonotonicNs kReadCallsNs = 1'000'000'000ULL;
  static constexpr MonotonicNs kLookAtCallsNs = 300'000'000'000ULL;
  static constexpr MonotonicNs kForgetCallsNs = 3600'000'000'000ULL;  ///< a caller's edge to a silent peer

  /// `cgroup_root` is the v2 mount that is measured. `clock` must outlive the meter.
  static Result<Meter> create(const std::filesystem::path& bpffs, const std::filesystem::path& cgroup_root,
                              const Clock& clock);
  /// The containers of `pods` get the figures of their own files and of the cgroups below them too.
  Result<sample::Sample> sample(const std::vector<identity::Pod>& pods);

 private:
  Meter(std::filesystem::path bpffs, std::shared_ptr<const sample::PinnedMaps> maps,
        std::shared_ptr<sample::CgroupTree> tree, sample::Sampler sampler, sample::Reconciler reconciler)
      : bpffs_(std::move(bpffs)),
        maps_(std::move(maps)),
        tree_(std::move(tree)),
        sampler_(std::move(sampler)),
        reconciler_(std::move(reconciler)) {}
  void find_nested(const std::vector<sample::CgroupRef>& wanted);
  void forget_gone(const sample::Sample& sample);
  void reconcile(sample::Sample& sample);
  void count_maps(sample::Sample& sample);

  std::filesystem::path bpffs_;
  std::shared_ptr<const sample::PinnedMaps> maps_;
  std::shared_ptr<sample::CgroupTree> tree_;  ///< the reconciler looks into it too
  sample::Sampler sampler_;
  sample::Reconciler reconciler_;
  MonotonicNs calls_looked_at_ = 0;
  MonotonicNs calls_read_ = 0;
  std::string complaint_;  ///< the reconciler's, as logged last
  sample::GoneCgroups gone_;
  std::vector<sample::MapFill> fills_;
  MonotonicNs filled_ = 0;
  std::map<std::string, std::vector<sample::CgroupId>> nested_;  ///< by the path of a wanted cgroup
  std::size_t nested_walks_ = 0;                                 ///< tree_.walks() that nested_ is of
};

}  // namespace ballast::loop
