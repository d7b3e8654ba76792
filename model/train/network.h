// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ballast::train {

/// An actor (or a table of action values) and, where asked for, a critic: each an encoder of two
/// ReLU layers with a linear head. `shared` gives both one encoder, which then reads the agent's
/// observation for the actor and the service's context for the critic, as core/spec has it.
struct Shape {
  std::size_t inputs = 0;
  std::size_t hidden = 64;
  std::size_t outputs = 0;
  bool critic = true;
  bool shared = false;
  bool operator==(const Shape&) const = default;
};

/// What a forward pass leaves behind for the backward pass. Reused, so that it allocates once.
struct Cache {
  std::vector<float> input, first, second, out;
  std::vector<float> slope1, slope2;  // scratch of the backward pass
  std::size_t rows = 0;
};

/// The network without its numbers: theta is the caller's, so that every worker may hold its own
/// and a gradient is a vector like theta. Layout of theta, hidden layers [in][out] and heads
/// [out][in]: W1 b1 W2 b2 of the actor, Wpi bpi, then (critic only) W1 b1 W2 b2 unless shared, Wv bv.
/// Immutable; any number of threads may use one, each with caches of its own.
class Network {
 public:
  explicit Network(const Shape& shape);
  const Shape& shape() const { return shape_; }
  std::size_t parameters() const { return parameters_; }

  /// He-initialised encoders from the seed; heads are uniform and scaled by `head_scale` (0: zero,
  /// so that all actions are equal and all values 0).
  std::vector<float> initial(std::uint64_t seed, double head_scale) const;

  /// Actor's outputs, [rows][outputs], in cache.out.
  void actor(std::span<const float> theta, std::span<const float> inputs, Cache& cache) const;
  /// Critic's values, [rows], in cache.out. REQUIRES shape().critic.
  void critic(std::span<const float> theta, std::span<const float> inputs, Cache& cache) const;
  /// Adds to `gradient` what `out_slope` (d loss / d cache.out) gives, after the pass of that cache.
  void actor_back(std::span<const float> theta, Cache& cache, std::span<const float> out_slope,
                  std::span<float> gradient) const;
  void critic_back(std::span<const float> theta, Cache& cache, std::span<const float> out_slope,
                   std::span<float> gradient) const;

  /// theta of a shared network to and from the order of core/spec/spec.h, whose hidden layers are
  /// [out][in]. REQUIRES shape().shared and theta.size() == parameters().
  std::vector<float> to_spec(std::span<const float> theta) const;
  std::vector<float> from_spec(std::span<const float> theta) const;

 private:
  /// Where one tower's parts begin in theta.
  struct Tower {
    std::size_t w1 = 0, b1 = 0, w2 = 0, b2 = 0, head = 0, bias = 0, outputs = 0;
  };
  Tower place(std::size_t& at, std::size_t outputs, const Tower* encoder) const;
  void forward(const Tower& tower, std::span<const float> theta, std::span<const float> inputs,
               Cache& cache) const;
  void backward(const Tower& tower, std::span<const float> theta, Cache& cache,
                std::span<const float> out_slope, std::span<float> gradient) const;
  std::vector<float> reorder(std::span<const float> theta, bool to_spec) const;

  Shape shape_;
  Tower actor_;
  Tower critic_;
  std::size_t parameters_ = 0;
};

}  // namespace ballast::train
