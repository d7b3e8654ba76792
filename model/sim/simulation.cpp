// SPDX-License-Identifier: Apache-2.0
#include "model/sim/simulation.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace ballast::sim {
namespace {

constexpr double kNever = std::numeric_limits<double>::infinity();

std::size_t servers_ever(const Scenario& scenario) {
  std::size_t n = scenario.servers.size();
  for (const auto& churn : scenario.churn) {
    n += churn.add.size();
  }
  return n;
}

LawSpec wait_law(const WaitSpec& wait) {
  LawSpec law;
  law.mean_s = wait.mean_s > 0 ? wait.mean_s : law.mean_s;
  law.cv = wait.cv;
  return law;
}

}  // namespace

double quantile(std::vector<float>& sample, double q) {
  if (sample.empty()) {
    return 0;
  }
  const double at = q * static_cast<double>(sample.size() - 1);
  const auto low = static_cast<std::size_t>(at);
  std::nth_element(sample.begin(), sample.begin() + static_cast<std::ptrdiff_t>(low), sample.end());
  const double below = sample[low];
  if (low + 1 == sample.size()) {
    return below;
  }
  const double above = *std::min_element(sample.begin() + static_cast<std::ptrdiff_t>(low) + 1, sample.end());
  return below + (at - static_cast<double>(low)) * (above - below);
}

Simulation::Simulation(const Scenario& scenario, const Technique& technique, std::uint64_t seed,
                       const LoopOptions& loop)
    : scenario_(scenario),
      technique_(technique),
      loop_(loop),
      seed_(seed),
      arrivals_(scenario, seed),
      law_(scenario.service),
      wait_law_(wait_law(scenario.wait)),
      sizes_(seed, Cause::kSizes),
      client_choice_(seed, Cause::kClients),
      keys_(seed, Cause::kKeys),
      slowness_(seed, Cause::kSlowness),
      faults_(seed, Cause::kFaults),
      telemetry_rng_(seed, Cause::kTelemetry),
      waits_(seed, Cause::kWaits),
      completions_(servers_ever(scenario)) {
  client_sum_.assign(scenario.clients, 0);
  client_count_.assign(scenario.clients, 0);
  start_world();
  next_arrival_ = arrivals_.next();
}

Simulation::~Simulation() = default;

Metrics Simulation::run(double every_s, const std::function<void(double now_s)>& look) {
  for (double until = every_s; run_until(until); until += every_s) {
    look(until);
  }
  return metrics();
}

void Simulation::schedule(double at, Kind kind, std::uint32_t a, std::uint32_t b, bool on) {
  events_.push({at, order_++, kind, a, b, on});
}

bool Simulation::run_until(double until) {
  while (!over_) {
    const double completion = completions_.smallest();
    const double event = events_.empty() ? kNever : events_.top().at;
    const double deadline = deadlines_.empty() ? kNever : deadlines_.front().at;
    const double try_end = try_timeouts_.empty() ? kNever : try_timeouts_.front().at;
    const double next = std::min({completion, next_arrival_, event, deadline, try_end});
    // Without requests to come and without any on the way, what is left are ticks.
    if (next == kNever || (next_arrival_ == kNever && alive_ == 0)) {
      over_ = true;
      break;
    }
    if (next > until) {
      now_ = until;
      return true;
    }
    // Nothing moves any more but the clock: what hangs on a dead server would hang for ever.
    if (next_arrival_ == kNever && next > last_arrival_ + 3600) {
      over_ = true;
      break;
    }
    now_ = next;
    if (next == completion) {
      complete(static_cast<std::uint32_t>(completions_.winner()));
    } else if (next == next_arrival_) {
      arrive();
    } else if (next == event) {
      const Event due = events_.top();
      events_.pop();
      handle(due);
    } else if (next == deadline) {
      const Timeout due = deadlines_.front();
      deadlines_.pop_front();
      deadline_passed(due);
    } else {
      const Timeout due = try_timeouts_.front();
      try_timeouts_.pop_front();
      try_timed_out(due);
    }
  }
  return false;
}

