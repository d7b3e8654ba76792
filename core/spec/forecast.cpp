// SPDX-License-Identifier: Apache-2.0
#include "core/spec/forecast.h"

#include <algorithm>
#include <cmath>
#include <random>
#include <vector>

namespace ballast::spec {
namespace {

constexpr std::size_t kWidest = std::max({kForecastFeatures, kForecastHidden, std::size_t{kGuesses}});
using Layer = std::array<float, kWidest>;

struct Floats {
  std::span<const float> theta;

  Layer linear(const Layer& x, std::size_t at, std::size_t inputs, std::size_t outputs) const {
    Layer y{};
    for (std::size_t o = 0; o < outputs; ++o) {
      const float* row = theta.data() + at + o * inputs;
      float sum = theta[at + outputs * inputs + o];
      for (std::size_t i = 0; i < inputs; ++i) {
        sum += row[i] * x[i];
      }
      y[o] = sum;
    }
    return y;
  }
  Layer tanh(Layer x) const {
    std::ranges::transform(x, x.begin(), [](float value) { return std::tanh(value); });
    return x;
  }
  float dot(const Layer& x, const Layer& y) const {
    float sum = 0;
    for (std::size_t i = 0; i < kWidest; ++i) {
      sum += x[i] * y[i];
    }
    return sum;
  }
};

}  // namespace

std::vector<float> initial_forecast(std::uint64_t seed) {
  std::mt19937_64 random(seed);
  std::vector<float> theta(kForecastParameters, 0);
  const auto fill = [&](std::size_t at, std::size_t inputs, std::size_t outputs) {
    const double width = std::sqrt(3.0 / static_cast<double>(inputs));
    for (std::size_t i = at; i < at + inputs * outputs; ++i) {
      theta[i] = static_cast<float>(width * (2 * static_cast<double>(random() >> 11) * 0x1.0p-53 - 1));
    }
    return at + inputs * outputs + outputs;
  };
  fill(fill(0, kForecastFeatures, kForecastHidden), kForecastHidden, kForecastHidden);
  return theta;
}

double forecast(std::span<const float> theta, const ForecastInput& input) {
  if (theta.size() != kForecastParameters) {
    return std::nan("");
  }
  Layer features{};
  Layer guesses{};
  std::ranges::copy(input.features, features.begin());
  std::ranges::copy(input.guesses, guesses.begin());
  const float change = forecast_change(Floats{theta}, features, guesses);
  // std::clamp would hide a NaN.
  return std::isfinite(change) ? std::clamp(input.now + change, input.lowest, input.highest) : change;
}

}  // namespace ballast::spec
