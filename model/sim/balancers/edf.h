// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace ballast::sim {

/// Earliest deadline first: pop the earliest deadline, put it back at now + 1/weight; ties in the
/// order of insertion. Source: Envoy, source/common/upstream/edf_scheduler.h.
class EdfScheduler {
 public:
  /// As if `picks` picks at these weights had been made already; Envoy takes the balancer's random
  /// seed, so that proxies do not all begin with the same endpoint (envoy#31378). Most of these
  /// picks are skipped by arithmetic: by the time that `picks` of them take, entry i has had its
  /// turn floor(w_i * time) times.
  void build(std::span<const double> weights, std::uint64_t picks) {
    heap_.clear();
    now_ = 0;
    order_ = 0;
    double sum = 0;
    for (const double weight : weights) {
      sum += weight;
    }
    const double time = static_cast<double>(picks) / sum;
    std::uint64_t done = 0;
    for (std::size_t i = 0; i < weights.size(); ++i) {
      double turns = std::floor(weights[i] * time);
      if (turns > 0 && turns / weights[i] >= time) {
        turns -= 1;  // due exactly now: left to the picks below, which break the tie
      }
      done += static_cast<std::uint64_t>(turns);
      now_ = std::max(now_, turns / weights[i]);
      heap_.push_back({(turns + 1) / weights[i], order_++, i});
    }
    std::make_heap(heap_.begin(), heap_.end(), Later{});
    for (; done < picks; ++done) {
      pick([&](std::size_t i) { return weights[i]; });
    }
  }

  /// Each entry due at a time of its own choice, as gRFC A58 asks for (random in its period).
  void build_at(std::span<const double> deadlines) {
    heap_.clear();
    now_ = 0;
    order_ = 0;
    for (std::size_t i = 0; i < deadlines.size(); ++i) {
      heap_.push_back({deadlines[i], order_++, i});
    }
    std::make_heap(heap_.begin(), heap_.end(), Later{});
  }

  /// `weight(i)` is asked for the picked entry only, when it is put back. REQUIRES !empty().
  template <typename WeightOf>
  std::size_t pick(WeightOf weight) {
    std::pop_heap(heap_.begin(), heap_.end(), Later{});
    Entry& entry = heap_.back();
    const std::size_t index = entry.index;
    now_ = entry.deadline;
    entry.deadline = now_ + 1 / weight(index);
    entry.order = order_++;
    std::push_heap(heap_.begin(), heap_.end(), Later{});
    return index;
  }

  bool empty() const { return heap_.empty(); }
  void clear() { heap_.clear(); }

 private:
  struct Entry {
    double deadline;
    std::uint64_t order;
    std::size_t index;
  };
  struct Later {
    bool operator()(const Entry& a, const Entry& b) const {
      return a.deadline > b.deadline || (a.deadline == b.deadline && a.order > b.order);
    }
  };
  std::vector<Entry> heap_;
  double now_ = 0;
  std::uint64_t order_ = 0;
};

}  // namespace ballast::sim
