// SPDX-License-Identifier: Apache-2.0
// The servers' lives, and what proxies and controllers are told of them.
#include <algorithm>
#include <cmath>
#include <utility>

#include "model/sim/simulation.h"

namespace ballast::sim {
namespace {

constexpr double kReportPeriod = 1.0;
constexpr double kColdStep = 1.0;  ///< how often a warming pod's speed is set anew

ServerSpec pooled_spec() {
  ServerSpec spec;
  spec.speed = 1;
  spec.workers = 1;
  return spec;
}

}  // namespace

void Simulation::start_world() {
  std::vector<ServerSpec> specs = scenario_.servers;
  for (const auto& churn : scenario_.churn) {
    specs.insert(specs.end(), churn.add.begin(), churn.add.end());
  }
  for (std::size_t i = 0; i < specs.size(); ++i) {
    const bool pool = technique_.pooled && i == 0;
    servers_.emplace_back(pool ? pooled_spec() : specs[i],
                          pool ? Discipline::kProcessorSharing : scenario_.discipline);
  }
  pods_.resize(specs.size());
  active_.assign(scenario_.clients * specs.size(), 0);
  metrics_.requests_by_server.assign(specs.size(), 0);
  slow_on_.assign(scenario_.slowness.size(), std::vector<bool>(specs.size(), false));
  recurred_.assign(scenario_.slowness.size(), std::vector<std::uint32_t>(specs.size(), 0));
  if (technique_.measured) {
    counters_.resize(specs.size());
    read_.resize(specs.size());
    reported_.resize(specs.size());
    reports_.resize(specs.size());
    taken_.assign(specs.size(), 0);
    schedule(kReportPeriod, Kind::kReports);
  }
  for (std::uint32_t client = 0; client < scenario_.clients; ++client) {
    const std::span<const std::uint32_t> own(active_.data() + client * specs.size(), specs.size());
    views_.push_back({client, scenario_.clients, own, &now_, this, seed_});
  }
  balancers_ = technique_.make_balancers(scenario_, views_);
  for (std::uint32_t server = 0; server < scenario_.servers.size(); ++server) {
    pods_[server].present = true;
    set_pod_speed(server);
  }
  publish_endpoints();
  Rng phases(seed_, Cause::kRouting, 1ULL << 32);
  for (std::uint32_t client = 0; client < scenario_.clients; ++client) {
    if (balancers_[client]->period_s() > 0) {
      schedule(phases.uniform() * balancers_[client]->period_s(), Kind::kBalancer, client);
    }
  }
  for (std::uint32_t i = 0; i < scenario_.slowness.size(); ++i) {
    const Slowness& slow = scenario_.slowness[i];
    if (slow.kind == Slowness::Kind::kRotate) {
      schedule(slow.at_s, Kind::kRotate, i);
    } else if (slow.kind == Slowness::Kind::kSet) {
      schedule(slow.at_s, Kind::kSwitch, i, 0, true);
    } else {
      for (std::uint32_t server = 0; server < specs.size(); ++server) {
        const bool meant = slow.servers.empty() ||
                           std::find(slow.servers.begin(), slow.servers.end(), server) != slow.servers.end();
        if (meant && slow.kind == Slowness::Kind::kPeriodic) {
          schedule(recurs_at(i, server), Kind::kPeriodic, i, server, true);
        } else if (meant) {
          schedule(slow.at_s + slow.every_s * slowness_.exponential(), Kind::kPause, i, server);
        }
      }
    }
    if (slow.kind == Slowness::Kind::kSet && slow.until_s > 0) {
      schedule(slow.until_s, Kind::kSwitch, i, 0, false);
    }
  }
  for (std::uint32_t i = 0; i < scenario_.faults.size(); ++i) {
    schedule(scenario_.faults[i].at_s, Kind::kFault, i, 0, true);
    if (scenario_.faults[i].until_s > 0) {
      schedule(scenario_.faults[i].until_s, Kind::kFault, i, 0, false);
    }
  }
  for (std::uint32_t i = 0; i < scenario_.churn.size(); ++i) {
    schedule(scenario_.churn[i].at_s, Kind::kChurn, i);
  }
  if (technique_.make_controller) {
    controller_ = technique_.make_controller(scenario_, loop_);
    schedule(loop_.tick_s, Kind::kControl);
  }
}

void Simulation::set_pod_speed(std::uint32_t server) {
  Pod& pod = pods_[server];
  pod.share = 1;
  pod.efficiency = 1;
  pod.wait_rate = 1;
  for (std::size_t i = 0; i < slow_on_.size(); ++i) {
    if (slow_on_[i][server]) {
      const Slowness& slow = scenario_.slowness[i];
      (slow.shows == Slowness::Shows::kWait   ? pod.share
       : slow.shows == Slowness::Shows::kWork ? pod.efficiency
                                              : pod.wait_rate) *= slow.factor;
    }
  }
  if (pod.cold_decay_s > 0 && now_ - pod.joined_s < pod.cold_decay_s) {
    const double left = 1 - (now_ - pod.joined_s) / pod.cold_decay_s;
    pod.efficiency /= 1 + (pod.cold_factor - 1) * left;
    pod.wait_rate /= 1 + (pod.cold_factor - 1) * left;
    schedule(now_ + kColdStep, Kind::kCold, server);
  }
  if (!technique_.pooled) {
    servers_[server].set_speed(now_, pod.share, pod.efficiency);
    servers_[server].set_wait_rate(now_, pod.wait_rate);
    touch(server);
    return;
  }
  std::vector<ServerSpec> specs = scenario_.servers;
  for (const auto& churn : scenario_.churn) {
    specs.insert(specs.end(), churn.add.begin(), churn.add.end());
  }
  double sum = 0;
  for (std::size_t i = 0; i < pods_.size(); ++i) {
    sum += pods_[i].present ? carried(static_cast<std::uint32_t>(i), specs[i]) : 0;
  }
  servers_[0].set_capacity(now_, sum);
  touch(0);
}

void Simulation::rotate_slowness(std::uint32_t index) {
  const Slowness& slow = scenario_.slowness[index];
  std::vector<bool>& on = slow_on_[index];
  std::vector<bool> next(on.size(), false);
  const bool ended = slow.until_s > 0 && now_ >= slow.until_s;
  if (!ended) {
    std::vector<std::uint32_t> candidates = members();
    for (std::uint32_t chosen = 0; chosen < slow.count && !candidates.empty(); ++chosen) {
      const std::uint32_t at = slowness_.below(static_cast<std::uint32_t>(candidates.size()));
      next[candidates[at]] = true;
      candidates.erase(candidates.begin() + at);
    }
    schedule(now_ + slow.every_s, Kind::kRotate, index);
  }
  std::swap(on, next);
  for (std::uint32_t server = 0; server < on.size(); ++server) {
    if (on[server] != next[server]) {
      set_pod_speed(server);
    }
  }
}

/// Work a second that a pod carries as it is now.
double Simulation::carried(std::uint32_t server, const ServerSpec& spec) const {
  const Pod& pod = pods_[server];
  if (scenario_.wait.mean_s <= 0 || !holds_workers(spec, scenario_.discipline)) {
    return spec.capacity() * pod.share * pod.efficiency;
  }
  const double speed = pod.share * pod.efficiency;
  return speed > 0 && pod.wait_rate > 0 ? carried_work(spec, scenario_, speed, 1 / pod.wait_rate) : 0;
}

/// When this server's next time of a periodic slowness begins. Servers that are slow together share
/// the jitter; it does not draw from the run's stream, so other slowness stays as it is.
double Simulation::recurs_at(std::uint32_t index, std::uint32_t server) const {
  const Slowness& slow = scenario_.slowness[index];
  const std::uint32_t time = recurred_[index][server];
  const auto place = std::find(slow.servers.begin(), slow.servers.end(), server);
  const double rank = slow.servers.empty() ? server : static_cast<double>(place - slow.servers.begin());
  double at = slow.at_s + slow.phase_s + time * slow.every_s + rank * slow.stagger_s;
  if (slow.jitter_s > 0) {
    const std::uint64_t own = slow.stagger_s > 0 ? server + 1ULL : 0;
    at += slow.jitter_s * Rng(seed_, Cause::kSlowness, mix(index + 1ULL) ^ mix(own << 32 | time)).uniform();
  }
  return at;
}

void Simulation::recur(std::uint32_t index, std::uint32_t server, bool on) {
  const Slowness& slow = scenario_.slowness[index];
  if (on && slow.until_s > 0 && now_ >= slow.until_s) {
    return;
  }
  slow_on_[index][server] = on;
  set_pod_speed(server);
  if (on) {
    schedule(now_ + slow.duration_s, Kind::kPeriodic, index, server, false);
  } else {
    ++recurred_[index][server];
    schedule(std::max(now_, recurs_at(index, server)), Kind::kPeriodic, index, server, true);
  }
}

void Simulation::switch_slowness(std::uint32_t index, bool on) {
  const Slowness& slow = scenario_.slowness[index];
  for (std::uint32_t server = 0; server < pods_.size(); ++server) {
    const bool meant = slow.servers.empty() ||
                       std::find(slow.servers.begin(), slow.servers.end(), server) != slow.servers.end();
    if (meant) {
      slow_on_[index][server] = on;
      set_pod_speed(server);
    }
  }
}

void Simulation::pause(std::uint32_t index, std::uint32_t server) {
  const Slowness& slow = scenario_.slowness[index];
  const bool begins = !slow_on_[index][server];
  if (begins && slow.until_s > 0 && now_ >= slow.until_s) {
    return;
  }
  slow_on_[index][server] = begins;
  set_pod_speed(server);
  schedule(now_ + (begins ? slow.duration_s : slow.every_s * slowness_.exponential()), Kind::kPause, index,
           server);
}

void Simulation::switch_fault(std::uint32_t index, bool on) {
  for (const std::uint32_t server : scenario_.faults[index].servers) {
    auto& faults = pods_[server].faults;
    if (on) {
      faults.push_back(index);
    } else {
      std::erase(faults, index);
    }
  }
}

bool Simulation::has_fault(std::uint32_t server, Fault::Kind kind, double* latency_s) {
  for (const std::uint32_t index : pods_[server].faults) {
    const Fault& fault = scenario_.faults[index];
    if (fault.kind == kind && (fault.probability >= 1 || faults_.uniform() < fault.probability)) {
      if (latency_s != nullptr) {
        *latency_s = fault.latency_s;
      }
      return true;
    }
  }
  return false;
}

void Simulation::do_churn(std::uint32_t index) {
  auto joining = static_cast<std::uint32_t>(scenario_.servers.size());
  for (std::uint32_t i = 0; i < index; ++i) {
    joining += static_cast<std::uint32_t>(scenario_.churn[i].add.size());
  }
  const Churn& churn = scenario_.churn[index];
  for (std::size_t i = 0; i < churn.add.size(); ++i) {
    Pod& pod = pods_[joining];
    pod.present = true;
    pod.joined_s = now_;
    if (!taken_.empty()) {  // nobody samples otherwise
      taken_[joining] = now_;
    }
    pod.cold_factor = churn.cold_factor;
    pod.cold_decay_s = churn.cold_decay_s;
    set_pod_speed(joining++);
  }
  for (const std::uint32_t server : churn.remove) {
    pods_[server].present = false;
    pods_[server].left_s = now_;
    set_pod_speed(server);
  }
  schedule(now_ + scenario_.eds_delay_s, Kind::kEds);
}

std::vector<std::uint32_t> Simulation::members() const {
  std::vector<std::uint32_t> present;
  for (std::uint32_t server = 0; server < pods_.size(); ++server) {
    if (pods_[server].present) {
      present.push_back(server);
    }
  }
  return present;
}

void Simulation::publish_endpoints() {
  const auto operator_weight = [this](const ServerSpec& spec) {
    return spec.weight > 0 ? spec.weight : carried_work(spec, scenario_);
  };
  std::vector<Endpoint> next;
  for (const std::uint32_t server : members()) {
    const auto known = std::find_if(endpoints_.begin(), endpoints_.end(),
                                    [&](const Endpoint& e) { return e.server == server; });
    // A weight of 1 is a fair share: pushed weights have a mean of 1.
    next.push_back(known != endpoints_.end()
                       ? *known
                       : Endpoint{server, 1, operator_weight(servers_[server].spec()), now_});
  }
  endpoints_ = std::move(next);
  for (auto& balancer : balancers_) {
    balancer->set_endpoints(endpoints_);
  }
}

void Simulation::push_weights(const std::vector<std::uint32_t>& servers, const std::vector<double>& weights) {
  pushes_.push_back({servers, weights});
  schedule(now_ + (technique_.foresight ? 0 : loop_.apply_delay_s), Kind::kWeights);
}

void Simulation::apply_weights() {
  const WeightPush push = std::move(pushes_.front());
  pushes_.pop_front();
  bool changed = false;
  for (auto& endpoint : endpoints_) {
    const auto at = std::find(push.servers.begin(), push.servers.end(), endpoint.server);
    if (at != push.servers.end()) {
      const double weight = push.weights[at - push.servers.begin()];
      changed = changed || weight != endpoint.weight;
      endpoint.weight = weight;
    }
  }
  if (changed) {
    ++pushed_changes_;
    for (auto& balancer : balancers_) {
      balancer->set_endpoints(endpoints_);
    }
  }
}

void Simulation::control() {
  if (scenario_.telemetry.dead_from_s >= 0 && now_ >= scenario_.telemetry.dead_from_s) {
    // The controller is gone; what it pushed last stays until its lease runs out.
    if (scenario_.telemetry.lease_s > 0) {
      schedule(now_ + scenario_.telemetry.lease_s, Kind::kLease);
    }
    return;
  }
  const std::vector<std::uint32_t> servers = members();
  if (const auto weights = controller_->tick(now_, servers, take_telemetry())) {
    push_weights(servers, *weights);
  }
  schedule(now_ + loop_.tick_s, Kind::kControl);
}

void Simulation::refresh_reports() {
  for (std::uint32_t server = 0; server < servers_.size(); ++server) {
    counters_[server].cpu = servers_[server].cpu_time(now_);
    const Counters& is = counters_[server];
    Counters& was = reported_[server];
    LoadReport& report = reports_[server];
    report.qps = static_cast<double>(is.responses - was.responses) / kReportPeriod;
    report.eps = static_cast<double>(is.errors - was.errors) / kReportPeriod;
    report.application = (is.cpu.busy - was.cpu.busy) / (servers_[server].spec().workers * kReportPeriod);
    report.utilization =
        (is.cpu.on_cpu - was.cpu.on_cpu) / (servers_[server].spec().shown_limit() * kReportPeriod);
    was = is;
  }
  schedule(now_ + kReportPeriod, Kind::kReports);
}

ServerTelemetry Simulation::measure(std::uint32_t server) {
  counters_[server].cpu = servers_[server].cpu_time(now_);
  const Counters& is = counters_[server];
  Counters& was = read_[server];
  ServerTelemetry sample;
  sample.server = server;
  sample.taken_s = now_;
  sample.interval_s = now_ - taken_[server];
  sample.requests = is.requests - was.requests;
  sample.responses = is.responses - was.responses;
  sample.errors = is.errors - was.errors;
  sample.in_flight = static_cast<double>(servers_[server].in_flight());
  sample.on_cpu_s = is.cpu.on_cpu - was.cpu.on_cpu;
  sample.wait_s = is.cpu.wait - was.cpu.wait;
  sample.self_wait_s = is.cpu.self_wait - was.cpu.self_wait;
  sample.true_capacity = capacity(server);
  sample.ready_s = is.cpu.ready - was.cpu.ready;
  sample.limit_cores = servers_[server].spec().shown_limit();
  sample.latency_sum_s = is.latency_sum_s - was.latency_sum_s;
  for (std::size_t bucket = 0; bucket < sample.latency.size(); ++bucket) {
    sample.latency[bucket] = is.latency[bucket] - was.latency[bucket];
  }
  was = is;
  taken_[server] = now_;
  return sample;
}

void Simulation::spoil(ServerTelemetry& sample) {
  const TelemetrySpec& spec = scenario_.telemetry;
  if (spec.loss > 0 && telemetry_rng_.uniform() < spec.loss) {
    sample.known = false;
  }
  if (spec.zeros > 0 && telemetry_rng_.uniform() < spec.zeros) {
    const ServerTelemetry real = sample;
    sample = {};
    sample.server = real.server;
    sample.known = real.known;
    sample.taken_s = real.taken_s;
    sample.interval_s = real.interval_s;
  }
  if (spec.noise_cv > 0) {
    const double variance = std::log1p(spec.noise_cv * spec.noise_cv);
    const auto noise = [&] { return std::exp(std::sqrt(variance) * telemetry_rng_.normal() - variance / 2); };
    sample.on_cpu_s *= noise();
    sample.wait_s *= noise();
    sample.self_wait_s = std::min(sample.self_wait_s * noise(), sample.wait_s);
    sample.in_flight = std::round(sample.in_flight * noise());
    const double requests = noise();
    sample.requests =
        static_cast<std::uint64_t>(std::llround(static_cast<double>(sample.requests) * requests));
    sample.responses =
        static_cast<std::uint64_t>(std::llround(static_cast<double>(sample.responses) * requests));
  }
}

std::vector<ServerTelemetry> Simulation::take_telemetry() {
  const TelemetrySpec& spec = scenario_.telemetry;
  std::vector<ServerTelemetry> samples;
  for (const std::uint32_t server : members()) {
    samples.push_back(measure(server));
    spoil(samples.back());
  }
  if (spec.frozen_from_s >= 0 && now_ >= spec.frozen_from_s) {
    // A stuck exporter: the old values under a fresh time, so that age does not give it away.
    if (frozen_.empty()) {
      frozen_ = samples;
    }
    samples = frozen_;
    for (auto& sample : samples) {
      sample.taken_s = now_;
    }
  }
  if (spec.delay_s <= 0) {
    return samples;
  }
  delayed_.push_back(std::move(samples));
  samples = {};
  while (!delayed_.empty() &&
         (delayed_.front().empty() || delayed_.front().front().taken_s + spec.delay_s <= now_ + 1e-9)) {
    samples = std::move(delayed_.front());
    delayed_.pop_front();
  }
  return samples;
}

double Simulation::capacity(std::uint32_t server) const {
  if (!pods_[server].present) {
    return 0;
  }
  return technique_.pooled ? servers_[server].effective_capacity() : carried(server, servers_[server].spec());
}

double Simulation::in_flight(std::uint32_t server) const {
  return static_cast<double>(servers_[server].in_flight());
}

ProbeReply Simulation::probe(std::uint32_t server) const {
  return {static_cast<double>(servers_[server].in_flight()), servers_[server].latency_estimate(now_)};
}

LoadReport Simulation::report(std::uint32_t server) const {
  return reports_[server];
}

}  // namespace ballast::sim
