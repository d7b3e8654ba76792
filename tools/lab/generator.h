// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/clock.h"
#include "core/base/result.h"
#include "tools/lab/arrivals.h"
#include "tools/lab/http.h"

namespace ballast::lab {

enum class Outcome : std::uint8_t {
  kUnfinished,  ///< no whole answer when the drain time was over
  kOk,          ///< 2xx
  kError,       ///< another status, or the connection broke
};

struct Answer {
  Outcome outcome = Outcome::kUnfinished;
  /// From the intended start to the last byte; for kUnfinished its age when the load was given
  /// up, which is a lower bound.
  std::uint64_t latency_ns = 0;
  std::uint64_t lateness_ns = 0;  ///< from the intended start to the actual send
};

/// What the load looks like now, for people who watch.
struct LoadSnapshot {
  std::uint64_t sent = 0;
  std::uint64_t done = 0;  ///< whole answers and errors
  std::uint64_t errors = 0;
  double p50_ms = 0;  ///< of the last answers, at most 1024
  double p99_ms = 0;
};

struct LoadOptions {
  Endpoint target;
  std::vector<Arrival> arrivals;
  double seconds = 0;  ///< length of the load; the last arrival lies before
  double drain_s = 5;  ///< wait for answers after the load
  int max_connections = 8192;
  std::string host = "web";  ///< asked for
};

/// Open-loop load: a request is sent when it is due whatever happened to the ones before, on an idle
/// keep-alive connection or a new one, and its latency counts from when it was due. Runs in a
/// thread of its own that sleeps between events.
class Generator {
 public:
  static Result<std::unique_ptr<Generator>> start(LoadOptions options);
  Generator(const Generator&) = delete;
  Generator& operator=(const Generator&) = delete;
  ~Generator();  ///< gives the load up

  /// CLOCK_MONOTONIC of the arrivals' time zero.
  MonotonicNs began() const { return began_; }
  bool finished() const { return finished_; }
  LoadSnapshot snapshot() const;
  /// Waits for the end; one answer an arrival, in the same order.
  std::vector<Answer> wait();
  void give_up() { stop_ = true; }

 private:
  struct Loop;
  explicit Generator(LoadOptions options);
  std::unique_ptr<Loop> loop_;
  MonotonicNs began_ = 0;
  std::atomic<bool> stop_{false};
  std::atomic<bool> finished_{false};
  std::thread thread_;
};

}  // namespace ballast::lab
