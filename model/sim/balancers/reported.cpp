// SPDX-License-Identifier: Apache-2.0
#include "model/sim/balancers/reported.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ballast::sim {

ClientSideWeightedRoundRobin::ClientSideWeightedRoundRobin(const ClientView& view, bool application)
    : view_(view), rng_(view.seed, Cause::kRouting, view.client), application_(application) {}

void ClientSideWeightedRoundRobin::set_endpoints(const std::vector<Endpoint>& endpoints) {
  endpoints_ = endpoints;
  std::size_t servers = seen_.size();
  for (const auto& endpoint : endpoints) {
    servers = std::max<std::size_t>(servers, endpoint.server + 1ULL);
  }
  seen_.resize(servers);
  in_force_.clear();
  rebuild();
}

double ClientSideWeightedRoundRobin::weight(std::uint32_t server) {
  Seen& seen = seen_[server];
  if (*view_.now - seen.last_updated >= kExpiration) {
    seen.non_empty_since = -1;
    return 0;
  }
  const bool blackout = seen.non_empty_since < 0 || *view_.now - seen.non_empty_since < kBlackout;
  return blackout ? 0 : seen.weight;
}

void ClientSideWeightedRoundRobin::rebuild() {
  std::vector<double> weights;
  double sum = 0;
  std::size_t known = 0;
  for (const auto& endpoint : endpoints_) {
    weights.push_back(weight(endpoint.server));
    sum += weights.back();
    known += weights.back() > 0 ? 1 : 0;
  }
  const double stand_in = known < 2 ? 1 : sum / static_cast<double>(known);
  for (double& each : weights) {
    each = known < 2 || each <= 0 ? stand_in : each;
  }
  if (weights == in_force_) {
    return;
  }
  changes_ += in_force_.empty() ? 0 : 1;
  in_force_ = weights;
  std::vector<double> deadlines;
  for (const double each : weights) {
    deadlines.push_back(rng_.uniform() / each);
  }
  edf_.build_at(deadlines);
}

std::uint32_t ClientSideWeightedRoundRobin::pick(const Keys&) {
  return endpoints_[edf_.pick([this](std::size_t i) { return in_force_[i]; })].server;
}

void ClientSideWeightedRoundRobin::on_response(const Response& response) {
  if (response.timed_out) {
    return;  // a report comes with an answer only
  }
  const LoadReport report = view_.world->report(response.server);
  const double utilization = application_ ? report.application : report.utilization;
  if (report.qps <= 0 || utilization <= 0) {
    return;
  }
  Seen& seen = seen_[response.server];
  seen.weight = report.qps / (utilization + report.eps / report.qps * kErrorPenalty);
  seen.last_updated = *view_.now;
  if (seen.non_empty_since < 0) {
    seen.non_empty_since = *view_.now;
  }
}

void ClientSideWeightedRoundRobin::on_tick() {
  rebuild();
}

double L3Controller::weight(const State& state) {
  if (!state.known || state.rps <= 0) {
    return 1;
  }
  const double pressure = state.in_flight / state.rps + 1;
  const double success = std::max(state.success, 0.01);
  return std::max(1.0, 100 / (pressure * pressure * (state.p99_s + kPenalty * (1 / success - 1))));
}

void L3Controller::set_servers(std::size_t servers) {
  seen_.resize(std::max(seen_.size(), servers));
  states_.resize(std::max(states_.size(), servers));
}

void L3Controller::record(const Response& response) {
  Seen& seen = seen_[response.server];
  seen.latencies.push_back(static_cast<float>(response.latency_s));
  (response.ok ? seen.ok : seen.failed) += 1;
}

void L3Controller::run(double now) {
  const double elapsed = now - last_;
  if (elapsed < kLoop * 0.999) {
    return;
  }
  last_ = now;
  ++version_;
  const double fast = std::exp(-elapsed / kFastTau);
  const double slow = std::exp(-elapsed / kSlowTau);
  for (std::size_t server = 0; server < states_.size(); ++server) {
    Seen& seen = seen_[server];
    State& state = states_[server];
    double in_flight = 0;
    for (const auto& client : clients_) {
      in_flight += client.active[server];
    }
    const double answers = seen.ok + seen.failed;
    if (answers > 0) {
      const auto at = seen.latencies.begin() + static_cast<std::ptrdiff_t>(0.99 * (answers - 1));
      std::nth_element(seen.latencies.begin(), at, seen.latencies.end());
      const auto smooth = [&](double& value, double sample, double past) {
        value = state.known ? past * value + (1 - past) * sample : sample;
      };
      smooth(state.p99_s, *at, fast);
      smooth(state.in_flight, in_flight, fast);
      smooth(state.rps, answers / elapsed, slow);
      smooth(state.success, seen.ok / answers, slow);
      state.known = true;
    }
    seen = {};
    state.weight = weight(state);
  }
}

namespace {

class L3Proxy final : public Balancer {
 public:
  L3Proxy(const ClientView& view, std::shared_ptr<L3Controller> controller)
      : view_(view), rng_(view.seed, Cause::kRouting, view.client), controller_(std::move(controller)) {
    controller_->add_client(view);
  }

  void set_endpoints(const std::vector<Endpoint>& endpoints) override {
    endpoints_ = endpoints;
    controller_->set_servers(view_.active.size());
    take_weights();
  }

  std::uint32_t pick(const Keys&) override {
    if (version_ != controller_->version()) {
      take_weights();
      ++changes_;
    }
    const double dice = rng_.uniform() * cumulative_.back();
    const auto it = std::upper_bound(cumulative_.begin(), cumulative_.end(), dice);
    const auto index = std::min<std::size_t>(it - cumulative_.begin(), endpoints_.size() - 1);
    return endpoints_[index].server;
  }

  void on_response(const Response& response) override { controller_->record(response); }
  double period_s() const override { return L3Controller::kLoop; }
  void on_tick() override { controller_->run(*view_.now); }
  std::uint64_t weight_changes() const override { return changes_; }

 private:
  void take_weights() {
    version_ = controller_->version();
    cumulative_.clear();
    double sum = 0;
    for (const auto& endpoint : endpoints_) {
      sum += controller_->weight_of(endpoint.server);
      cumulative_.push_back(sum);
    }
  }

  ClientView view_;
  Rng rng_;
  std::shared_ptr<L3Controller> controller_;
  std::vector<Endpoint> endpoints_;
  std::vector<double> cumulative_;
  std::uint64_t version_ = 0;
  std::uint64_t changes_ = 0;
};

}  // namespace

Balancers make_l3(std::span<const ClientView> clients) {
  auto controller = std::make_shared<L3Controller>();
  Balancers balancers;
  for (const auto& view : clients) {
    balancers.push_back(std::make_unique<L3Proxy>(view, controller));
  }
  return balancers;
}

std::uint32_t ShortestExpectedDelay::pick(const Keys&) {
  const std::size_t n = endpoints_.size();
  std::size_t best = (last_ + 1) % n;
  double least = std::numeric_limits<double>::infinity();
  for (std::size_t step = 1; step <= n; ++step) {
    const std::size_t i = (last_ + step) % n;
    const std::uint32_t server = endpoints_[i].server;
    const double capacity = view_.world->capacity(server);
    const double delay = capacity > 0 ? (view_.world->in_flight(server) + 1) / capacity
                                      : std::numeric_limits<double>::infinity();
    if (delay < least) {
      least = delay;
      best = i;
    }
  }
  last_ = best;
  return endpoints_[best].server;
}

}  // namespace ballast::sim
