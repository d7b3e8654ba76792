// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>

/// What a policy sees, what it may do and how it is paid: shapes, bounds and versions.
/// No Torch and no measuring here: the acting agent, the learner and the simulator share it.
namespace ballast::spec {

/// Rises with every change of the meaning or order of what is below; parameters of another
/// version are refused.
inline constexpr std::uint32_t kVersion = 1;

/// One endpoint's own features. Logs are natural. "median" is over the service's endpoints.
enum Feature : std::size_t {
  kLatency = 0,  ///< log(p50 of first byte / median)
  kTailLatency,  ///< log(p99 of first byte / median of p99)
  kInFlight,     ///< log((in flight + 1) / (median + 1))
  kRunQueue,     ///< wait / (on-CPU + wait), minus the median
  kQpsShare,     ///< log(qps / mean qps of the service)
  kUtilisation,  ///< CPU used / CPU it may use, minus the service's mean
  kLoad,         ///< the service's mean utilisation (same for all endpoints)
  kMemory,       ///< memory used / limit (0 where there is none)
  kErrors,       ///< share of 5xx responses in the window
  kTrend,        ///< log(p50 of the last tick / p50 of the longer window)
  kAge,          ///< log(1 + age of the sample in ticks)
  kPersistence,  ///< log(how long the differences between endpoints last / loop delay)
  kLoopDelay,    ///< log(loop delay in seconds)
  kLogWeight,    ///< the offset in force
  kSpeed,        ///< log(speed the scheduler shows / median)
  kPrior,        ///< log(prior / mean prior)
  kFeatures
};

/// Every feature is clipped to [-kFeatureBound, kFeatureBound]; NaN becomes 0 before that.
inline constexpr float kFeatureBound = 4.0F;

/// An endpoint's observation: own features, mean over the service, max over the service, log(N).
/// Layout: [own kFeatures][mean kFeatures][max kFeatures][log N].
inline constexpr std::size_t kObservation = 3 * kFeatures + 1;
using Observation = std::array<float, kObservation>;

/// Actions: what is added to the offset delta of the endpoint's log-weight.
inline constexpr float kStep = 0.05F;
inline constexpr std::size_t kActions = 5;
inline constexpr std::array<float, kActions> kActionStep = {-2 * kStep, -kStep, 0.0F, kStep, 2 * kStep};
inline constexpr std::size_t kKeep = 2;           ///< the action that changes nothing
inline constexpr float kMaxOffset = 0.69314718F;  ///< |delta| <= ln 2

/// Network: encoder kObservation-64-64 with ReLU shared by both heads; the actor head reads the
/// encoding of the endpoint, the critic that of the service context (own features = the mean).
inline constexpr std::size_t kHidden = 64;
inline constexpr std::size_t kParameters = kObservation * kHidden + kHidden +  // encoder layer 1
                                           kHidden * kHidden + kHidden +       // encoder layer 2
                                           kHidden * kActions + kActions +     // actor
                                           kHidden + 1;                        // critic
static_assert(kParameters < 25'000);

/// Order of the flat parameter vector: W1 [kHidden][kObservation], b1, W2 [kHidden][kHidden], b2,
/// Wpi [kActions][kHidden], bpi, Wv [kHidden], bv. Row-major, float32.

/// Rewards are clipped to [-kRewardBound, kRewardBound].
inline constexpr float kRewardBound = 5.0F;

/// Weights of the reward's terms; the configuration may change them.
struct RewardWeights {
  float p50 = 1.0F;
  float p99 = 0.5F;
  float errors = 10.0F;
  float imbalance = 0.5F;  ///< coefficient of variation of CPU and memory utilisation over the service
  float churn = 1.0F;      ///< sum of |delta log w| over the endpoints
  bool operator==(const RewardWeights&) const = default;

  /// `s` is an options::Schema (core/base/options.h).
  template <typename Schema>
  void declare(Schema& s) {
    s.section("reward");
    s.number("p50", p50, 0, 1000, "", "weight of the median response time");
    s.number("p99", p99, 0, 1000, "", "weight of the 99th percentile");
    s.number("errors", errors, 0, 1000, "", "weight of the error rate");
    s.number("imbalance", imbalance, 0, 1000, "", "weight of unequal CPU and memory utilisation");
    s.number("churn", churn, 0, 1000, "", "weight of changes of the weights");
  }
};

}  // namespace ballast::spec
