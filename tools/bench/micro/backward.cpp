// SPDX-License-Identifier: Apache-2.0
//
// What one gradient of twenty steps costs: the hand-written backward pass of model/train, and LibTorch's
// autograd (model/net). model_train_parity_test says that they are the same to 1e-5.
//   build/release/bin/bench/bench_backward
#include <benchmark/benchmark.h>

#include <cmath>
#include <span>
#include <vector>

#include "model/env/random.h"
#include "model/net/actor_critic.h"
#include "model/train/loss.h"

namespace {

using namespace ballast;

constexpr std::size_t kSteps = 20;

std::vector<spec::Step> steps_of(env::Random& random) {
  std::vector<spec::Step> steps(kSteps);
  for (auto& step : steps) {
    for (auto* each : {&step.observation, &step.context}) {
      for (float& value : *each) {
        value = static_cast<float>(random.normal());
      }
    }
    step.action = static_cast<std::uint8_t>(random.below(spec::kActions));
    step.behaviour_probability = 0.2F;
    step.reward = static_cast<float>(random.normal());
  }
  return steps;
}

const train::Network& network() {
  static const train::Network made({spec::kObservation, spec::kHidden, spec::kActions, true, true});
  return made;
}

void BM_HandWritten(benchmark::State& state) {
  env::Random random(4);
  const auto theta = network().initial(9, 1.0);
  train::Batch batch;
  for (const auto& step : steps_of(random)) {
    batch.observations.insert(batch.observations.end(), step.observation.begin(), step.observation.end());
    batch.contexts.insert(batch.contexts.end(), step.context.begin(), step.context.end());
    batch.step.push_back(static_cast<std::uint32_t>(batch.actions.size()));
    batch.actions.push_back(step.action);
    batch.log_probability.push_back(std::log(step.behaviour_probability));
    batch.returns.push_back(step.reward);
    batch.advantages.push_back(step.reward);
  }
  train::LossScratch scratch;
  std::vector<float> gradient(network().parameters());
  for (auto _ : state) {
    train::actor_critic_loss(network(), theta, batch, {0, 0.5, 0.01}, scratch, gradient);
    benchmark::DoNotOptimize(gradient.data());
  }
}
BENCHMARK(BM_HandWritten);

void BM_Autograd(benchmark::State& state) {
  env::Random random(4);
  spec::Rollout rollout;
  rollout.endpoint = "shop/web/web-0";
  rollout.steps = steps_of(random);
  net::ActorCritic torch;
  if (!torch.load(network().to_spec(network().initial(9, 1.0)))) {
    state.SkipWithError("parameters of another shape");
    return;
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(torch.gradient(std::span(&rollout, 1), {0.97, 0.01, kSteps}));
  }
}
BENCHMARK(BM_Autograd);

}  // namespace

BENCHMARK_MAIN();
