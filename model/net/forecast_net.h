// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "core/base/result.h"
#include "core/spec/forecast.h"

/// The network of core/spec/forecast.h on LibTorch's autograd, for learning: the very template that the
/// forward pass is made from. Torch runs in the caller's thread and in no other.
namespace ballast::net {

/// Of one batch, at the theta that the gradient was taken at.
struct ForecastLoss {
  double loss = 0;    ///< mean square of forecast - came
  double as_now = 0;  ///< of now - came
};

struct ForecastGradient {
  std::vector<float> flat;  ///< d loss / d theta
  ForecastLoss loss;
};

/// Forecasts, in the order of the samples; without the bounds by what the pod's past shows.
std::vector<float> forecasts(std::span<const float> theta, std::span<const spec::ForecastSample> samples);

/// Mean square of forecast - came. Fails on no sample, another count of parameters, numbers that are not
/// finite.
Result<ForecastGradient> forecast_gradient(std::span<const float> theta,
                                           std::span<const spec::ForecastSample> samples);

/// Adam (Kingma, Ba 2015) over mini-batches drawn by the seed; every tenth sample is held out.
struct FitOptions {
  std::uint64_t seed = 1;
  std::size_t steps = 20'000;
  std::size_t batch = 512;
  double learning_rate = 2e-3;      ///< falls to 0 in a cosine
  std::vector<float> initial = {};  ///< goes on from these parameters; empty: from initial_forecast(seed)
  /// Called with the held-out loss now and then.
  std::function<void(std::size_t step, const ForecastLoss& held_out)> report = {};
};

/// Parameters of the least held-out loss seen. A loss that is not finite ends it with an error that says the
/// step; the same samples and options give the same bytes on the same machine.
Result<std::vector<float>> fit_forecast(std::span<const spec::ForecastSample> samples,
                                        const FitOptions& options);

}  // namespace ballast::net
