// SPDX-License-Identifier: Apache-2.0
#include "model/train/network.h"

#include <algorithm>
#include <cmath>

#include "model/env/random.h"
#include "model/train/kernels.h"

namespace ballast::train {
namespace {

void relu(std::vector<float>& values, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    // Written so that a NaN stays one: it must reach the check of the gradient.
    values[i] = values[i] < 0.0F ? 0.0F : values[i];
  }
}

void relu_back(const std::vector<float>& active, std::vector<float>& slope, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) {
    slope[i] = active[i] > 0.0F ? slope[i] : 0.0F;
  }
}

void grow(std::vector<float>& buffer, std::size_t size) {
  if (buffer.size() < size) {
    buffer.resize(size);
  }
}

}  // namespace

Network::Network(const Shape& shape) : shape_(shape) {
  actor_ = place(parameters_, shape.outputs, nullptr);
  if (shape.critic) {
    critic_ = place(parameters_, 1, shape.shared ? &actor_ : nullptr);
  }
}

Network::Tower Network::place(std::size_t& at, std::size_t outputs, const Tower* encoder) const {
  const auto take = [&at](std::size_t count) {
    const std::size_t begin = at;
    at += count;
    return begin;
  };
  const std::size_t h = shape_.hidden;
  Tower tower;
  if (encoder != nullptr) {
    tower = *encoder;
  } else {
    tower.w1 = take(shape_.inputs * h);
    tower.b1 = take(h);
    tower.w2 = take(h * h);
    tower.b2 = take(h);
  }
  tower.outputs = outputs;
  tower.head = take(h * outputs);
  tower.bias = take(outputs);
  return tower;
}

std::vector<float> Network::initial(std::uint64_t seed, double head_scale) const {
  std::vector<float> theta(parameters_, 0.0F);
  env::Random random(seed);
  const auto fill = [&](std::size_t at, std::size_t fan_in, std::size_t fan_out) {
    const double sigma = std::sqrt(2.0 / static_cast<double>(fan_in));
    for (std::size_t i = 0; i < fan_in * fan_out; ++i) {
      theta[at + i] = static_cast<float>(sigma * random.normal());
    }
  };
  const auto tower = [&](const Tower& t, bool encoder) {
    if (encoder) {
      fill(t.w1, shape_.inputs, shape_.hidden);
      fill(t.w2, shape_.hidden, shape_.hidden);
    }
    const double bound = head_scale / std::sqrt(static_cast<double>(shape_.hidden));
    for (std::size_t i = 0; i < shape_.hidden * t.outputs; ++i) {
      theta[t.head + i] = static_cast<float>(random.uniform(-bound, bound));
    }
  };
  tower(actor_, true);
  if (shape_.critic) {
    tower(critic_, !shape_.shared);
  }
  return theta;
}

void Network::forward(const Tower& tower, std::span<const float> theta, std::span<const float> inputs,
                      Cache& cache) const {
  const std::size_t h = shape_.hidden;
  const std::size_t rows = inputs.size() / shape_.inputs;
  cache.rows = rows;
  cache.input.assign(inputs.begin(), inputs.end());
  grow(cache.first, rows * h);
  grow(cache.second, rows * h);
  cache.out.resize(rows * tower.outputs);
  const float* t = theta.data();
  kernels::affine(cache.input.data(), t + tower.w1, t + tower.b1, cache.first.data(), rows, shape_.inputs, h);
  relu(cache.first, rows * h);
  kernels::affine(cache.first.data(), t + tower.w2, t + tower.b2, cache.second.data(), rows, h, h);
  relu(cache.second, rows * h);
  kernels::head(cache.second.data(), t + tower.head, t + tower.bias, cache.out.data(), rows, h,
                tower.outputs);
}

void Network::backward(const Tower& tower, std::span<const float> theta, Cache& cache,
                       std::span<const float> out_slope, std::span<float> gradient) const {
  const std::size_t h = shape_.hidden;
  const std::size_t rows = cache.rows;
  grow(cache.slope1, rows * h);
  grow(cache.slope2, rows * h);
  const float* t = theta.data();
  float* g = gradient.data();
  kernels::head_back(cache.second.data(), out_slope.data(), t + tower.head, g + tower.head, g + tower.bias,
                     cache.slope2.data(), rows, h, tower.outputs);
  relu_back(cache.second, cache.slope2, rows * h);
  kernels::affine_slope(cache.first.data(), cache.slope2.data(), g + tower.w2, g + tower.b2, rows, h, h);
  kernels::affine_back(cache.slope2.data(), t + tower.w2, cache.slope1.data(), rows, h, h);
  relu_back(cache.first, cache.slope1, rows * h);
  kernels::affine_slope(cache.input.data(), cache.slope1.data(), g + tower.w1, g + tower.b1, rows,
                        shape_.inputs, h);
}

void Network::actor(std::span<const float> theta, std::span<const float> inputs, Cache& cache) const {
  forward(actor_, theta, inputs, cache);
}

void Network::critic(std::span<const float> theta, std::span<const float> inputs, Cache& cache) const {
  forward(critic_, theta, inputs, cache);
}

void Network::actor_back(std::span<const float> theta, Cache& cache, std::span<const float> out_slope,
                         std::span<float> gradient) const {
  backward(actor_, theta, cache, out_slope, gradient);
}

void Network::critic_back(std::span<const float> theta, Cache& cache, std::span<const float> out_slope,
                          std::span<float> gradient) const {
  backward(critic_, theta, cache, out_slope, gradient);
}

std::vector<float> Network::reorder(std::span<const float> theta, bool to_spec) const {
  std::vector<float> out(theta.begin(), theta.end());
  const auto transpose = [&](std::size_t at, std::size_t in_count, std::size_t out_count) {
    for (std::size_t i = 0; i < in_count; ++i) {
      for (std::size_t o = 0; o < out_count; ++o) {
        const std::size_t here = at + i * out_count + o;
        const std::size_t there = at + o * in_count + i;
        (to_spec ? out[there] : out[here]) = to_spec ? theta[here] : theta[there];
      }
    }
  };
  transpose(actor_.w1, shape_.inputs, shape_.hidden);
  transpose(actor_.w2, shape_.hidden, shape_.hidden);
  return out;
}

std::vector<float> Network::to_spec(std::span<const float> theta) const {
  return reorder(theta, true);
}

std::vector<float> Network::from_spec(std::span<const float> theta) const {
  return reorder(theta, false);
}

}  // namespace ballast::train
