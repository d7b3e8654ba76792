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
/// GlobalNetwork, made at gains of 0, or at what an earlier leader left, when its first worker asks.
/// Thread-safe.
class GainsNetworks {
 public:
  /// Steps of RMSProp in gains: the first moves each by ten of them.
  static constexpr double kRate = 0.01;
  static constexpr std::size_t kMost = 4096;
  /// Of state(): a ConfigMap holds 1 MB, with a third more for base64, and the checkpoint is in it too.
  static constexpr std::size_t kMostBytes = 400'000;
  static constexpr std::uint64_t kForgottenS =
      7 * 86'400;  ///< a service that no worker asked for is left out

  /// `rules`: of the other networks; size, bound, rate and clip are the gains' own.
  GainsNetworks(std::uint64_t epoch, const GlobalOptions& rules, std::size_t most = kMost);

  /// "NAMESPACE/NAME". Null where there are too many services, or that is no name of one.
  GlobalNetwork* open(const std::string& service);
  void tick();  ///< as of GlobalNetwork

  /// All that has to survive a restart, for restore(); JSON. Those that were asked for last come first, as
  /// many as fit into kMostBytes. Empty where there are none. `now_s`: since 1970.
  std::string state(std::uint64_t now_s) const;
  /// What an earlier leader's state() said, under the epoch of this one; nothing of it where any is not as
  /// state() writes it, and why. REQUIRES that nothing was opened yet.
  Status restore(const std::string& state);
  /// Made since the beginning, over all services: another number is worth another state().
  std::uint64_t versions() const;
  struct One {
    std::string service;
    GlobalStats stats;
    std::vector<float> gains;  ///< the newest
  };
  /// Of those that a worker asked for.
  std::vector<One> stats() const;

 private:
  struct Entry {
    std::unique_ptr<GlobalNetwork> network;
    bool asked = false;            ///< in this process
    std::uint64_t asked_at_s = 0;  ///< of an earlier one; since 1970
  };
  const std::uint64_t epoch_;
  GlobalOptions options_;
  const std::size_t most_;
  mutable std::mutex mutex_;
  std::map<std::string, Entry> networks_;
};

}  // namespace ballast::sync
