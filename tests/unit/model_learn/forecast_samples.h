// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <random>
#include <vector>

#include "core/spec/forecast.h"

namespace ballast {

/// Pairs of pods of which those whose feature 0 is positive do what they did a period ago, the others stay as
/// they are.
class Habit {
 public:
  explicit Habit(unsigned seed) : random_(seed) {}
  std::vector<spec::ForecastSample> pairs(std::size_t n) {
    std::normal_distribution<float> normal(0, 0.4F);
    std::vector<spec::ForecastSample> all(n);
    for (auto& [input, came] : all) {
      for (float& feature : input.features) {
        feature = normal(random_);
      }
      for (float& guess : input.guesses) {
        guess = normal(random_);
      }
      input.now = normal(random_);
      input.lowest = -100;
      input.highest = 100;
      came = input.now + (input.features[0] > 0 ? input.guesses[spec::kShared] : 0);
    }
    return all;
  }

 private:
  std::mt19937 random_;
};

}  // namespace ballast
