// SPDX-License-Identifier: Apache-2.0
#include "agent/decide/queue_rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/base/statistics.h"

namespace ballast::decide {
namespace {

constexpr double kMaxLogCapacity = 4;  ///< as in PriorFilter: beyond lies a broken counter
constexpr double kMostLoad = 0.95;     ///< of a target: beyond, queues say more than models
constexpr double kMemoryS = 10;        ///< of QueueMemory
constexpr double kMemoryTicks = 40;    ///< or so many ticks, if that is longer
constexpr double kMemoryLags = 16;     ///< or so many lags: four periods of what swings by the delay
constexpr std::size_t kLongestLag = 64;
constexpr double kFastLoopS = 0.1;  ///< a loop that reacts about as fast as the proxies themselves
constexpr double kSlowLoopDelayS = 0.3;
constexpr double kLastingS = 90;
constexpr double kLastingTicks = 80;  ///< or so many ticks, if that is longer
constexpr double kOverMoving = 2;     ///< what lasts over what moves
constexpr double kSwinging = 2.5;     ///< of what moves in the queues: what a mean over kRecentS leaves out
constexpr double kRecentS = 5;        ///< what queues ask for now, without the noise of a sample
constexpr double kLeastTicks = 12;    ///< before which queues prove nothing
constexpr double kSlower = 8;         ///< the slow part's time constant over H, at least
constexpr double kMostError = 0.7;    ///< that the slow part takes in: an episode is the fast part's
/// While something is foreseen queues come and go with it, and the slow part would answer in one part of a
/// period what was asked for in another: it is so much slower then, as far as CPU limits the pod, and what it
/// knows does not leak.
constexpr double kForeseenSlower = 5;
constexpr double kShifting = 8;  ///< of what moves in the latencies, over what differs between pods
constexpr double kUnsure = 0.1;  ///< their mean square of moves before any could be seen, and in a slow loop
constexpr double kUnsureSlow = 0.3;
constexpr double kMostSlower = 1.5;
constexpr double kThinned = 0.05;       ///< log of a mean beside the others', that chance may make of it
constexpr double kHeldBack = 0.05;      ///< log of last byte over first beside the others' that says nothing,
constexpr double kHeldBackNoise = 0.5;  ///< and so much of its moves (root mean square over kRecentS)
constexpr double kHeldBackSlope = 2;    ///< from twice the first on it counts in full
constexpr double kRunningS = 10;        ///< a pod that comes to a service this old is new
constexpr double kMeasuredBy = 100;     ///< requests that count as much as what others were, as in observe
constexpr double kUnseenS = 10;         ///< or so long: who is never measured must not stay cold
constexpr double kColdRate = 0.5;
constexpr double kColdLog = -0.2;  ///< measured beside the others: a new pod is cold from here ...
constexpr double kWarmLog = -0.1;  ///< ... to here, or
constexpr double kWarmS = 120;     ///< for so long; beyond it is merely smaller, and the gate's
constexpr double kLeastColdLog = -1.5;
constexpr double kAnswerS = 5;      ///< over which weight, rate and queue are averaged for people
constexpr double kMoved = 0.1;      ///< in log weight that is worth telling
constexpr double kForgottenS = 60;  ///< what was so long before a move is not what it moved from

double finite_or(double value, double otherwise) {
  return std::isfinite(value) ? value : otherwise;
}

double seconds_between(MonotonicNs from, MonotonicNs to) {
  return to > from ? static_cast<double>(to - from) * 1e-9 : 0;
}

double age_s(const spec::EndpointTelemetry& endpoint, MonotonicNs now) {
  return endpoint.taken == 0 ? 0 : seconds_between(endpoint.taken, now);
}

double queue_of(const spec::EndpointTelemetry& endpoint) {
  return std::clamp(finite_or(endpoint.in_flight, 0), 0.0, 1e6);
}

double rate_of(const spec::EndpointTelemetry& endpoint) {
  return std::clamp(finite_or(endpoint.qps, 0), 0.0, 1e9);
}

double evidence_of(const spec::EndpointTelemetry& endpoint) {
  return std::clamp(finite_or(endpoint.cpu_evidence, 0), 0.0, 1.0);
}

/// Requests a second that the CPU lets the pod carry, no more CPUs counted than it was ever seen to use.
double cpu_capacity(const spec::EndpointTelemetry& endpoint) {
  const double limit = endpoint.cpu_limit_cores;
  const double usable =
      limit > 0 && endpoint.usable_cores > 0 ? std::min(1.0, endpoint.usable_cores / limit) : 1;
  return std::max(0.0, finite_or(endpoint.capacity_qps * usable, 0));
}

/// What is believed to limit a pod, and why.
std::string limit_of(const spec::EndpointTelemetry& endpoint) {
  constexpr double kFew = 0.9;
  const double running = 100 * endpoint.running_share;
  if (!endpoint.known) {
    return "limit not known";
  }
  if (endpoint.cpu_evidence < 0.5) {
    return fmt::format("limit not CPU: ran or ready in {:.0f} % of its requests' time", running);
  }
  if (!(endpoint.cpu_limit_cores > 0)) {
    return fmt::format("limit CPU, how much is not known: ran or ready in {:.0f} % of its requests' time",
                       running);
  }
  return endpoint.usable_cores > 0 && endpoint.usable_cores < kFew * endpoint.cpu_limit_cores
             ? fmt::format("limit its threads: want {:.1f} of {:.1f} CPUs at most", endpoint.usable_cores,
                           endpoint.cpu_limit_cores)
             : fmt::format("limit CPU: ran or ready in {:.0f} % of its requests' time", running);
}

double log_mean_exp(const std::vector<double>& logs) {
  double sum = 0;
  for (const double each : logs) {
    sum += std::exp(each);
  }
  return logs.empty() ? 0 : std::log(sum / static_cast<double>(logs.size()));
}

/// The observation with capacities as far as the CPU is known to limit them.
std::vector<spec::EndpointObservation> believed(const spec::ServiceObservation& observation) {
  std::vector<spec::EndpointObservation> endpoints = observation.endpoints;
  std::vector<double> logs;
  std::vector<double> known;
  for (const auto& endpoint : endpoints) {
    const double capacity = endpoint.telemetry.known ? cpu_capacity(endpoint.telemetry) : 0;
    logs.push_back(capacity > 0 ? evidence_of(endpoint.telemetry) * std::log(capacity) : std::nan(""));
    if (capacity > 0) {
      known.push_back(logs.back());
    }
  }
  const double middle = median_high(known);
  for (double& each : logs) {
    each = std::isnan(each) ? middle : each;
  }
  const double mean = log_mean_exp(logs);
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    endpoints[i].log_prior = std::clamp(finite_or(logs[i] - mean, 0), -kMaxLogCapacity, kMaxLogCapacity);
  }
  return endpoints;
}

double deviation_of(const std::vector<double>& values) {
  double sum = 0;
  double squares = 0;
  for (const double each : values) {
    sum += each;
    squares += each * each;
  }
  const double n = static_cast<double>(values.size());
  return n > 0 ? std::sqrt(std::max(0.0, squares / n - sum / n * (sum / n))) : 0;
}

double spread_of(const std::vector<spec::EndpointObservation>& endpoints) {
  std::vector<double> known;
  for (const auto& endpoint : endpoints) {
    if (endpoint.telemetry.known) {
      known.push_back(endpoint.log_prior);
    }
  }
  return deviation_of(known);
}

/// Of the CPU, as far as it is believed; used for the tilt and the targets alone.
double load_of(const spec::ServiceObservation& observation) {
  double qps = 0;
  double capacity = 0;
  for (const auto& endpoint : observation.endpoints) {
    const double carries = endpoint.telemetry.known ? cpu_capacity(endpoint.telemetry) : 0;
    if (carries > 0) {
      qps += rate_of(endpoint.telemetry);
      capacity += carries;
    }
  }
  return capacity > 0 ? qps / capacity : 0;
}

std::vector<double> normalised(std::vector<double> logs) {
  const double mean = log_mean_exp(logs);
  for (double& each : logs) {
    each = std::exp(each - mean);
  }
  return logs;
}

/// What each endpoint's part of all requests in flight would be by rho / (1 - rho), less where they wait
/// longer, mean 1.
std::vector<double> queue_shape(const std::vector<double>& log_capacities, const std::vector<double>& shares,
                                const std::vector<double>& slow, double load) {
  const std::vector<double> capacities = normalised(log_capacities);
  std::vector<double> shape(shares.size(), 1);
  double sum = 0;
  for (std::size_t i = 0; i < shares.size(); ++i) {
    const double used = std::min(load * shares[i] / capacities[i], kMostLoad);
    shape[i] = (load > 0 ? used / (1 - used) : 1) * std::exp(-slow[i]);
    sum += shape[i];
  }
  for (double& each : shape) {
    each *= static_cast<double>(shape.size()) / sum;
  }
  return shape;
}

double usable_tick(const LoopContext& loop) {
  return std::isfinite(loop.tick_s) && loop.tick_s > 0 ? loop.tick_s : 0.25;
}

double usable_delay(const LoopContext& loop) {
  const double tick = usable_tick(loop);
  return std::isfinite(loop.loop_delay_s) && loop.loop_delay_s > tick ? loop.loop_delay_s : tick;
}

std::string sentence_of(const spec::TwinWord& word) {
  if (word.foreseen_p99_ms <= 0) {
    return "none yet";
  }
  const std::string gains = word.in_force ? fmt::format("learned gains, p99 {:.2f}", word.ratio)
                                          : std::string("the rule's own gains");
  return fmt::format("{}; foresaw {:.3g} ms, came {:.3g}", gains, word.foreseen_p99_ms, word.came_p99_ms);
}

}  // namespace

