// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/meter.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>

#include "agent/sample/call_room.h"
#include "core/base/log.h"

namespace ballast::loop {

namespace {

sample::Reconciler make_reconciler(const std::shared_ptr<const sample::PinnedMaps>& maps,
                                   const std::shared_ptr<const sample::CgroupTree>& tree) {
  sample::Reconciler::Sources sources;
  // Opened at the first dump: a netlink that is refused is a dump that failed, and nothing else.
  sources.sockets =
      [diag = std::make_shared<std::optional<sample::SockDiag>>()]() -> Result<sample::SocketTable> {
    if (!*diag) {
      auto opened = sample::SockDiag::open();
      if (!opened) {
        return opened.error();
      }
      diag->emplace(std::move(*opened));
    }
    return (*diag)->read();
  };
  sources.connections = [maps] { return maps->connections(); };
  sources.our_network = [tree](sample::CgroupId id) -> std::optional<bool> {
    const std::string* path = tree->path_of(id);
    return path == nullptr ? std::nullopt : sample::shares_network(tree->root().string() + *path);
  };
  return sample::Reconciler(std::move(sources), Meter::kReconcileNs);
}

}  // namespace

Result<Meter> Meter::create(const std::filesystem::path& bpffs, const std::filesystem::path& cgroup_root,
                            const Clock& clock) {
  auto opened = sample::PinnedMaps::open(bpffs);
  if (!opened) {
    return opened.error();
  }
  auto roots = sample::CgroupRoots::discover(cgroup_root);
  if (!roots) {
    return roots.error();
  }
  auto walked = sample::CgroupTree::create(cgroup_root);
  if (!walked) {
    return walked.error();
  }
  const auto tree = std::make_shared<sample::CgroupTree>(std::move(*walked));
  const auto maps = std::make_shared<const sample::PinnedMaps>(std::move(*opened));
  const auto meta = maps->meta();
  if (!meta) {
    return meta.error();
  }
  const bool probed = (meta->flags & BALLAST_META_CPU) != 0;
  sample::Sampler sampler([maps, &clock] { return sample::read_totals(*maps, clock); }, std::move(*roots),
                          probed ? sample::CpuSource::kScheduler : sample::CpuSource::kCgroupFiles);
  return Meter(bpffs, maps, tree, std::move(sampler), make_reconciler(maps, tree));
}

void Meter::count_maps(sample::Sample& sample) {
  if (fills_.empty() || sample.taken - filled_ >= kReconcileNs) {
    fills_ = sample::map_fills(bpffs_);
    filled_ = sample.taken;
    const auto calls = std::ranges::find(fills_, BALLAST_MAP_CALLS, &sample::MapFill::name);
    if (calls != fills_.end() && calls->entries * 4 >= calls->max_entries * 3) {
      if (const Status status = sample::make_call_room(*maps_, sample.taken); !status) {
        spdlog::warn("crowding calls not forgotten reason=\"{}\"", status.error().message);
      }
    }
  }
  sample.maps = fills_;
}

void Meter::reconcile(sample::Sample& sample) {
  reconciler_.apply(sample);
  if (reconciler_.complaint() != complaint_) {
    complaint_ = reconciler_.complaint();
    spdlog::warn("reconciling connections state=\"{}\"", complaint_.empty() ? "works again" : complaint_);
  }
}

Result<sample::Sample> Meter::sample(const std::vector<identity::Pod>& pods) {
  std::vector<sample::CgroupRef> wanted;
  for (const identity::Pod& pod : pods) {
    if (pod.cgroup_id != 0 && !pod.pod.empty()) {
      wanted.push_back({pod.cgroup_id, pod.cgroup});
    }
  }
  find_nested(wanted);
  for (sample::CgroupRef& ref : wanted) {
    ref.nested = nested_[ref.path];
  }
  auto taken = sampler_.sample(wanted);
  if (taken) {
    forget_gone(*taken);
    reconcile(*taken);
    count_maps(*taken);
    if (taken->taken - calls_read_ >= kReadCallsNs) {
      if (auto calls = maps_->calls()) {
        taken->calls = std::move(*calls);
        calls_read_ = taken->taken;
      }
    }
  }
  return taken;
}

// Anew only when a cgroup or a pod came or went.
void Meter::find_nested(const std::vector<sample::CgroupRef>& wanted) {
  bool same = tree_->walks() == nested_walks_ && wanted.size() == nested_.size();
  for (std::size_t i = 0; same && i < wanted.size(); ++i) {
    same = nested_.contains(wanted[i].path);
  }
  if (same) {
    return;
  }
  std::vector<std::string> paths;
  for (const sample::CgroupRef& ref : wanted) {
    paths.push_back(ref.path);
  }
  nested_ = tree_->below(paths);
  nested_walks_ = tree_->walks();
}

void Meter::forget_gone(const sample::Sample& sample) {
  if (!tree_->refresh()) {
    return;  // an unreadable tree says nothing about who is gone
  }
  std::vector<sample::CgroupId> gone;
  for (const sample::CgroupSample& cgroup : sample.cgroups) {
    if (tree_->path_of(cgroup.id) == nullptr) {
      gone.push_back(cgroup.id);
    }
  }
  if (const Status status = maps_->forget_cgroups(gone_.due(gone, sample.taken)); !status) {
    spdlog::warn("gone cgroups not forgotten reason=\"{}\"", status.error().message);
  }
  if (sample.taken - calls_looked_at_ >= kLookAtCallsNs && sample.taken > kForgetCallsNs) {
    calls_looked_at_ = sample.taken;
    if (const Status status = maps_->forget_calls_before(sample.taken - kForgetCallsNs); !status) {
      spdlog::warn("silent calls not forgotten reason=\"{}\"", status.error().message);
    }
  }
}

}  // namespace ballast::loop
