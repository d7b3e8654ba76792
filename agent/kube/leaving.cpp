// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/leaving.h"

#include <utility>

namespace ballast::kube {
namespace {

constexpr std::size_t kMostNamespaces = 64;
/// Short, so that a silence is noticed, and the end of one that is not wanted any more comes soon.
constexpr std::chrono::seconds kLength{5};
constexpr std::chrono::seconds kSilence{7};
constexpr MonotonicNs kKept = 60'000'000'000ULL;

}  // namespace

LeavingPods::LeavingPods(Client& client, std::function<void(const std::string& uid)> news,
                         std::function<void(const std::string& uid, const Json& pod)> changed)
    : client_(client), news_(std::move(news)), changed_(std::move(changed)) {}

void LeavingPods::listen(const std::set<std::string>& namespaces) {
  const std::lock_guard lock(mutex_);
  for (auto one = watches_.begin(); one != watches_.end();) {
    const auto now = one++;
    if (!namespaces.contains(now->first)) {
      now->second.watch->end();
      ending_.push_back(std::move(now->second.watch));
      watches_.erase(now);
    }
  }
  std::erase_if(ending_, [](const auto& watch) { return watch->ended(); });
  for (const std::string& ns : namespaces) {
    if (watches_.size() < kMostNamespaces && !watches_.contains(ns)) {
      Stream& stream = watches_[ns];
      stream.begun = SystemClock().now();
      stream.watch = std::make_unique<Watch>(
          client_,
          WatchOptions{.path = "/api/v1/namespaces/" + ns + "/pods",
                       .query = "",
                       .metadata_only = true,
                       .changes_only = true,
                       .prompt = true,
                       .length = kLength,
                       .silence = kSilence},
          WatchHandler{[this](const Json& pod) { take(pod); }, [](const std::string&) {}, [] {}});
    }
  }
}

void LeavingPods::take(const Json& pod) {
  const std::string uid = text_at(pod, {"metadata", "uid"});
  if (uid.empty()) {
    return;
  }
  if (text_at(pod, {"metadata", "deletionTimestamp"}).empty()) {
    changed_(uid, pod);
    return;
  }
  {
    const MonotonicNs now = SystemClock().now();
    const std::lock_guard lock(mutex_);
    std::erase_if(told_, [&](const auto& one) { return now - one.second > kKept; });
    if (!told_.try_emplace(uid, now).second) {
      return;
    }
  }
  news_(uid);
}

bool LeavingPods::leaves(const std::string& uid, MonotonicNs now) const {
  const std::lock_guard lock(mutex_);
  const auto found = told_.find(uid);
  return found != told_.end() && now < found->second + kKept;
}

std::map<std::string, std::uint64_t> LeavingPods::heard() const {
  const std::lock_guard lock(mutex_);
  std::map<std::string, std::uint64_t> out;
  for (const auto& [ns, stream] : watches_) {
    if (stream.watch->synced()) {
      out[ns] = stream.begun + stream.watch->lists();  // no two begin in one nanosecond, nor list so often
    }
  }
  return out;
}

std::string LeavingPods::trouble() const {
  const std::lock_guard lock(mutex_);
  for (const auto& [ns, stream] : watches_) {
    if (std::string said = stream.watch->trouble(); !said.empty()) {
      return said;
    }
  }
  return {};
}

}  // namespace ballast::kube
