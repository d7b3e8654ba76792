// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "model/sync/network/global_network.h"

namespace ballast::sync {

/// The global networks of the strong rule's gains (core/spec/gains.h): one a service, by the rules of
/// GlobalNetwork, made at gains of 0 when its first worker asks. What they hold ends with the process: the
/// next leader's begin anew, of its higher epoch, while each node's gains go on acting until better ones are
/// learned. Thread-safe.
class GainsNetworks {
 public:
  /// Steps of RMSProp in gains: the first moves each by ten of them.
  static constexpr double kRate = 0.01;
  static constexpr std::size_t kMost = 4096;

  /// `rules`: of the other networks; size, bound, rate and clip are the gains' own.
  GainsNetworks(std::uint64_t epoch, const GlobalOptions& rules, std::size_t most = kMost);

  /// "NAMESPACE/NAME". Null where there are too many services, or that is no name of one.
  GlobalNetwork* open(const std::string& service);
  void tick();  ///< as of GlobalNetwork
  struct One {
    std::string service;
    GlobalStats stats;
    std::vector<float> gains;  ///< the newest
  };
  std::vector<One> stats() const;

 private:
  const std::uint64_t epoch_;
  GlobalOptions options_;
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::map<std::string, std::unique_ptr<GlobalNetwork>> networks_;
};

}  // namespace ballast::sync
