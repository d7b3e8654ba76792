// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cmath>
#include <cstdint>

namespace ballast::sim {

/// Causes of randomness. Each draws from a stream of its own, so what a policy does (routing,
/// probes) never shifts what it is given (arrivals, sizes, slowness): runs of two policies with
/// one seed are paired.
enum class Cause : std::uint64_t {
  kArrivals = 1,
  kSizes,
  kClients,
  kKeys,
  kSlowness,
  kFaults,
  kRouting,
  kProbes,
  kTelemetry,
  kWaits,
};

/// SplitMix64 (Steele, Lea, Flood 2014): seeds the generator and hashes keys.
inline std::uint64_t mix(std::uint64_t x) {
  x += 0x9E3779B97F4A7C15ULL;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9ULL;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EBULL;
  return x ^ (x >> 31);
}

/// xoshiro256++ (Blackman, Vigna 2019) with the few laws that the simulator needs.
class Rng {
 public:
  explicit Rng(std::uint64_t seed, Cause cause = Cause::kArrivals, std::uint64_t index = 0) {
    std::uint64_t state = mix(mix(seed) ^ mix(static_cast<std::uint64_t>(cause) << 32 | index));
    for (auto& word : state_) {
      state = mix(state);
      word = state;
    }
  }

  std::uint64_t next() {
    const std::uint64_t result = rotate(state_[0] + state_[3], 23) + state_[0];
    const std::uint64_t shifted = state_[1] << 17;
    state_[2] ^= state_[0];
    state_[3] ^= state_[1];
    state_[1] ^= state_[2];
    state_[0] ^= state_[3];
    state_[2] ^= shifted;
    state_[3] = rotate(state_[3], 45);
    return result;
  }

  /// In [0, 1).
  double uniform() { return static_cast<double>(next() >> 11) * 0x1.0p-53; }

  /// In [0, n). REQUIRES n > 0.
  std::uint32_t below(std::uint32_t n) { return static_cast<std::uint32_t>(((next() >> 32) * n) >> 32); }

  /// Mean 1.
  double exponential() { return -std::log1p(-uniform()); }

  /// Mean 0, deviation 1 (Marsaglia's polar method).
  double normal() {
    if (has_spare_) {
      has_spare_ = false;
      return spare_;
    }
    double x = 0;
    double y = 0;
    double square = 0;
    do {
      x = 2 * uniform() - 1;
      y = 2 * uniform() - 1;
      square = x * x + y * y;
    } while (square >= 1 || square == 0);
    const double scale = std::sqrt(-2 * std::log(square) / square);
    spare_ = y * scale;
    has_spare_ = true;
    return x * scale;
  }

 private:
  static std::uint64_t rotate(std::uint64_t x, int bits) { return (x << bits) | (x >> (64 - bits)); }

  std::array<std::uint64_t, 4> state_{};
  double spare_ = 0;
  bool has_spare_ = false;
};

}  // namespace ballast::sim
