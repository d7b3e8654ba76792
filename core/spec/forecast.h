// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

/// The forecast of how slow a pod will be while the next weights are in force: what it sees, and the network,
/// which is defined once, for the forward pass (floats) and for the learner (LibTorch's tensors).
namespace ballast::spec {

/// Guesses at the log of a pod's speed while the next weights are in force, from its own past. The network
/// says how far each is believed in the place of "as now".
enum Guess : std::size_t {
  kMean = 0,  ///< its mean
  kOwn,       ///< what it was a period ago, by the period that fits the pod best
  kOwnTwice,  ///< two periods ago
  kShared,    ///< the same by the period that fits all of the service's pods best
  kSharedTwice,
  kGuesses
};

/// Rises with every change of the meaning of what is below; files of another version are refused.
inline constexpr unsigned kForecastVersion = 1;
inline constexpr std::size_t kForecastFeatures = 24;
inline constexpr std::size_t kForecastHidden = 32;

/// Of the flat parameters: W1 [hidden][features], b1, W2 [hidden][hidden], b2, W3 [guesses][hidden], b3.
inline constexpr std::size_t kForecastParameters = kForecastFeatures * kForecastHidden + kForecastHidden +
                                                   kForecastHidden * kForecastHidden + kForecastHidden +
                                                   kForecastHidden * kGuesses + kGuesses;
static_assert(kForecastParameters < 40'000);

using ForecastParameters = std::array<float, kForecastParameters>;

/// What the network sees of one pod in one tick. Logs are natural.
struct ForecastInput {
  std::array<float, kForecastFeatures> features{};
  std::array<float, kGuesses> guesses{};  ///< minus `now`
  float now = 0;                          ///< log of the speed as measured last
  float lowest = 0;                       ///< of the pod's past
  float highest = 0;
};

/// What was seen, and what came.
struct ForecastSample {
  ForecastInput input;
  float came = 0;  ///< log of the speed while that tick's weights were in force
};

/// How much the log of the speed will change: sum over guesses of tanh(z) times the guess, z from two hidden
/// layers of tanh. With a last layer of zeros exactly 0. `ops` has linear(x, offset of the layer's
/// parameters, inputs, outputs), tanh(x) and dot(x, y).
template <typename Ops, typename Value>
auto forecast_change(const Ops& ops, const Value& features, const Value& guesses) {
  constexpr std::size_t kSecond = kForecastFeatures * kForecastHidden + kForecastHidden;
  constexpr std::size_t kThird = kSecond + kForecastHidden * kForecastHidden + kForecastHidden;
  const Value first = ops.tanh(ops.linear(features, 0, kForecastFeatures, kForecastHidden));
  const Value second = ops.tanh(ops.linear(first, kSecond, kForecastHidden, kForecastHidden));
  return ops.dot(ops.tanh(ops.linear(second, kThird, kForecastHidden, kGuesses)), guesses);
}

/// What learning begins from: hidden layers at random by the seed, the last one 0, so that it says "as now".
std::vector<float> initial_forecast(std::uint64_t seed);

/// Log of the speed that `theta` (kForecastParameters) expects, within what the pod's past shows.
/// NaN where a parameter or a feature is not finite.
double forecast(std::span<const float> theta, const ForecastInput& input);

}  // namespace ballast::spec