QueueRuleOptions with_gains(QueueRuleOptions options, const spec::Gains& gains) {
  options.horizon *= spec::gain_factor(gains, spec::kHorizonGain);
  options.tilt *= spec::gain_factor(gains, spec::kTiltGain);
  options.trust *= spec::gain_factor(gains, spec::kTrustGain);
  options.feedback *= spec::gain_factor(gains, spec::kFeedbackGain);
  options.integral_s /= spec::gain_factor(gains, spec::kLastingGain);
  const double ready = spec::gain_factor(gains, spec::kReadyGain);
  for (double* each : {&options.gate.leave_ratio, &options.gate.return_ratio, &options.gate.leave_spread,
                       &options.gate.return_spread, &options.fast_leave_ratio, &options.leave_lasting,
                       &options.return_lasting}) {
    *each /= ready;
  }
  // Parts of a queue, which end at 1.
  for (double* each : {&options.leave_memory, &options.leave_memory_slow}) {
    *each -= (1 - 1 / ready) * (*each - options.memory_band);
  }
  return options;
}

void QueueMemory::update(const std::map<spec::EndpointId, double>& deviations, std::size_t lag, double dt_s) {
  lag = std::clamp<std::size_t>(lag, 1, kLongestLag);
  double product = 0;
  double power = 0;
  for (const auto& [id, now] : deviations) {
    std::deque<double>& past = past_[id];
    if (past.size() >= lag) {
      const double before = past[past.size() - lag];
      product += now * before;
      power += (now * now + before * before) / 2;
    }
    past.push_back(now);
    while (past.size() > kLongestLag) {
      past.pop_front();
    }
  }
  std::erase_if(past_, [&](const auto& entry) { return !deviations.contains(entry.first); });
  const double ticks =
      std::max({kMemoryS / std::max(dt_s, 1e-3), kMemoryTicks, kMemoryLags * static_cast<double>(lag)});
  const double alpha = 1 - std::exp(-1 / ticks);
  product_ += alpha * (product - product_);
  power_ += alpha * (power - power_);
}

