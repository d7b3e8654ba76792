// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/decide/neutral_gate.h"
#include "agent/decide/policy.h"
#include "agent/decide/prior.h"
#include "agent/decide/service_memory.h"
#include "core/spec/gains.h"

namespace ballast::decide {

/// Of these only gate and filter are the operator's.
struct QueueRuleOptions {
  GateOptions gate;
  PriorFilterOptions filter;
  /// Horizon of the feedback over the loop's delay (tick, way to the proxies, age of the sample).
  double horizon = 2;
  double bound = 1.39;  ///< most of it, in log weight (a factor of four)
  /// The slow part: least time constant of its integral (or eight H), of its leak, and its bound in log
  /// weight.
  double integral_s = 10;
  double leak_s = 60;
  double integral_bound = 1.1;
  /// Of the gate, in a loop of at most kSlowLoopS: differences of capacity that last so many delays are
  /// worth a weight, since the feedback mends what they miss.
  double fast_leave_ratio = 5;
  /// Part of a queue's deviation that is left after the loop's delay (QueueMemory) from which it alone is
  /// worth leaving neutral, in a loop of kFastLoopS or less; in a slower one, and with a single proxy, up to
  /// leave_memory_slow, since there P2C, which reacts at once, does better with what is short. Less by
  /// memory_band: back.
  double leave_memory = 0.5;
  double leave_memory_slow = 0.92;
  double memory_band = 0.2;
  /// Mean square of the queues' deviations over their mean + 1, from which they differ by episodes (a stall,
  /// a convoy), and below which they do not any more: then P2C, which answers them at once, is better than
  /// weights that are level, with one proxy too.
  double uneven = 1.05;
  double even = 0.52;
  /// Spread over the endpoints of what their queues ask for on average from which it is worth leaving
  /// neutral, and below which it is not any more.
  double leave_lasting = 0.28;
  double return_lasting = 0.14;
  /// Factors on the tilt, on the logs of the measured capacities, and on the answer to the queues.
  double tilt = 1;
  double trust = 1;
  double feedback = 1;
};

/// The options with a service's learned gains; gains of 0 change nothing, to the last bit.
QueueRuleOptions with_gains(QueueRuleOptions options, const spec::Gains& gains);

/// How much of the deviations of a service's queues is left when a weight that answers them arrives:
/// their autocorrelation at the loop's delay, pooled over the endpoints, in [0, 1]. Exponential mean
/// over 10 s, 40 ticks or 16 lags, whichever is longest.
class QueueMemory {
 public:
  /// One tick: each endpoint's deviation. `lag` in ticks, at least 1.
  void update(const std::map<spec::EndpointId, double>& deviations, std::size_t lag, double dt_s);
  double left() const;
  /// Mean square of the deviations.
  double power() const { return power_; }

 private:
  std::map<spec::EndpointId, std::deque<double>> past_;
  double product_ = 0;
  double power_ = 0;
};

/// The rule that acts without parameters: capacity by what limits the pod, the square-root tilt, and
/// feedback from the queues. docs/deciding.md says why it is stable.
///
/// log w = capacity (the CPU's only as far as the telemetry's cpu_evidence goes) + tilt - slower + slow +
/// fast.
///   slower = (1 - cpu_evidence) * log of its p50 beside the median pod's, as far as that lasts; no less
///            than its mean latency says, since a few quick requests more can move a median far; both
///            longer by what its answers last longer after their first byte than the median pod's
///   fast = log(1 - m (n - n*) / (x H + n* + 1)), within +-bound
///   slow = integral of -log((n + 1) / (n* + 1)) / integral_s, leaking, within +-integral_bound; while
///     something is foreseen slower, and not leaking
/// n: requests in flight; n*: what the service's requests in flight would be here if they were spread as
/// rho / (1 - rho) of the intended split, times e^-slower; x: arrivals a second intended; H = horizon *
/// delay; m: QueueMemory. Pure, total.
class QueueRule final : public Policy {
 public:
  explicit QueueRule(QueueRuleOptions options = {}) : options_(options) {}
  std::string name() const override { return "queue_rule"; }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override {
    return decide(observation, loop, {});
  }
  /// The same over capacities changed by `foreseen`: what is added to each endpoint's log capacity, in order;
  /// empty: nothing, and the rule as it is. With it weights are in force while capacities differ.
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop,
                         const std::vector<double>& foreseen);
  /// Learned gains of services, from the next decision on; those not named have none. `words`: what their
  /// twins say, told with each decision.
  void set_gains(std::map<spec::ServiceId, spec::Gains> gains,
                 std::map<spec::ServiceId, spec::TwinWord> words = {}) {
    gains_ = std::move(gains);
    words_ = std::move(words);
  }