void Simulation::handle(const Event& event) {
  switch (event.kind) {
    case Kind::kDeliver:
      deliver(event.a, event.b, requests_[event.a].server);
      return;
    case Kind::kReply:
      reply(event.a, event.b, event.on);
      return;
    case Kind::kRetry:
      if (requests_[event.a].serial == event.b) {
        start_try(event.a);
      }
      return;
    case Kind::kRotate:
      rotate_slowness(event.a);
      return;
    case Kind::kSwitch:
      switch_slowness(event.a, event.on);
      return;
    case Kind::kPause:
      pause(event.a, event.b);
      return;
    case Kind::kPeriodic:
      recur(event.a, event.b, event.on);
      return;
    case Kind::kCold:
      set_pod_speed(event.a);
      return;
    case Kind::kFault:
      switch_fault(event.a, event.on);
      return;
    case Kind::kChurn:
      do_churn(event.a);
      return;
    case Kind::kEds:
      publish_endpoints();
      return;
    case Kind::kWeights:
      apply_weights();
      return;
    case Kind::kControl:
      control();
      return;
    case Kind::kLease: {
      const auto servers = members();
      push_weights(servers, std::vector<double>(servers.size(), 1));
      return;
    }
    case Kind::kReports:
      refresh_reports();
      return;
    case Kind::kBalancer:
      balancers_[event.a]->on_tick();
      schedule(now_ + balancers_[event.a]->period_s(), Kind::kBalancer, event.a);
      return;
  }
}

double Simulation::delay(std::uint32_t client, std::uint32_t server) const {
  if (scenario_.zone_delay_s.empty() || technique_.pooled) {
    return 0;
  }
  const auto& row = scenario_.zone_delay_s[client % scenario_.zone_delay_s.size()];
  return row[servers_[server].spec().zone] / 2;
}