double QueueMemory::left() const {
  return power_ > 0 ? std::clamp(product_ / power_, 0.0, 1.0) : 0;
}

void QueueRule::learn_latency(Track& track, const spec::EndpointTelemetry& telemetry, double dt_s,
                              double lasting_s, double unsure) {
  if (!(telemetry.p50_ns > 0) || !std::isfinite(telemetry.p50_ns)) {
    return;
  }
  const double mean_ns = spec::mean_ns(telemetry.latency);
  const double least = 1 - std::exp(-dt_s / lasting_s);
  const bool first = ++track.latencies == 1;
  const bool ends = telemetry.p50_stretch >= 1 && std::isfinite(telemetry.p50_stretch) &&
                    telemetry.mean_stretch >= 1 && std::isfinite(telemetry.mean_stretch);
  const auto learn = [&](Latency& latency, double log) {
    latency.lasting += std::max(1 / track.latencies, least) * (log - latency.lasting);
    latency.now += (1 - std::exp(-dt_s / kRecentS)) * (log - latency.now);
    const double off = latency.now - latency.lasting;
    latency.moves += std::max(1 / (track.latencies + kLeastTicks), least) * (off * off - latency.moves);
  };
  const auto learn_all = [&](Latencies& latencies, double log, double stretch) {
    if (first) {
      latencies.first = {.lasting = log, .now = log, .moves = unsure};
    }
    if (ends && !track.ends) {  // an agent of an earlier version tells none
      const double later = std::log(stretch);
      latencies.later = {.lasting = later, .now = later, .moves = 0};
      latencies.last = latencies.first;
      latencies.last.lasting += later;
      latencies.last.now += later;
    }
    learn(latencies.first, log);
    if (ends) {
      learn(latencies.last, log + std::log(stretch));
      learn(latencies.later, std::log(stretch));
    }
  };
  learn_all(track.median, std::log(telemetry.p50_ns), telemetry.p50_stretch);
  learn_all(track.mean, std::log(mean_ns > 0 ? mean_ns : telemetry.p50_ns), telemetry.mean_stretch);
  track.ends = ends;
}

