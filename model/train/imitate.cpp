// SPDX-License-Identifier: Apache-2.0
#include "model/train/imitate.h"

#include <algorithm>
#include <cmath>

#include "model/train/progress.h"

namespace ballast::train {
namespace {

constexpr std::size_t kMinibatch = 256;

struct Lessons {
  std::vector<float> inputs;
  std::vector<std::uint8_t> advice;
};

class Pupil {
 public:
  Pupil(const Network& network, std::vector<float> theta, const MakeEnvironment& make,
        const ImitateOptions& options)
      : network_(network),
        theta_(std::move(theta)),
        options_(options),
        optimiser_({Rule::kAdam, 0.99, 1e-8, 1.0}, network.parameters()),
        gradient_(network.parameters()),
        random_(env::Random::derive(options.seed, 21)) {
    for (std::size_t i = 0; i < std::max<std::size_t>(1, options.environments); ++i) {
      worlds_.push_back(make());
      begin(*worlds_.back());
    }
  }

  Result<std::vector<float>> learn() {
    while (steps_ < options_.steps) {
      Lessons lessons;
      for (std::size_t t = 0; t < options_.horizon; ++t) {
        for (auto& world : worlds_) {
          if (Status status = live(*world, lessons); !status.ok()) {
            return status.error();
          }
        }
      }
      for (std::size_t epoch = 0; epoch < options_.epochs; ++epoch) {
        if (Status status = study(lessons); !status.ok()) {
          return status.error();
        }
      }
    }
    return theta_;
  }

 private:
  void begin(env::Environment& world) {
    do {
      world.reset(random_.next());
    } while (world.agents() == 0);
  }

  /// One step by the pupil's own greedy choice; the advice is only written down.
  Status live(env::Environment& world, Lessons& lessons) {
    chosen_.clear();
    for (std::size_t agent = 0; agent < world.agents(); ++agent) {
      const auto advice = world.advice(agent);
      if (!advice) {
        return Error::usage("the environment " + world.spec().name + " gives no advice to imitate");
      }
      const auto seen = world.observation(agent);
      lessons.inputs.insert(lessons.inputs.end(), seen.begin(), seen.end());
      lessons.advice.push_back(static_cast<std::uint8_t>(*advice));
      chosen_.push_back(greedy(network_, theta_, seen, cache_));
    }
    ++steps_;
    if (world.step(chosen_).done()) {
      begin(world);
    }
    return ok();
  }

  Status study(const Lessons& lessons) {
    const std::size_t width = network_.shape().inputs;
    std::vector<std::size_t> order(lessons.advice.size());
    for (std::size_t i = 0; i < order.size(); ++i) {
      order[i] = i;
      std::swap(order[i], order[random_.below(i + 1)]);
    }
    const double done = static_cast<double>(steps_) / static_cast<double>(options_.steps);
    const double rate = options_.learning_rate * std::max(0.1, 1 - 0.9 * done);
    std::vector<float> inputs;
    std::vector<std::uint8_t> advice;
    for (std::size_t at = 0; at < order.size(); at += kMinibatch) {
      inputs.clear();
      advice.clear();
      for (std::size_t i = at; i < std::min(at + kMinibatch, order.size()); ++i) {
        const auto from = lessons.inputs.begin() + static_cast<std::ptrdiff_t>(order[i] * width);
        inputs.insert(inputs.end(), from, from + static_cast<std::ptrdiff_t>(width));
        advice.push_back(lessons.advice[order[i]]);
      }
      std::fill(gradient_.begin(), gradient_.end(), 0.0F);
      const double loss = cross_entropy(network_, theta_, inputs, advice, cache_, gradient_);
      if (!std::isfinite(loss) || !std::isfinite(optimiser_.step(theta_, gradient_, rate))) {
        return not_finite(steps_, 0);
      }
    }
    return ok();
  }

  const Network& network_;
  std::vector<float> theta_;
  ImitateOptions options_;
  Optimiser optimiser_;
  std::vector<float> gradient_;
  env::Random random_;
  Environments worlds_;
  std::uint64_t steps_ = 0;
  std::vector<std::size_t> chosen_;
  Cache cache_;
};

}  // namespace

double cross_entropy(const Network& network, std::span<const float> theta, std::span<const float> inputs,
                     std::span<const std::uint8_t> actions, Cache& cache, std::span<float> gradient) {
  network.actor(theta, inputs, cache);
  const std::size_t outputs = network.shape().outputs;
  const auto n = static_cast<double>(actions.size());
  std::vector<float> slope(actions.size() * outputs);
  double loss = 0;
  for (std::size_t row = 0; row < actions.size(); ++row) {
    const float* logits = cache.out.data() + row * outputs;
    const auto highest = static_cast<double>(*std::max_element(logits, logits + outputs));
    double sum = 0;
    for (std::size_t a = 0; a < outputs; ++a) {
      sum += std::exp(static_cast<double>(logits[a]) - highest);
    }
    for (std::size_t a = 0; a < outputs; ++a) {
      const double log_pi = static_cast<double>(logits[a]) - highest - std::log(sum);
      const bool meant = a == actions[row];
      loss -= meant ? log_pi / n : 0;
      slope[row * outputs + a] = static_cast<float>((std::exp(log_pi) - (meant ? 1 : 0)) / n);
    }
  }
  if (!gradient.empty()) {
    network.actor_back(theta, cache, slope, gradient);
  }
  return loss;
}

Result<std::vector<float>> imitate(const Network& network, std::vector<float> theta,
                                   const MakeEnvironment& make_environment, const ImitateOptions& options) {
  return Pupil(network, std::move(theta), make_environment, options).learn();
}

}  // namespace ballast::train
