// SPDX-License-Identifier: Apache-2.0
//
// What one gradient of the actor-critic loss costs, and one look at the actor: by the hand-written passes of
// model/train and by LibTorch's autograd (model/net), for the network of core/spec.
//   build/release/bin/bench/bench_gradient
#include <benchmark/benchmark.h>

#include <cmath>
#include <random>
#include <vector>

#include "model/net/actor_critic.h"
#include "model/train/loss.h"

namespace {

using namespace ballast;

const train::Network kNetwork({spec::kObservation, spec::kHidden, spec::kActions, true, true});

spec::Rollout rollout_of(std::size_t steps) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal;
  spec::Rollout rollout;
  rollout.steps.resize(steps);
  for (auto& step : rollout.steps) {
    for (auto* observation : {&step.observation, &step.context}) {
      for (float& feature : *observation) {
        feature = normal(random);
      }
    }
    step.action = static_cast<std::uint8_t>(random() % spec::kActions);
    step.behaviour_probability = 0.2F;
    step.reward = normal(random);
  }
  return rollout;
}

void BM_GradientByHand(benchmark::State& state) {
  train::Batch batch;
  const spec::Rollout rollout = rollout_of(static_cast<std::size_t>(state.range(0)));
  for (const auto& step : rollout.steps) {
    batch.observations.insert(batch.observations.end(), step.observation.begin(), step.observation.end());
    batch.contexts.insert(batch.contexts.end(), step.context.begin(), step.context.end());
    batch.step.push_back(static_cast<std::uint32_t>(batch.actions.size()));
    batch.actions.push_back(step.action);
    batch.log_probability.push_back(std::log(step.behaviour_probability));
    batch.advantages.push_back(step.reward);
    batch.returns.push_back(step.reward);
  }
  const auto theta = kNetwork.initial(1, 1);
  std::vector<float> gradient(kNetwork.parameters());
  train::LossScratch scratch;
  for (auto _ : state) {
    benchmark::DoNotOptimize(
        train::actor_critic_loss(kNetwork, theta, batch, {0, 0.5, 0.01}, scratch, gradient));
  }
}
BENCHMARK(BM_GradientByHand)->Arg(20)->Arg(256)->Arg(2560);

void BM_GradientByAutograd(benchmark::State& state) {
  net::ActorCritic network;
  const std::vector<spec::Rollout> rollouts = {rollout_of(static_cast<std::size_t>(state.range(0)))};
  if (!network.load(kNetwork.to_spec(kNetwork.initial(1, 1))).ok()) {
    state.SkipWithError("another shape");
  }
  for (auto _ : state) {
    benchmark::DoNotOptimize(network.gradient(rollouts, {}));
  }
}
BENCHMARK(BM_GradientByAutograd)->Arg(20)->Arg(256)->Arg(2560);

void BM_ActorByHand(benchmark::State& state) {
  const spec::Rollout rollout = rollout_of(1);
  const auto theta = kNetwork.initial(1, 1);
  train::Cache cache;
  for (auto _ : state) {
    kNetwork.actor(theta, rollout.steps[0].observation, cache);
    benchmark::DoNotOptimize(cache.out.data());
  }
}
BENCHMARK(BM_ActorByHand);

void BM_ActorByTorch(benchmark::State& state) {
  const net::ActorCritic network;
  const spec::Rollout rollout = rollout_of(1);
  for (auto _ : state) {
    benchmark::DoNotOptimize(network.logits(std::span(&rollout.steps[0].observation, 1)));
  }
}
BENCHMARK(BM_ActorByTorch);

}  // namespace

BENCHMARK_MAIN();
