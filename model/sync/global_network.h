// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <compare>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/result.h"
#include "model/policy/parameters.h"
#include "model/spec/spec.h"

namespace ballast::sync {

/// Orders parameters: first by the leader that made them, then by the gradients applied.
struct Version {
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
  auto operator<=>(const Version&) const = default;
};

/// What a worker pushes.
struct Gradient {
  Version acted;  ///< the parameters at which it was taken
  std::uint32_t steps = 0;
  double norm = 0;            ///< L2, as the worker computed it
  std::vector<float> values;  ///< order of model/spec
};

/// In the order of the protocol's enum.
enum class Verdict {
  kAccepted,
  kShape,      ///< not spec::kParameters numbers
  kNotFinite,  ///< NaN or infinity
  kNorm,       ///< the numbers have another norm than the worker says
  kEpoch,      ///< taken at another leader's parameters
  kVersion,    ///< taken at a version that does not exist yet
  kStale,      ///< taken too many versions ago
};
inline constexpr std::size_t kVerdicts = 7;
const char* to_string(Verdict verdict);

/// Shared RMSProp without centring and without momentum (Mnih et al. 2016, section 4).
struct RmsProp {
  double learning_rate = 7e-4;
  double alpha = 0.99;    ///< decay of the mean square
  double epsilon = 1e-5;  ///< inside the root
};

struct GlobalOptions {
  RmsProp rms_prop;
  double clip_norm = 40;  ///< of one worker's gradient
  /// Versions that a gradient may lag behind. With N workers that never wait the lag settles
  /// near N - 1; A3C still learned at 63 and lost seeds at 255 in our CartPole runs.
  std::uint64_t staleness_limit = 64;
};

/// All that has to survive a restart.
struct GlobalState {
  policy::Parameters parameters;
  std::vector<float> mean_square;  ///< RMSProp's, one a parameter, shared by all workers

  bool operator==(const GlobalState&) const = default;
};

/// The global network of A3C without its doors: parameters, optimiser, and the judge of what
/// workers push. Thread-safe.
class GlobalNetwork {
 public:
  /// Fails when policy::check() refuses the parameters, or there is not one finite, non-negative
  /// mean square a parameter.
  static Result<std::unique_ptr<GlobalNetwork>> create(GlobalState state, const GlobalOptions& options);

  /// Applies the gradient and raises the version by one, or changes nothing and says why.
  Verdict push(const Gradient& gradient);

  Version version() const;
  GlobalState state() const;
  /// Bytes of the parameters file of the current version, and which that is.
  std::pair<Version, std::string> parameters() const;
  /// How often push() gave each verdict.
  std::array<std::uint64_t, kVerdicts> verdicts() const;

 private:
  GlobalNetwork(GlobalState state, const GlobalOptions& options);
  Verdict judge(const Gradient& gradient, double norm) const;  // REQUIRES mutex_

  const GlobalOptions options_;
  mutable std::mutex mutex_;
  GlobalState state_;
  mutable std::string serialized_;  // of state_; empty until somebody asks
  std::array<std::uint64_t, kVerdicts> verdicts_{};
};

}  // namespace ballast::sync
