// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <vector>

#include "model/sim/scenario.h"

namespace ballast::sim {

/// One try of a request, on the server.
struct Job {
  double finish = 0;   ///< in the server's virtual time
  double arrived = 0;  ///< at the server
  double work = 0;
  double wait = 0;           ///< outside, after the work; 0: none
  std::uint32_t slot = 0;    ///< the request's place in the simulation
  std::uint32_t serial = 0;  ///< of the try; another one at that place: the client has given up
  std::uint32_t rif = 0;     ///< requests that were in flight here when it came
};

/// Time that the scheduler would show for a pod, in CPU seconds since the start.
struct CpuTime {
  double on_cpu = 0;
  double wait = 0;       ///< of all its threads: runnable, not running, self wait included
  double self_wait = 0;  ///< of it while the pod itself had the CPU
  double busy = 0;       ///< workers that had something to do
  double ready = 0;      ///< of all its threads: running or ready to run, its own quota's wait included
};

/// A pod. Processor sharing: n requests on k workers run at speed * min(1, k/n) each. FIFO: k run
/// at full speed, the others wait in order. A request that has done its work may have to wait for
/// something outside (ServerSpec::workers says whether it holds a worker meanwhile).
///
/// All requests in service progress at one rate, so a virtual clock that runs at this rate gives
/// every one a fixed finish: an arrival or a departure costs O(log n) whatever the speed does. Those
/// that wait outside have a second clock of the same kind.
class Server {
 public:
  Server(const ServerSpec& spec, Discipline discipline);

  /// The share of the CPU that other tenants leave, and the progress a CPU second makes.
  void set_speed(double now, double share, double efficiency);
  /// The rate at which waiting outside passes, over that of the spec.
  void set_wait_rate(double now, double rate);
  /// Work a second, all workers busy.
  double effective_capacity() const { return spec_.capacity() * share_ * efficiency_; }
  /// The rate of an unshared worker; the pooled oracle sets it beyond the spec.
  void set_capacity(double now, double speed);

  void admit(double now, Job job);
  /// Time of the next completion if nothing changes; infinity when there is none.
  double next_completion() const;
  /// REQUIRES now == next_completion(). Nullopt: a request has done its work and now waits outside.
  std::optional<Job> complete(double now);
  /// Drops a job that its client has given up; false when it is not here (any more).
  bool cancel(double now, std::uint32_t slot, std::uint32_t serial);

  std::size_t in_flight() const { return running_.size() + waiting_.size() + outside_.size(); }
  /// Work that is left, all requests here together.
  double backlog(double now) const;
  /// Up to `now`.
  CpuTime cpu_time(double now);
  const ServerSpec& spec() const { return spec_; }

  /// Prequal's server side (Wydrowski 2024, section 4): the median latency of recent requests that
  /// came when about as many were in flight as now. Recent is 5 s; 0 when there is none, so
  /// that a server that nobody sends to is tried again.
  double latency_estimate(double now) const;

 private:
  struct Recent {
    std::uint32_t rif = 0;
    float latency_s = 0;
    double ended_s = 0;
  };
  static constexpr std::size_t kRecent = 256;
  static constexpr double kRecentAge = 5.0;

  void advance(double now);
  void set_rate();
  double work_ends() const;  ///< of the first in service; infinity when there is none
  double wait_ends() const;  ///< of the first outside
  void start(Job job);
  void start_next();
  Job finished(const Job& job, double now);
  /// Workers that have a request; in processor sharing a request outside holds none.
  std::size_t held() const { return running_.size() + (sharing_ ? 0 : outside_.size()); }

  ServerSpec spec_;
  bool sharing_;
  double speed_;  ///< of one worker, before share and efficiency
  double share_ = 1;
  double efficiency_ = 1;
  double rate_ = 0;  ///< virtual seconds a second
  double virtual_ = 0;
  double last_ = 0;           ///< when virtual_ was right
  std::vector<Job> running_;  ///< a heap, earliest finish in front
  double wait_rate_ = 1;      ///< of the clock of those outside
  double wait_virtual_ = 0;
  std::vector<Job> outside_;  ///< a heap by the second clock
  std::deque<Job> waiting_;
  CpuTime cpu_;
  std::array<Recent, kRecent> recent_{};
  std::size_t recorded_ = 0;
};

}  // namespace ballast::sim
