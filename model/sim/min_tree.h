// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bit>
#include <cstddef>
#include <limits>
#include <vector>

namespace ballast::sim {

/// Smallest of n keys that change one at a time: a winner tree, O(log n) an update, O(1) a query.
/// Holds each server's next completion.
class MinTree {
 public:
  explicit MinTree(std::size_t n)
      : leaves_(std::bit_ceil(n < 2 ? std::size_t{2} : n)),
        keys_(leaves_, std::numeric_limits<double>::infinity()),
        winners_(leaves_) {
    for (std::size_t node = leaves_ - 1; node > 0; --node) {
      winners_[node] = winner_below(2 * node);
    }
  }

  void update(std::size_t leaf, double key) {
    keys_[leaf] = key;
    for (std::size_t node = (leaf + leaves_) / 2; node > 0; node /= 2) {
      winners_[node] = winner_below(2 * node);
    }
  }

  std::size_t winner() const { return winners_[1]; }
  double smallest() const { return keys_[winners_[1]]; }

 private:
  std::size_t winner_below(std::size_t left) const {
    const std::size_t a = left >= leaves_ ? left - leaves_ : winners_[left];
    const std::size_t b = left + 1 >= leaves_ ? left + 1 - leaves_ : winners_[left + 1];
    return keys_[b] < keys_[a] ? b : a;
  }

  std::size_t leaves_;
  std::vector<double> keys_;
  std::vector<std::size_t> winners_;
};

}  // namespace ballast::sim
