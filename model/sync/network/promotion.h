// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "model/sync/network/global_network.h"

namespace ballast::sync {

struct PromotionOptions {
  /// Of the workers, those whose nodes act with new parameters first. 0: all take the newest at once.
  double share = 0;
  std::chrono::seconds window{60};  ///< that a trial lasts
  std::size_t reports = 30;         ///< of either side, fewer judge nothing
  /// A difference of the mean objectives counts beyond so many standard errors; during the window, where
  /// it is looked at often, beyond twice as many.
  double errors = 1.64;
};

struct PromotionStats {
  bool on = false;
  Version released;  ///< what all may act with
  bool trial = false;
  std::size_t canaries = 0;
  std::vector<std::string> canary_nodes;  ///< the first of them, for people
  std::uint64_t promoted = 0, returned = 0;
  double canary_objective = 0, rest_objective = 0;  ///< means of the trial
  std::size_t canary_reports = 0, rest_reports = 0;
};

/// Which parameters reach acting agents. A share of the workers acts with the newest, the others
/// with the released ones; both report their mean reward a step, over the same time and so under the same
/// load. The verdict is spec::standing()'s, as of `ballast-bench gate`: from the end of the window on the
/// newest are released once the bounds say that they pay better. Where they pay worse, or a tie is all that
/// five windows show, they are given up: the network goes back to the released ones. Not thread-safe.
///
/// While a trial runs the others' gradients are those of the released parameters, and soon too stale.
class Promotion {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Step { kNone, kPromoted, kReturned };

  /// `first` is released: what a checkpoint or a file gave was promoted before.
  Promotion(PromotionOptions options, std::shared_ptr<const Snapshot> first);

  bool on() const { return options_.share > 0; }
  /// Notes that the worker lives; what it shall act with, `newest` being the network's.
  std::shared_ptr<const Snapshot> parameters_for(const std::string& worker,
                                                 const std::shared_ptr<const Snapshot>& newest, Time now);
  /// Mean reward a step of the worker's last rollouts. Five a second count, so that nobody is heard for
  /// others.
  void report(const std::string& worker, Version acted, double objective, Time now);
  /// Begins and ends trials. After kReturned the network has to be given released()'s parameters, and
  /// given_back() to be told.
  Step tick(const std::shared_ptr<const Snapshot>& newest, Time now);
  const std::shared_ptr<const Snapshot>& released() const { return released_; }
  /// What the network holds after it was given released()'s parameters back.
  void given_back(std::shared_ptr<const Snapshot> snapshot) { released_ = std::move(snapshot); }
  PromotionStats stats() const;

 private:
  struct Side {
    std::size_t count = 0;
    double mean = 0, squares = 0;  // Welford's
    void add(double value);
    double error() const;  // of the mean, squared
  };
  void begin(const std::shared_ptr<const Snapshot>& newest, Time now);

  const PromotionOptions options_;
  std::shared_ptr<const Snapshot> released_;
  struct Worker {
    Time seen{}, reported{};
  };
  std::map<std::string, Worker> workers_;
  std::set<std::string> canaries_;
  bool trial_ = false;
  Version began_;  // the newest then
  Time since_{};
  Side canary_, rest_;
  std::uint64_t promoted_ = 0, returned_ = 0;
};

}  // namespace ballast::sync
