// SPDX-License-Identifier: Apache-2.0
#include "model/policy/forward.h"

#include <algorithm>

namespace ballast::policy {

namespace {

template <std::size_t kIn>
void dense_relu(const std::array<std::array<float, spec::kHidden>, kIn>& weights,
                const std::array<float, spec::kHidden>& bias, const float* __restrict in,
                float* __restrict out) {
  // Half the outputs at a time: 32 sums stay in the registers of the baseline instruction set.
  constexpr std::size_t kBlock = spec::kHidden / 2;
  for (std::size_t block = 0; block < spec::kHidden; block += kBlock) {
    alignas(64) std::array<float, kBlock> sum;
    for (std::size_t j = 0; j < kBlock; ++j) {
      sum[j] = bias[block + j];
    }
    for (std::size_t i = 0; i < kIn; ++i) {
      const float x = in[i];
      const float* __restrict row = weights[i].data() + block;
      for (std::size_t j = 0; j < kBlock; ++j) {
        sum[j] += x * row[j];
      }
    }
    for (std::size_t j = 0; j < kBlock; ++j) {
      // Written so that a NaN stays one: it must reach the caller's check.
      out[block + j] = sum[j] < 0.0F ? 0.0F : sum[j];
    }
  }
}

}  // namespace

Result<std::shared_ptr<const ForwardNetwork>> ForwardNetwork::create(const Parameters& parameters) {
  if (Status status = check(parameters); !status.ok()) {
    return status.error();
  }
  return std::shared_ptr<const ForwardNetwork>(new ForwardNetwork(parameters));
}

ForwardNetwork::ForwardNetwork(const Parameters& parameters)
    : epoch_(parameters.epoch), version_(parameters.version) {
  const float* at = parameters.theta.data();
  const auto take = [&at](std::size_t rows, std::size_t columns, auto&& put) {
    for (std::size_t row = 0; row < rows; ++row) {
      for (std::size_t column = 0; column < columns; ++column) {
        put(row, column, *at++);
      }
    }
  };
  take(spec::kHidden, spec::kObservation, [this](auto out, auto in, float v) { w1_[in][out] = v; });
  take(1, spec::kHidden, [this](auto, auto out, float v) { b1_[out] = v; });
  take(spec::kHidden, spec::kHidden, [this](auto out, auto in, float v) { w2_[in][out] = v; });
  take(1, spec::kHidden, [this](auto, auto out, float v) { b2_[out] = v; });
  take(spec::kActions, spec::kHidden, [this](auto out, auto in, float v) { actor_[in][out] = v; });
  take(1, spec::kActions, [this](auto, auto out, float v) { actor_bias_[out] = v; });
  take(1, spec::kHidden, [this](auto, auto in, float v) { critic_[in] = v; });
  critic_bias_ = *at;
}

void ForwardNetwork::encode(const spec::Observation& observation, Hidden& out) const {
  alignas(64) Hidden first;
  dense_relu(w1_, b1_, observation.data(), first.data());
  dense_relu(w2_, b2_, first.data(), out.data());
}

std::array<float, spec::kActions> ForwardNetwork::logits(const spec::Observation& observation) const {
  alignas(64) Hidden hidden;
  encode(observation, hidden);
  alignas(64) std::array<float, kActorLanes> sum = actor_bias_;
  for (std::size_t i = 0; i < spec::kHidden; ++i) {
    for (std::size_t j = 0; j < kActorLanes; ++j) {
      sum[j] += hidden[i] * actor_[i][j];
    }
  }
  std::array<float, spec::kActions> out;
  std::copy_n(sum.begin(), spec::kActions, out.begin());
  return out;
}

float ForwardNetwork::value(const spec::Observation& context) const {
  alignas(64) Hidden hidden;
  encode(context, hidden);
  float sum = critic_bias_;
  for (std::size_t i = 0; i < spec::kHidden; ++i) {
    sum += hidden[i] * critic_[i];
  }
  return sum;
}

}  // namespace ballast::policy