 private:
  /// Of an endpoint over kAnswerS: its log weight beside the others', what came and what was in flight.
  struct Means {
    double log_weight = 0;
    double rate = 0;
    double queue = 0;
  };
  /// The log of a median or a mean of latencies.
  struct Latency {
    double lasting = 0;  ///< its mean over kLastingS
    double now = 0;      ///< the same over kRecentS
    double moves = 0;    ///< mean square of what that is off the first
  };
  /// To an answer's first byte, to its last, and by how much the last is later.
  struct Latencies {
    Latency first;
    Latency last;
    Latency later;
  };
  struct Track {
    double slow = 0;
    double error = 0;     ///< mean log of its queue over the target, over kLastingS
    double recent = 0;    ///< the same over kRecentS
    double swing = 0;     ///< mean square of what `recent` is off `error`, over kLastingS
    double capacity = 0;  ///< mean log capacity, over kLastingS, and its variance
    double variance = 0;
    Latencies median;
    Latencies mean;
    double latencies = 0;  ///< ticks with one
    bool ends = false;     ///< `last` and `later` are known
    double ticks = 0;
    double answered = 0;  ///< requests that came to it since it joined
    MonotonicNs seen_first = 0;
    bool joined = false;   ///< came when the service was running already
    bool learned = false;  ///< its cold share was taken into the service's
    Means means;
    Means then;    ///< the means when its weight last began to move
    Means before;  ///< its weight moved last, and after
    Means after;
    MonotonicNs then_at = 0;
    MonotonicNs moves = 0;  ///< since when its weight is on the move; 0: it is not
    MonotonicNs moved = 0;  ///< 0: never
  };
  struct ServiceState {
    NeutralGate gate;
    PriorFilter filter;
    QueueMemory memory;
    std::map<spec::EndpointId, Track> tracks;
    bool open = false;       ///< what the queues do is worth leaving neutral
    bool lasting = false;    ///< so is what they ask for on average
    bool cold = false;       ///< a new pod is measured to carry less than the others
    bool uneven = false;     ///< they differ by episodes
    bool foreseen = false;   ///< weights are in force for what is foreseen
    double queue = 0;        ///< mean requests in flight of an endpoint, over kMemoryS
    double cold_log = -0.5;  ///< a new pod's log capacity beside the others', until it is measured
    MonotonicNs began = 0;
    MonotonicNs last = 0;
  };
  static std::vector<double> held_back(const std::vector<spec::EndpointObservation>& endpoints,
                                       const std::map<spec::EndpointId, Track>& tracks,
                                       Latencies Track::*which);
  static void learn_latency(Track& track, const spec::EndpointTelemetry& telemetry, double dt_s,
                            double lasting_s, double unsure);
  static std::vector<double> slower(const std::vector<spec::EndpointObservation>& endpoints,
                                    const std::map<spec::EndpointId, Track>& tracks);
  static void note(Track& track, const Means& now, double dt_s, MonotonicNs at);
  static std::string answer_of(const Track& track, MonotonicNs now);

  QueueRuleOptions options_;
  std::map<spec::ServiceId, spec::Gains> gains_;
  std::map<spec::ServiceId, spec::TwinWord> words_;
  ServiceMemory<ServiceState> services_;
};

}  // namespace ballast::decide
