// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/meter.h"

#include <utility>

#include "agent/base/log.h"

namespace ballast::loop {

Result<Meter> Meter::create(const std::filesystem::path& bpffs, const std::filesystem::path& cgroup_root,
                            const Clock& clock) {
  auto opened = sample::PinnedMaps::open(bpffs);
  if (!opened) {
    return opened.error();
  }
  auto roots = sample::CgroupRoots::discover();
  if (!roots) {
    return roots.error();
  }
  roots->v2 = cgroup_root;
  auto tree = sample::CgroupTree::create(cgroup_root);
  if (!tree) {
    return tree.error();
  }
  const auto maps = std::make_shared<const sample::PinnedMaps>(std::move(*opened));
  sample::Sampler sampler([maps, &clock] { return sample::read_totals(*maps, clock); }, std::move(*roots));
  return Meter(maps, std::move(*tree), std::move(sampler));
}

Result<sample::Sample> Meter::sample(const std::vector<identity::Pod>& pods) {
  std::vector<sample::CgroupRef> wanted;
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id != 0 && !pod.pod.empty()) {
      wanted.push_back({pod.cgroup_id, pod.cgroup});
    }
  }
  auto taken = sampler_.sample(wanted);
  if (taken) {
    forget_gone(*taken);
  }
  return taken;
}

void Meter::forget_gone(const sample::Sample& sample) {
  if (!tree_.refresh()) {
    return;  // an unreadable tree says nothing about who is gone
  }
  std::map<sample::CgroupId, MonotonicNs> still_gone;
  for (const sample::CgroupSample& cgroup : sample.cgroups) {
    if (tree_.path_of(cgroup.id) != nullptr) {
      continue;
    }
    const auto known = gone_since_.find(cgroup.id);
    const MonotonicNs since = known == gone_since_.end() ? sample.taken : known->second;
    if (sample.taken - since < kForgetNs) {
      still_gone[cgroup.id] = since;
    } else if (const Status status = maps_->forget_cgroup(cgroup.id); !status) {
      spdlog::warn("gone cgroup not forgotten id={} reason=\"{}\"", cgroup.id, status.error().message);
    }
  }
  gone_since_ = std::move(still_gone);
}

}  // namespace ballast::loop
