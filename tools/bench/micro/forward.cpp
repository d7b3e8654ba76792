// SPDX-License-Identifier: Apache-2.0
//
// What one decision costs: the hand-written forward passes for one endpoint.
//   build/release/bin/bench/bench_forward
#include "model/policy/forward.h"

#include <benchmark/benchmark.h>

#include <random>
#include <vector>

#include "core/spec/forecast.h"
#include "model/policy/parameters.h"

namespace {

void BM_ForwardOneEndpoint(benchmark::State& state) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0.0F, 0.3F);
  ballast::policy::Parameters parameters = ballast::policy::initial(1);
  for (float& value : parameters.theta) {
    value = normal(random);
  }
  const auto network = ballast::policy::ForwardNetwork::create(parameters);
  if (!network) {
    state.SkipWithError(network.error().message.c_str());
    return;
  }
  std::vector<ballast::spec::Observation> observations(256);
  for (auto& observation : observations) {
    for (float& feature : observation) {
      feature = normal(random);
    }
  }
  std::size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize((*network)->logits(observations[i++ % observations.size()]));
  }
}
BENCHMARK(BM_ForwardOneEndpoint);

void BM_ForecastOneEndpoint(benchmark::State& state) {
  std::mt19937_64 random(1);
  std::normal_distribution<float> normal(0.0F, 0.3F);
  const auto theta = ballast::spec::initial_forecast(1);
  std::vector<ballast::spec::ForecastInput> inputs(256);
  for (auto& input : inputs) {
    for (float& feature : input.features) {
      feature = normal(random);
    }
  }
  std::size_t i = 0;
  for (auto _ : state) {
    benchmark::DoNotOptimize(ballast::spec::forecast(theta, inputs[i++ % inputs.size()]));
  }
}
BENCHMARK(BM_ForecastOneEndpoint);

}  // namespace

BENCHMARK_MAIN();
