// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <time.h>

#include <cstdint>

namespace ballast {

/// Nanoseconds of CLOCK_MONOTONIC, the clock of bpf_ktime_get_ns(), so that kernel and user
/// time stamps can be subtracted.
using MonotonicNs = std::uint64_t;

/// Time as the loop sees it; tests move a ManualClock instead.
class Clock {
 public:
  virtual ~Clock() = default;
  virtual MonotonicNs now() const = 0;
};

class SystemClock final : public Clock {
 public:
  MonotonicNs now() const override {
    timespec t{};
    ::clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<MonotonicNs>(t.tv_sec) * 1'000'000'000ULL + static_cast<MonotonicNs>(t.tv_nsec);
  }
};

class ManualClock final : public Clock {
 public:
  MonotonicNs now() const override { return now_; }
  void advance(MonotonicNs ns) { now_ += ns; }

 private:
  MonotonicNs now_ = 1'000'000'000ULL;
};

}  // namespace ballast