/// In log, by how much longer each endpoint's answers last after their first byte than the median one's: a
/// head that goes out before its answer is done makes a first byte that says nothing. What every endpoint's
/// answers have, such as a long body, counts for none, and neither does what chance makes of streams: where
/// that is much is told by the endpoint in the middle, so that nobody can hide behind noise of his own.
std::vector<double> QueueRule::held_back(const std::vector<spec::EndpointObservation>& endpoints,
                                         const std::map<spec::EndpointId, Track>& tracks,
                                         Latencies Track::*which) {
  std::vector<double> known;
  std::vector<double> moves;
  std::vector<double> logs(endpoints.size(), 0);
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (const Track& track = tracks.at(endpoints[i].telemetry.id); track.latencies > 0 && track.ends) {
      logs[i] = (track.*which).later.lasting;
      known.push_back(logs[i]);
      moves.push_back((track.*which).later.moves);
    }
  }
  const double usual = median_low(known);
  const double nothing = kHeldBack + kHeldBackNoise * std::sqrt(median_low(moves));
  for (std::size_t i = 0; i < logs.size(); ++i) {
    const Track& track = tracks.at(endpoints[i].telemetry.id);
    const double longer = track.latencies > 0 && track.ends ? logs[i] - usual : 0;
    logs[i] = std::clamp(kHeldBackSlope * (longer - nothing), 0.0, std::max(longer, 0.0));
  }
  return logs;
}

/// In log, by how much each endpoint's requests wait longer than at the median one, where that lasts and
/// CPU is not why. A few quick requests more, made up or not, can move a median far, and a mean no further
/// than they are many: an endpoint is as slow as the slower of both says.
std::vector<double> QueueRule::slower(const std::vector<spec::EndpointObservation>& endpoints,
                                      const std::map<spec::EndpointId, Track>& tracks) {
  std::vector<double> medians;
  std::vector<double> means;
  for (const auto& endpoint : endpoints) {
    if (const Track& track = tracks.at(endpoint.telemetry.id); track.latencies > 0) {
      medians.push_back(track.median.first.lasting);
      means.push_back(track.mean.first.lasting);
    }
  }
  const double usual = median_high(medians);
  const double usual_mean = median_high(means);
  const std::vector<double> median_held = held_back(endpoints, tracks, &Track::median);
  const std::vector<double> mean_held = held_back(endpoints, tracks, &Track::mean);
  std::vector<double> logs(endpoints.size(), 0);
  std::vector<double> beside;
  double moves = 0;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    if (const Track& track = tracks.at(endpoints[i].telemetry.id); track.latencies > 0) {
      const double by_median = track.median.first.lasting - usual + median_held[i];
      const double by_mean = track.mean.first.lasting - usual_mean + mean_held[i] - kThinned;
      logs[i] = std::max(by_median, by_mean);
      const bool held = by_mean > by_median ? mean_held[i] > 0 : median_held[i] > 0;
      const Latencies& said = by_mean > by_median ? track.mean : track.median;
      moves += held ? said.last.moves : said.first.moves;
      beside.push_back(logs[i]);
    }
  }
  const double differ = deviation_of(beside) * deviation_of(beside) * static_cast<double>(beside.size());
  for (std::size_t i = 0; i < logs.size(); ++i) {
    logs[i] = differ <= kShifting * moves
                  ? 0
                  : (1 - kShifting * moves / differ) * (1 - evidence_of(endpoints[i].telemetry)) *
                        std::clamp(logs[i], -kMostSlower, kMostSlower);
  }
  return logs;
}

