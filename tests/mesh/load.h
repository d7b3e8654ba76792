// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "tools/lab/generator.h"

namespace ballast::mesh {

/// Open-loop load on Service web through the client's Envoy: what fails and how long it takes, counted from
/// the intended start.
class Load {
 public:
  /// `rate` a second of requests of `mean_ms` CPU time.
  static std::unique_ptr<Load> start(double rate, double seconds, double mean_ms = 2, std::uint64_t seed = 1,
                                     std::uint16_t port = 80) {
    auto arrivals = lab::make_arrivals(
        {.rate = rate, .seconds = seconds, .demand_mean_ms = mean_ms, .sessions = 16, .seed = seed});
    std::unique_ptr<Load> load(new Load);
    load->arrivals_ = arrivals;
    auto generator = lab::Generator::start({.target = {"127.0.0.1", port},
                                            .arrivals = std::move(arrivals),
                                            .seconds = seconds,
                                            .drain_s = 5,
                                            .max_connections = 512});
    load->generator_ = generator ? std::move(*generator) : nullptr;
    return load->generator_ ? std::move(load) : nullptr;
  }

  std::uint64_t failed_so_far() const { return generator_->snapshot().errors; }
  lab::LoadSnapshot snapshot() const { return generator_->snapshot(); }

  struct Outcome {
    std::uint64_t requests = 0;
    std::uint64_t failed = 0;          ///< another status than 2xx, or broken off, or never answered
    std::vector<double> latencies_ms;  ///< sorted
  };
  /// Waits for the end; counts what was to start at `from_s` or later.
  Outcome wait(double from_s = 0) {
    const auto answers = generator_->wait();
    Outcome out;
    for (std::size_t i = 0; i < answers.size(); ++i) {
      if (static_cast<double>(arrivals_[i].at_ns) * 1e-9 < from_s) {
        continue;
      }
      ++out.requests;
      out.failed += answers[i].outcome == lab::Outcome::kOk ? 0 : 1;
      out.latencies_ms.push_back(static_cast<double>(answers[i].latency_ns) * 1e-6);
    }
    std::sort(out.latencies_ms.begin(), out.latencies_ms.end());
    return out;
  }
  /// Ends it now; what is under way is not counted as failed.
  std::uint64_t stop() {
    const std::uint64_t failed = failed_so_far();
    generator_->give_up();
    generator_->wait();
    return failed;
  }

 private:
  Load() = default;
  std::vector<lab::Arrival> arrivals_;
  std::unique_ptr<lab::Generator> generator_;
};

}  // namespace ballast::mesh
