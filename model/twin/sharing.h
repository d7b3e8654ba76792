// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <optional>

#include "core/spec/gains.h"

namespace ballast::twin {

/// The gains of a service that all its nodes learn together, and which version they are.
struct SharedGains {
  std::uint64_t epoch = 0, version = 0;
  spec::Gains gains{};
};

/// One worker's end of A3C: parameters in, gradients out. Functions that are not set: the
/// twin learns alone.
struct Sharing {
  /// What to act with now; nullopt: nobody answers, or none yet.
  std::function<std::optional<SharedGains>()> newest;
  /// The gradient of the loss at `at`, in deviations of the advantage, and the mean return beside the strong
  /// rule behind it.
  std::function<void(const SharedGains& at, const spec::Gains& gradient, double mean_return)> push;
};

}  // namespace ballast::twin