void QueueRule::note(Track& track, const Means& now, double dt_s, MonotonicNs at) {
  const bool first = track.then_at == 0;
  const double gain = first ? 1 : 1 - std::exp(-dt_s / kAnswerS);
  for (double Means::*each : {&Means::log_weight, &Means::rate, &Means::queue}) {
    track.means.*each += gain * (now.*each - track.means.*each);
  }
  if (track.moves == 0 && std::abs(track.means.log_weight - track.then.log_weight) >= kMoved) {
    track.moves = at;
  }
  const bool settled = track.moves != 0 && seconds_between(track.moves, at) >= 2 * kAnswerS;
  if (settled) {
    track.before = track.then;
    track.after = track.means;
    track.moved = at;
    track.moves = 0;
  }
  if (first || settled || (track.moves == 0 && seconds_between(track.then_at, at) > kForgottenS)) {
    track.then = track.means;
    track.then_at = at;
  }
}

std::string QueueRule::answer_of(const Track& track, MonotonicNs now) {
  if (track.moved == 0) {
    return "";
  }
  const Means& before = track.before;
  const Means& after = track.after;
  return fmt::format("weight {:+.0f} %: rate {:.1f} to {:.1f}/s, in flight {:.1f} to {:.1f}, {:.0f} s ago",
                     100 * std::expm1(after.log_weight - before.log_weight), before.rate, after.rate,
                     before.queue, after.queue, seconds_between(track.moved, now));
}

