// SPDX-License-Identifier: Apache-2.0
#include "model/net/forecast_net.h"

#include <ATen/Parallel.h>
#include <fmt/format.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <numbers>
#include <random>

namespace ballast::net {
namespace {

void use_one_thread() {
  static std::once_flag once;
  std::call_once(once, [] { at::set_num_threads(1); });
}

/// A row a sample.
struct Tensors {
  at::Tensor theta;
  at::Tensor linear(const at::Tensor& x, std::size_t at, std::size_t inputs, std::size_t outputs) const {
    const auto begin = static_cast<std::int64_t>(at);
    const auto in = static_cast<std::int64_t>(inputs);
    const auto out = static_cast<std::int64_t>(outputs);
    const auto weights = theta.slice(0, begin, begin + in * out).view({out, in});
    return at::addmm(theta.slice(0, begin + in * out, begin + in * out + out), x, weights.t());
  }
  static at::Tensor tanh(const at::Tensor& x) { return at::tanh(x); }
  static at::Tensor dot(const at::Tensor& x, const at::Tensor& y) { return (x * y).sum(1); }
};

struct Batch {
  at::Tensor features, guesses, now, came;
};

Batch batch_of(std::span<const spec::ForecastSample> samples) {
  const auto n = static_cast<std::int64_t>(samples.size());
  Batch b{torch::empty({n, static_cast<std::int64_t>(spec::kForecastFeatures)}),
          torch::empty({n, static_cast<std::int64_t>(spec::kGuesses)}), torch::empty({n}), torch::empty({n})};
  for (std::size_t i = 0; i < samples.size(); ++i) {
    const auto& [input, came] = samples[i];
    std::ranges::copy(input.features, b.features.data_ptr<float>() + i * spec::kForecastFeatures);
    std::ranges::copy(input.guesses, b.guesses.data_ptr<float>() + i * spec::kGuesses);
    b.now.data_ptr<float>()[i] = input.now;
    b.came.data_ptr<float>()[i] = came;
  }
  return b;
}

Batch rows(const Batch& all, const at::Tensor& which) {
  return {all.features.index_select(0, which), all.guesses.index_select(0, which),
          all.now.index_select(0, which), all.came.index_select(0, which)};
}

at::Tensor tensor_of(std::span<const float> theta) {
  auto tensor = torch::empty({static_cast<std::int64_t>(theta.size())});
  std::memcpy(tensor.data_ptr<float>(), theta.data(), theta.size_bytes());
  return tensor;
}

std::vector<float> numbers_of(const at::Tensor& tensor) {
  const auto flat = tensor.detach().contiguous();
  return {flat.data_ptr<float>(), flat.data_ptr<float>() + flat.numel()};
}

at::Tensor loss_of(const at::Tensor& theta, const Batch& batch) {
  const at::Tensor change = spec::forecast_change(Tensors{theta}, batch.features, batch.guesses);
  return (batch.now + change - batch.came).square().mean();
}

ForecastLoss look(const at::Tensor& theta, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  return {loss_of(theta, batch).item<double>(), (batch.now - batch.came).square().mean().item<double>()};
}

}  // namespace

std::vector<float> forecasts(std::span<const float> theta, std::span<const spec::ForecastSample> samples) {
  use_one_thread();
  const torch::NoGradGuard no_grad;
  const Batch batch = batch_of(samples);
  return numbers_of(batch.now +
                    spec::forecast_change(Tensors{tensor_of(theta)}, batch.features, batch.guesses));
}

Result<ForecastGradient> forecast_gradient(std::span<const float> theta,
                                           std::span<const spec::ForecastSample> samples) {
  if (samples.empty() || theta.size() != spec::kForecastParameters) {
    return Error::failed(
        fmt::format("a gradient of the forecast wants samples and {} parameters, not {} and {}",
                    spec::kForecastParameters, samples.size(), theta.size()));
  }
  use_one_thread();
  const Batch batch = batch_of(samples);
  at::Tensor parameters = tensor_of(theta).requires_grad_();
  const at::Tensor loss = loss_of(parameters, batch);
  loss.backward();
  ForecastGradient gradient{numbers_of(parameters.grad()), look(parameters, batch)};
  const auto norm = parameters.grad().norm().item<double>();
  if (!std::isfinite(norm) || !std::isfinite(gradient.loss.loss)) {
    return Error::failed("the gradient of the forecast is not finite");
  }
  return gradient;
}

Result<std::vector<float>> fit_forecast(std::span<const spec::ForecastSample> samples,
                                        const FitOptions& options) {
  constexpr double kBeta1 = 0.9;
  constexpr double kBeta2 = 0.999;
  constexpr std::size_t kLook = 1000;
  constexpr std::size_t kFewest = 100;
  use_one_thread();
  if (samples.size() < kFewest) {
    return Error::failed(
        fmt::format("{} pairs are too few to learn from: {} are the least", samples.size(), kFewest));
  }
  const std::size_t batch = std::min(options.batch, samples.size() / 10);
  const Batch all = batch_of(samples);
  std::vector<std::int64_t> learned;
  std::vector<std::int64_t> held;
  // In blocks, so that the neighbours of a held-out sample are not learned from.
  const std::size_t block = std::min<std::size_t>(4096, samples.size() / 10);
  for (std::size_t i = 0; i < samples.size(); ++i) {
    (i / block % 10 == 9 ? held : learned).push_back(static_cast<std::int64_t>(i));
  }
  held = held.empty() ? learned : held;
  const Batch held_out = rows(all, torch::tensor(held));
  std::mt19937_64 random(options.seed);
  if (!options.initial.empty() && options.initial.size() != spec::kForecastParameters) {
    return Error::failed("parameters to go on from are of another shape");
  }
  at::Tensor theta =
      tensor_of(options.initial.empty() ? spec::initial_forecast(options.seed) : options.initial)
          .requires_grad_();
  at::Tensor mean = torch::zeros_like(theta).detach();
  at::Tensor square = torch::zeros_like(theta).detach();
  std::vector<float> best = numbers_of(theta);
  double least = look(theta, held_out).loss;
  for (std::size_t step = 1; step <= options.steps; ++step) {
    auto drawn = torch::empty({static_cast<std::int64_t>(batch)}, torch::kInt64);
    for (std::size_t i = 0; i < batch; ++i) {
      drawn.data_ptr<std::int64_t>()[i] = learned[random() % learned.size()];
    }
    const at::Tensor loss = loss_of(theta, rows(all, drawn));
    if (!std::isfinite(loss.item<double>())) {
      return Error::failed(fmt::format("the loss is not finite in step {}", step));
    }
    loss.backward();
    {
      const torch::NoGradGuard no_grad;
      const at::Tensor gradient = theta.grad();
      mean = kBeta1 * mean + (1 - kBeta1) * gradient;
      square = kBeta2 * square + (1 - kBeta2) * gradient * gradient;
      const double t = static_cast<double>(step);
      const double rate = options.learning_rate * 0.5 *
                          (1 + std::cos(std::numbers::pi * t / static_cast<double>(options.steps)));
      theta -=
          rate * (mean / (1 - std::pow(kBeta1, t))) / ((square / (1 - std::pow(kBeta2, t))).sqrt() + 1e-8);
      theta.grad().zero_();
    }
    if (step % kLook == 0 || step == options.steps) {
      const ForecastLoss now = look(theta, held_out);
      if (now.loss < least) {
        least = now.loss;
        best = numbers_of(theta);
      }
      if (options.report) {
        options.report(step, now);
      }
    }
  }
  return best;
}

}  // namespace ballast::net
