// SPDX-License-Identifier: Apache-2.0
#include "model/train/optimiser.h"

#include <algorithm>
#include <cmath>

namespace ballast::train {
namespace {

constexpr float kBeta1 = 0.9F;
constexpr float kBeta2 = 0.999F;

double norm_of(std::span<const float> gradient) {
  // Float sums of 64 first, so that the loop is not one long chain of conversions.
  double sum = 0;
  for (std::size_t at = 0; at < gradient.size(); at += 64) {
    float part = 0;
    for (std::size_t i = at; i < std::min(at + 64, gradient.size()); ++i) {
      part += gradient[i] * gradient[i];
    }
    sum += static_cast<double>(part);
  }
  return std::sqrt(sum);
}

}  // namespace

Optimiser::Optimiser(const OptimiserOptions& options, std::size_t parameters) : options_(options) {
  state_.square.assign(parameters, 0.0F);
  if (options.rule == Rule::kAdam) {
    state_.mean.assign(parameters, 0.0F);
  }
}

double Optimiser::step(std::span<float> theta, std::span<float> gradient, double learning_rate) {
  const double norm = norm_of(gradient);
  if (!std::isfinite(norm)) {
    return norm;
  }
  const bool clip = options_.clip_norm > 0 && norm > options_.clip_norm;
  const auto scale = static_cast<float>(clip ? options_.clip_norm / norm : 1.0);
  state_.steps += 1;
  float* __restrict t = theta.data();
  float* __restrict square = state_.square.data();
  const float* __restrict g = gradient.data();
  if (options_.rule == Rule::kRmsProp) {
    const auto alpha = static_cast<float>(options_.alpha);
    const auto epsilon = static_cast<float>(options_.epsilon);
    const auto rate = static_cast<float>(learning_rate);
    for (std::size_t i = 0; i < theta.size(); ++i) {
      const float slope = g[i] * scale;
      square[i] = alpha * square[i] + (1 - alpha) * slope * slope;
      t[i] -= rate * slope / std::sqrt(square[i] + epsilon);
    }
    return norm;
  }
  const double correction1 = 1 - std::pow(static_cast<double>(kBeta1), state_.steps);
  const double correction2 = 1 - std::pow(static_cast<double>(kBeta2), state_.steps);
  const auto rate = static_cast<float>(learning_rate / correction1);
  const auto root = static_cast<float>(1 / std::sqrt(correction2));
  const auto epsilon = static_cast<float>(options_.epsilon);
  float* __restrict mean = state_.mean.data();
  for (std::size_t i = 0; i < theta.size(); ++i) {
    const float slope = g[i] * scale;
    mean[i] = kBeta1 * mean[i] + (1 - kBeta1) * slope;
    square[i] = kBeta2 * square[i] + (1 - kBeta2) * slope * slope;
    t[i] -= rate * mean[i] / (std::sqrt(square[i]) * root + epsilon);
  }
  return norm;
}

}  // namespace ballast::train
