// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <span>
#include <utility>
#include <vector>

#include "agent/sample/sample.h"

namespace ballast::observe {

/// What the serving containers of one endpoint did in one tick, added up.
struct TickCounts {
  std::uint64_t interval_ns = 0;
  std::uint64_t requests = 0;
  std::uint64_t responses = 0;
  std::uint64_t errors = 0;
  std::uint64_t on_cpu_ns = 0;
  std::uint64_t wait_ns = 0;
  std::uint64_t external_wait_ns = 0;  ///< waiting for others' tasks, see external_wait_ns()
  std::uint64_t unanswered = 0;        ///< of `errors`: no response
  std::uint64_t unknown = 0;           ///< of `responses`: how they went was not seen
  std::uint64_t ready_ns = 0;          ///< running or ready to run, all tasks together

  /// Requests that ended and of which it is known how.
  std::uint64_t judged() const { return responses - std::min(unknown, responses) + unanswered; }

  void add(const TickCounts& other);
  void subtract(const TickCounts& other);
};

/// Time in which a cgroup's tasks waited for tasks of others, in ns: wait without what it waited
/// behind its own tasks and without what it waited for its own quota.
///
/// cpu.stat counts throttled time once a CPU, wait_ns counts it once for every task that waits.
/// How many did is not known; self_wait / on_cpu is how many waited while one of the cgroup ran.
/// More gather in a long throttle, so three times that is taken: a single-threaded server gives
/// the exact wait - self_wait - throttled, a thread pool gives too little rather than too much.
/// An external wait that is missed costs one tick; an own throttle that is taken for one makes
/// a weight that chases itself.
std::uint64_t external_wait_ns(const sample::CgroupSample& cgroup);

/// Speed in (0, 1]: on-CPU / (on-CPU + external wait), and no less than the share of its limit that
/// it got, which it evidently can get. REQUIRES limit_cores > 0.
double speed_of(const TickCounts& counts, double limit_cores);

/// The ticks of the last `length_ns`, their sum and their latencies. The newest tick stays
/// however long it was.
class Window {
 public:
  explicit Window(std::uint64_t length_ns) : length_ns_(length_ns) {}
  void clear();
  void push(const TickCounts& counts, const spec::Latency& first_byte, const spec::Latency& last_byte = {});

  bool empty() const { return ticks_.empty(); }
  const TickCounts& sum() const { return sum_; }
  const spec::Latency& first_byte() const { return first_byte_; }
  const spec::Latency& last_byte() const { return last_byte_; }

 private:
  // A tick fills few of the 218 buckets, so those alone are kept for the day it leaves.
  struct Kept {
    std::uint64_t count = 0;
    std::uint64_t sum_ns = 0;
    std::vector<std::pair<std::uint16_t, std::uint64_t>> buckets;
  };
  struct Tick {
    TickCounts counts;
    Kept first_byte;
    Kept last_byte;
  };
  static Kept add(spec::Latency& to, const spec::Latency& latency);
  static void subtract(spec::Latency& from, const Kept& kept);
  void drop_oldest();

  std::uint64_t length_ns_;
  std::deque<Tick> ticks_;
  TickCounts sum_;
  spec::Latency first_byte_;
  spec::Latency last_byte_;
};

}  // namespace ballast::observe