void Simulation::arrive() {
  std::uint32_t slot = 0;
  if (free_.empty()) {
    slot = static_cast<std::uint32_t>(requests_.size());
    requests_.emplace_back();
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  Request& request = requests_[slot];
  request.start = now_;
  request.work = law_.sample(sizes_);
  request.wait = scenario_.wait.mean_s > 0 ? wait_law_.sample(waits_) : 0;
  request.client = scenario_.clients > 1 ? client_choice_.below(scenario_.clients) : 0;
  request.tries = 0;
  request.counted = now_ >= scenario_.warmup_s;
  request.alive = true;
  if (technique_.keyed) {
    // Popularity ~ 1/rank: the rank of a uniform draw on a logarithmic scale.
    const double rank = std::pow(static_cast<double>(scenario_.paths) + 1, keys_.uniform());
    request.keys = {mix(keys_.below(scenario_.sources)), mix(static_cast<std::uint64_t>(rank) | 1ULL << 40)};
  }
  if (request.counted && !warm_) {
    warm_ = true;
    for (std::uint32_t server = 0; server < servers_.size(); ++server) {
      pods_[server].busy_before = servers_[server].cpu_time(now_).busy;
    }
  }
  ++arrived_;
  ++alive_;
  last_arrival_ = now_;
  if (scenario_.deadline_s > 0) {
    deadlines_.push_back({now_ + scenario_.deadline_s, slot, request.life});
  }
  next_arrival_ = arrivals_.next();
  const bool enough =
      scenario_.requests > 0 ? arrived_ >= scenario_.requests : next_arrival_ > scenario_.duration_s;
  if (enough) {
    next_arrival_ = kNever;
    for (std::uint32_t server = 0; server < servers_.size(); ++server) {
      pods_[server].busy_after = servers_[server].cpu_time(now_).busy;
    }
  }
  start_try(slot);
}

void Simulation::start_try(std::uint32_t slot) {
  Request& request = requests_[slot];
  ++request.serial;
  ++request.tries;
  if (endpoints_.empty()) {
    request.server = kNone;
    finish(slot, false);
    return;
  }
  Balancer& balancer = *balancers_[request.client];
  const std::uint32_t server = technique_.pooled ? 0 : balancer.pick(request.keys);
  request.server = server;
  request.sent = now_;
  ++active_[request.client * servers_.size() + server];
  metrics_.requests_by_server[server] += request.counted ? 1 : 0;
  balancer.on_sent(server);
  if (scenario_.try_timeout_s > 0) {
    try_timeouts_.push_back({now_ + scenario_.try_timeout_s, slot, request.serial});
  }
  const double way = delay(request.client, server);
  if (way > 0) {
    schedule(now_ + way, Kind::kDeliver, slot, request.serial);
  } else {
    deliver(slot, request.serial, server);
  }
}

void Simulation::deliver(std::uint32_t slot, std::uint32_t serial, std::uint32_t server) {
  const Request& request = requests_[slot];
  if (request.serial != serial) {
    return;
  }
  if (!counters_.empty()) {
    ++counters_[server].requests;
  }
  if (!pods_[server].faults.empty()) {
    double latency = 0;
    if (has_fault(server, Fault::Kind::kBlackHole, nullptr)) {
      return;
    }
    if (has_fault(server, Fault::Kind::kFastFail, &latency)) {
      if (!counters_.empty()) {
        ++counters_[server].errors;
        ++counters_[server].responses;
      }
      schedule(now_ + latency + delay(request.client, server), Kind::kReply, slot, serial, false);
      return;
    }
  }
  Job job;
  job.work = request.work;
  job.wait = request.wait;
  job.slot = slot;
  job.serial = serial;
  servers_[server].admit(now_, job);
  touch(server);
}

void Simulation::touch(std::uint32_t server) {
  completions_.update(server, servers_[server].next_completion());
}

void Simulation::complete(std::uint32_t place) {
  Server& server = servers_[place];
  const auto done = server.complete(now_);
  touch(place);
  if (!done) {
    return;
  }
  const Job& job = *done;
  if (!counters_.empty()) {
    Counters& counters = counters_[place];
    const double latency = now_ - job.arrived;
    ++counters.responses;
    counters.latency_sum_s += latency;
    ++counters.latency[ballast_hist_bucket(static_cast<unsigned long long>(latency * 1e9))];
  }
  const Request& request = requests_[job.slot];
  if (request.serial != job.serial) {
    return;  // its client has given up; the work was done for nothing
  }
  const double way = delay(request.client, place);
  if (way > 0) {
    schedule(now_ + way, Kind::kReply, job.slot, job.serial, true);
  } else {
    reply(job.slot, job.serial, true);
  }
}

void Simulation::reply(std::uint32_t slot, std::uint32_t serial, bool ok) {
  const Request& request = requests_[slot];
  if (request.serial != serial) {
    return;
  }
  Response response{request.server, request.sent, now_ - request.sent, ok, false, 0, 0};
  if (ok) {
    const double capacity = servers_[request.server].effective_capacity();
    const double speed = capacity / servers_[request.server].spec().workers;
    response.queue = static_cast<double>(servers_[request.server].in_flight());
    response.service_s = speed > 0 ? request.work / speed : response.latency_s;
    const double waits = pods_[request.server].wait_rate;
    response.service_s += waits > 0 ? request.wait * servers_[request.server].spec().wait_factor / waits : 0;
  }
  try_ended(slot, response);
}

void Simulation::try_ended(std::uint32_t slot, const Response& response) {
  Request& request = requests_[slot];
  --active_[request.client * servers_.size() + request.server];
  balancers_[request.client]->on_response(response);
  if (response.ok) {
    finish(slot, true);
    return;
  }
  request.server = kNone;
  ++request.serial;
  if (request.tries > scenario_.retries) {
    finish(slot, false);
  } else {
    schedule(now_ + scenario_.backoff_s, Kind::kRetry, slot, request.serial);
  }
}

void Simulation::give_up(std::uint32_t slot) {
  Request& request = requests_[slot];
  if (scenario_.cancel && servers_[request.server].cancel(now_, slot, request.serial)) {
    touch(request.server);
  }
}

void Simulation::try_timed_out(const Timeout& timeout) {
  const Request& request = requests_[timeout.slot];
  if (request.serial != timeout.number || request.server == kNone) {
    return;
  }
  give_up(timeout.slot);
  try_ended(timeout.slot, {request.server, request.sent, now_ - request.sent, false, true, 0, 0});
}

void Simulation::deadline_passed(const Timeout& timeout) {
  Request& request = requests_[timeout.slot];
  if (request.life != timeout.number) {
    return;
  }
  if (request.server != kNone) {
    give_up(timeout.slot);
    --active_[request.client * servers_.size() + request.server];
    balancers_[request.client]->on_response(
        {request.server, request.sent, now_ - request.sent, false, true, 0, 0});
  }
  finish(timeout.slot, false);
}

void Simulation::finish(std::uint32_t slot, bool ok) {
  Request& request = requests_[slot];
  ++request.serial;
  ++request.life;
  request.alive = false;
  --alive_;
  free_.push_back(slot);
  const double latency = ok ? now_ - request.start : std::max(now_ - request.start, scenario_.deadline_s);
  if (collect_outcome_) {
    outcome_.latencies.push_back(static_cast<float>(latency));
    outcome_.errors += ok ? 0 : 1;
  }
  if (request.counted) {
    record(latency, ok, request.client);
  }
}

void Simulation::record(double latency_s, bool ok, std::uint32_t client) {
  latencies_.push_back(static_cast<float>(latency_s));
  metrics_.mean_ms += latency_s;
  client_sum_[client] += latency_s;
  ++client_count_[client];
  if (!ok) {
    ++metrics_.errors;
    return;
  }
  const auto second = static_cast<std::size_t>(now_);
  if (second >= metrics_.good_by_second.size()) {
    metrics_.good_by_second.resize(second + 1, 0);
  }
  ++metrics_.good_by_second[second];
}

Simulation::Outcome Simulation::take_outcome() {
  collect_outcome_ = true;
  return std::exchange(outcome_, {});
}

Metrics Simulation::metrics() {
  for (std::uint32_t slot = 0; slot < requests_.size(); ++slot) {
    if (requests_[slot].alive) {
      finish(slot, false);
    }
  }
  Metrics result = std::move(metrics_);
  result.requests = latencies_.size();
  result.duration_s = std::max(last_arrival_ - scenario_.warmup_s, 1e-9);
  result.mean_ms = latencies_.empty() ? 0 : result.mean_ms / static_cast<double>(latencies_.size()) * 1000;
  result.p50_ms = quantile(latencies_, 0.5) * 1000;
  result.p90_ms = quantile(latencies_, 0.9) * 1000;
  result.p99_ms = quantile(latencies_, 0.99) * 1000;
  result.p999_ms = quantile(latencies_, 0.999) * 1000;
  result.goodput_rps = static_cast<double>(result.requests - result.errors) / result.duration_s;
  std::uint64_t own = 0;
  for (const auto& balancer : balancers_) {
    own += balancer->weight_changes();
  }
  const double changes = static_cast<double>(pushed_changes_) + static_cast<double>(own) / scenario_.clients;
  result.weight_changes_per_min = last_arrival_ > 0 ? changes * 60 / last_arrival_ : 0;
  measure_use(result);
  measure_fairness(result);
  return result;
}

void Simulation::measure_use(Metrics& metrics) const {
  double sum = 0;
  double most = 0;
  double counted = 0;
  for (std::uint32_t server = 0; server < servers_.size(); ++server) {
    const Pod& pod = pods_[server];
    const double from = std::max(pod.joined_s, scenario_.warmup_s);
    const double lived = (pod.left_s < 0 ? last_arrival_ : pod.left_s) - from;
    const bool was_there = pod.present || pod.left_s >= 0;
    if (!was_there || lived <= 0 || (technique_.pooled && server > 0)) {
      continue;
    }
    const double used = (pod.busy_after - pod.busy_before) / (lived * servers_[server].spec().workers);
    sum += used;
    most = std::max(most, used);
    counted += 1;
  }
  metrics.utilisation_mean = counted > 0 ? sum / counted : 0;
  metrics.utilisation_max_over_mean = sum > 0 ? most * counted / sum : 1;
}

void Simulation::measure_fairness(Metrics& metrics) const {
  double sum = 0;
  double squares = 0;
  double clients = 0;
  for (std::size_t i = 0; i < client_sum_.size(); ++i) {
    if (client_count_[i] > 0) {
      const double mean = client_sum_[i] / static_cast<double>(client_count_[i]);
      sum += mean;
      squares += mean * mean;
      clients += 1;
    }
  }
  metrics.jain_clients = squares > 0 ? sum * sum / (clients * squares) : 1;
}

}  // namespace ballast::sim