ServiceProposal QueueRule::decide(const spec::ServiceObservation& observation, const LoopContext& loop,
                                  const std::vector<double>& foreseen) {
  ServiceProposal proposal;
  proposal.service = observation.aggregate.service;
  const std::size_t n = observation.endpoints.size();
  ServiceState& state = services_.of(proposal.service, loop.now);
  const auto learned = gains_.find(proposal.service);
  const QueueRuleOptions options = learned == gains_.end() ? options_ : with_gains(options_, learned->second);
  if (state.began == 0) {
    state.began = loop.now;
  }
  const double tick = usable_tick(loop);
  const double dt = state.last != 0 && loop.now > state.last ? seconds_between(state.last, loop.now) : tick;
  state.last = loop.now;

  const auto endpoints = believed(observation);
  std::vector<double> capacities = state.filter.update(endpoints, dt, options.filter);
  const double load = std::clamp(load_of(observation), 0.0, kMostLoad);
  for (std::size_t i = 0; i < std::min(n, foreseen.size()); ++i) {
    capacities[i] += evidence_of(endpoints[i].telemetry) * finite_or(foreseen[i], 0);
  }
  for (double& each : capacities) {
    each *= options.trust;
  }
  const double lasting_s = std::max(kLastingS, kLastingTicks * tick);
  const std::vector<double> tilt =
      square_root_tilt(foreseen.empty() ? state.filter.lasting() : capacities, load);

  const double unsure = usable_delay(loop) > kSlowLoopS ? kUnsureSlow : kUnsure;
  double moving = 0;  // mean variance of an endpoint's log capacity
  std::map<spec::EndpointId, Track> tracks;
  std::vector<double> base(n);
  double in_flight = 0;
  double qps = 0;
  std::vector<double> ages;
  bool cold = false;
  for (std::size_t i = 0; i < n; ++i) {
    const auto& telemetry = endpoints[i].telemetry;
    const auto known = state.tracks.find(telemetry.id);
    Track track;
    if (known != state.tracks.end()) {
      track = known->second;
    } else {
      track.seen_first = loop.now;
      track.joined = seconds_between(state.began, loop.now) > kRunningS;
    }
    base[i] = capacities[i] + options.tilt * tilt[i];
    const double age = seconds_between(track.seen_first, loop.now);
    if (track.joined) {
      track.answered += kMeasuredBy * dt / kUnseenS;
      track.answered += telemetry.known ? std::max(0.0, finite_or(telemetry.tick_requests, 0)) : 0;
      base[i] += state.cold_log * kMeasuredBy / (kMeasuredBy + track.answered);
      const double beside = capacities[i] - median_high(capacities);
      cold = cold || (telemetry.known && age < kWarmS && track.answered > kMeasuredBy / 2 &&
                      beside < (state.cold ? kWarmLog : kColdLog));
      if (!track.learned && telemetry.known && track.answered > 2 * kMeasuredBy) {
        track.learned = true;
        state.cold_log += kColdRate * (std::clamp(beside, kLeastColdLog, 0.0) - state.cold_log);
      }
    }
    if (telemetry.known) {
      const double gain = std::max(1 / ++track.ticks, 1 - std::exp(-dt / lasting_s));
      const double off = capacities[i] - track.capacity;
      track.capacity += gain * off;
      track.variance = (1 - gain) * (track.variance + gain * off * off);
      moving += track.variance / static_cast<double>(n);
      learn_latency(track, telemetry, dt, lasting_s, unsure);
      in_flight += queue_of(telemetry);
      qps += rate_of(telemetry);
      ages.push_back(age_s(telemetry, loop.now));
    }
    tracks[telemetry.id] = track;
  }
  const double known = static_cast<double>(ages.size());
  const std::vector<double> slow = slower(endpoints, tracks);
  for (std::size_t i = 0; i < n; ++i) {
    base[i] -= slow[i];
  }
  const std::vector<double> shares = normalised(base);
  const std::vector<double> shape = queue_shape(capacities, shares, slow, load);
  // Where only some of the service's endpoints are decided here, the service's median stands in.
  const bool all_here = observation.aggregate.endpoints <= n;
  const double mean_queue = all_here || known == 0 ? in_flight / std::max(known, 1.0)
                                                   : finite_or(observation.aggregate.median_in_flight, 0);
  const double mean_rate = qps / std::max(known, 1.0);

  std::map<spec::EndpointId, double> deviations;
  for (std::size_t i = 0; i < n; ++i) {
    if (endpoints[i].telemetry.known) {
      deviations[endpoints[i].telemetry.id] = queue_of(endpoints[i].telemetry) - shape[i] * mean_queue;
    }
  }
  const double delay = usable_delay(loop);
  // In force, a weight answers what was seen this long ago on average.
  const double until = delay - tick / 2 + median_high(ages);
  state.memory.update(deviations, static_cast<std::size_t>(std::lround(std::min(until / tick, 1e3))), dt);
  const double memory = state.memory.left();

  spec::ServiceAggregate aggregate = observation.aggregate;
  aggregate.capacity_spread = spread_of(endpoints);
  LoopContext aged = loop;
  aged.loop_delay_s = delay > kSlowLoopS ? delay + median_high(ages) : delay;
  GateOptions gate = options.gate;
  if (delay <= kSlowLoopS) {
    gate.return_ratio *= options.fast_leave_ratio / gate.leave_ratio;
    gate.leave_ratio = options.fast_leave_ratio;
  }
  const bool neutral = state.gate.neutral(aggregate, state.filter.lasting_spread(), aged, gate);
  const double slowness = std::clamp((delay - kFastLoopS) / (kSlowLoopDelayS - kFastLoopS), 0.0, 1.0);
  // A single proxy's P2C sees every request in flight at once, as a slow loop's does beside late weights.
  const double leave =
      loop.subscribers == 1
          ? options.leave_memory_slow
          : options.leave_memory + slowness * (options.leave_memory_slow - options.leave_memory);
  const double age = seconds_between(state.began, loop.now);
  const bool seen = age > kLeastTicks * tick;
  state.open = seen && memory >= (state.open ? leave - options.memory_band : leave);
  std::vector<double> wanted;
  double swinging = 0;  // mean square of what an endpoint's queue asks for around what it asks for on average
  for (std::size_t i = 0; i < n; ++i) {
    const auto& telemetry = endpoints[i].telemetry;
    if (telemetry.known) {
      Track& track = tracks[telemetry.id];
      const double error = std::clamp(std::log((queue_of(telemetry) + 1) / (shape[i] * mean_queue + 1)),
                                      -kMostError, kMostError);
      // What is known before the first tick counts as much as so many.
      const double gain = std::max(1 / (track.ticks + kLeastTicks), 1 - std::exp(-dt / lasting_s));
      track.error += gain * (error - track.error);
      track.recent += (1 - std::exp(-dt / kRecentS)) * (error - track.recent);
      const double off = track.recent - track.error;
      track.swing += gain * (off * off - track.swing);
      swinging += track.swing / known;
      wanted.push_back(track.slow - track.error);
    }
  }
  const double lasting = deviation_of(wanted);
  // What comes and goes too fast for the gate, and is greater, is P2C's.
  // So it is where it shows in the queues alone, in a loop that is too slow for it.
  state.lasting =
      seen && age > kRunningS &&
      lasting > kOverMoving * std::sqrt(moving + (delay > kSlowLoopS ? kSwinging * swinging : 0)) &&
      lasting >= (state.lasting ? options.return_lasting : options.leave_lasting);
  state.cold = cold;
  state.queue += (1 - std::exp(-dt / kMemoryS)) * (mean_queue - state.queue);
  state.uneven = state.memory.power() > (state.queue + 1) * (state.uneven ? options.even : options.uneven);
  const bool level = state.gate.level() && !state.uneven;
  const bool possible = aggregate.endpoints >= 2 && aggregate.known > 0;
  const bool differ = !neutral && !state.gate.level();
  state.foreseen =
      !foreseen.empty() && (state.foreseen || deviation_of(capacities) >= options.gate.leave_spread);
  proposal.neutral = !possible || !(differ || level || state.open || state.lasting || state.foreseen || cold);
  // The gate sees capacities alone; what else made the Service weighted is said before its word.
  const char* reason = proposal.neutral || differ || level ? ""
                       : state.foreseen                    ? "weighted by what is foreseen; by capacity "
                       : state.open                        ? "weighted as queues stay; by capacity "
                       : state.lasting                     ? "weighted as queues last; by capacity "
                                                           : "weighted for a cold pod; by capacity ";
  proposal.why = fmt::format("{}{}; {:.2f} of a queue outlives the delay", reason, state.gate.why(), memory);
  if (const auto word = words_.find(proposal.service); word != words_.end()) {
    proposal.twin = word->second;
    proposal.twin_says = sentence_of(word->second);
  }

  for (std::size_t i = 0; i < n; ++i) {
    const auto& telemetry = endpoints[i].telemetry;
    Track& track = tracks[telemetry.id];
    double offset = 0;
    if (telemetry.known) {
      const double target = shape[i] * mean_queue;
      const double queue = queue_of(telemetry);
      if (proposal.neutral) {
        track.slow = -track.error;  // where it will begin
      } else {
        const double error = std::clamp(std::log((queue + 1) / (target + 1)), -kMostError, kMostError);
        const bool acts = !foreseen.empty();
        // What is foreseen is of the CPU: it moves queues where that limits the pod rather than not.
        const double moves = acts ? std::max(0.0, 2 * evidence_of(telemetry) - 1) : 0;
        const double slowly = std::max(options.integral_s, kSlower * options.horizon * delay) *
                              (1 + moves * (kForeseenSlower - 1));
        track.slow += -dt / slowly * error - (acts ? 0 : dt / options.leak_s * track.slow);
      }
      track.slow = std::clamp(track.slow, -options.integral_bound, options.integral_bound);
      const double horizon = options.horizon * (delay + age_s(telemetry, loop.now));
      const double arrivals = mean_rate * shares[i] * horizon;
      const double answer =
          1 - std::min(options.feedback * memory, 1.0) * (queue - target) / (arrivals + target + 1);
      offset = track.slow + std::clamp(std::log(std::max(answer, 1e-3)), -options.bound, options.bound);
    }
    Proposal endpoint{.id = telemetry.id};
    endpoint.why = limit_of(telemetry);
    constexpr double kMost = spec::kMaxOffset;
    endpoint.offset = std::clamp(offset, -kMost, kMost);
    endpoint.log_prior = base[i] + offset - endpoint.offset;
    proposal.endpoints.push_back(std::move(endpoint));
  }
  double middle = 0;
  for (const Proposal& endpoint : proposal.endpoints) {
    middle += (endpoint.log_prior + endpoint.offset) / static_cast<double>(n);
  }
  for (std::size_t i = 0; i < n; ++i) {
    const auto& telemetry = endpoints[i].telemetry;
    Proposal& endpoint = proposal.endpoints[i];
    if (telemetry.known) {
      const double beside = proposal.neutral ? 0 : endpoint.log_prior + endpoint.offset - middle;
      note(tracks[telemetry.id], {beside, rate_of(telemetry), queue_of(telemetry)}, dt, loop.now);
      endpoint.answered = answer_of(tracks[telemetry.id], loop.now);
    }
  }
  state.tracks = std::move(tracks);
  tilt_if_equal(proposal);
  return proposal;
}

}  // namespace ballast::decide
