// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <random>

namespace ballast {

/// Exponential back-off with full jitter over its upper half, so that a thousand workers do not
/// return to a restarted server in step.
class Backoff {
 public:
  Backoff(std::chrono::milliseconds first, std::chrono::milliseconds most)
      : first_(first), most_(most), ceiling_(first), random_(std::random_device{}()) {}

  /// How long to wait now: in [c/2, c], where the ceiling c doubles from `first` up to `most`.
  std::chrono::milliseconds next();
  /// After success: the next wait is short again.
  void reset() { ceiling_ = first_; }

 private:
  std::chrono::milliseconds first_, most_, ceiling_;
  std::mt19937 random_;
};

}  // namespace ballast
