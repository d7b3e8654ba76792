// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "agent/kube/watch.h"

namespace ballast::kube {

/// Pods that have been asked to end. Kubernetes' own controller takes them out of the EndpointSlices for the
/// same reason a few milliseconds later: who mirrors slices learns it from them when istiod does, and what he
/// writes then comes after, by which istiod, that waits until it is quiet, tells proxies later than it would
/// without him. So he listens where the controller does, and hears there too what else changes of a pod.
/// Thread-safe.
class LeavingPods {
 public:
  /// `news(uid)` is told of each, and `changed(uid, pod)` of each other change of a pod, with its metadata as
  /// it is now; from a watch's thread. `client` must outlive this, and has to be stopped before this goes.
  LeavingPods(Client& client, std::function<void(const std::string& uid)> news,
              std::function<void(const std::string& uid, const Json& pod)> changed);
  LeavingPods(const LeavingPods&) = delete;
  LeavingPods& operator=(const LeavingPods&) = delete;

  /// Listens in these namespaces from now on, and in no others: a stream each of what changes there (metadata
  /// alone), for 64 of them. Of pods elsewhere the EndpointSlices tell.
  void listen(const std::set<std::string>& namespaces);
  /// Was this pod told of within the last minute? After it the slices have long said so.
  bool leaves(const std::string& uid, MonotonicNs now) const;
  /// The namespaces whose changes are heard of, each with a number that is another one for each time that its
  /// stream began, in whatever object of this class: what changed in between it does not tell.
  std::map<std::string, std::uint64_t> heard() const;
  /// Empty while all is well.
  std::string trouble() const;

 private:
  struct Stream {
    std::unique_ptr<Watch> watch;
    MonotonicNs begun = 0;
  };
  void take(const Json& pod);

  Client& client_;
  const std::function<void(const std::string&)> news_;
  const std::function<void(const std::string&, const Json&)> changed_;
  mutable std::mutex mutex_;
  std::map<std::string, MonotonicNs> told_;  ///< by uid
  // The last to be made, the first to go.
  std::map<std::string, Stream> watches_;       ///< by namespace
  std::vector<std::unique_ptr<Watch>> ending_;  ///< of namespaces that are not listened to any more
};

}  // namespace ballast::kube
