// SPDX-License-Identifier: Apache-2.0
#include "model/sim/balancers/envoy.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace ballast::sim {

std::vector<double> square_root_split(const std::vector<double>& capacities, double load) {
  std::vector<bool> used(capacities.size(), true);
  std::vector<double> share(capacities.size(), 0);
  bool again = true;
  while (again) {
    again = false;
    double total = 0;
    double roots = 0;
    for (std::size_t i = 0; i < capacities.size(); ++i) {
      if (used[i]) {
        total += capacities[i];
        roots += std::sqrt(capacities[i]);
      }
    }
    for (std::size_t i = 0; i < capacities.size(); ++i) {
      share[i] = used[i] ? capacities[i] - std::sqrt(capacities[i]) * (total - load) / roots : 0;
      if (used[i] && share[i] < 0) {
        used[i] = false;
        again = true;
      }
    }
  }
  const double fair = load / static_cast<double>(capacities.size());
  for (double& each : share) {
    each = std::max(each, fair / 1000);
  }
  return share;
}

EnvoyBalancer::EnvoyBalancer(const ClientView& view, Weights weights, double load)
    : view_(view), rng_(view.seed, Cause::kRouting, view.client), which_(weights), load_(load) {
  start_ = static_cast<std::uint32_t>(rng_.next() >> 32) % 429'496'729U;  // Envoy's own limit
}

void EnvoyBalancer::choose_weights() {
  weights_.clear();
  for (const auto& endpoint : endpoints_) {
    switch (which_) {
      case Weights::kNone:
        weights_.push_back(1);
        break;
      case Weights::kOperator:
      case Weights::kStatic:
        weights_.push_back(endpoint.operator_weight);
        break;
      case Weights::kEds:
        weights_.push_back(endpoint.weight);
        break;
      case Weights::kNow:
        weights_.push_back(view_.world->capacity(endpoint.server));
        break;
    }
  }
  if (which_ == Weights::kStatic || which_ == Weights::kNow) {
    weights_ = square_root_split(weights_, load_);
  }
}

void EnvoyBalancer::set_endpoints(const std::vector<Endpoint>& endpoints) {
  endpoints_ = endpoints;
  choose_weights();
  schedule();
}

void EnvoyBalancer::on_tick() {
  const std::vector<double> before = weights_;
  choose_weights();
  if (weights_ != before) {
    schedule();
  }
}

void EnvoyBalancer::schedule() {
  edf_.clear();
  const bool equal =
      std::all_of(weights_.begin(), weights_.end(), [&](double w) { return w == weights_[0]; });
  if ((equal && !force_schedule()) || endpoints_.size() < 2) {
    return;
  }
  std::vector<double> scheduled(endpoints_.size());
  for (std::size_t i = 0; i < scheduled.size(); ++i) {
    scheduled[i] = schedule_weight(i);
  }
  edf_.build(scheduled, start_);
}

std::uint32_t EnvoyBalancer::pick(const Keys&) {
  const std::size_t index =
      edf_.empty() ? unweighted_pick() : edf_.pick([this](std::size_t i) { return schedule_weight(i); });
  return endpoints_[index].server;
}

RoundRobin::RoundRobin(const ClientView& view, Weights weights, double load)
    : EnvoyBalancer(view, weights, load), turn_(rng_.next() >> 16) {}

std::size_t RoundRobin::unweighted_pick() {
  return turn_++ % endpoints_.size();
}

LeastRequest::LeastRequest(const ClientView& view, Weights weights, LeastRequestOptions options, double load)
    : EnvoyBalancer(view, weights, load), options_(options) {}

bool LeastRequest::warming(const Endpoint& endpoint) const {
  return options_.slow_start_window_s > 0 && endpoint.joined_s > 0 &&
         *view_.now - endpoint.joined_s < options_.slow_start_window_s;
}

bool LeastRequest::force_schedule() const {
  return std::any_of(endpoints_.begin(), endpoints_.end(), [this](const Endpoint& e) { return warming(e); });
}

double LeastRequest::schedule_weight(std::size_t index) const {
  const double requests = active(index) + 1.0;
  double weight = weights_[index];
  weight /= options_.active_request_bias == 1 ? requests : std::pow(requests, options_.active_request_bias);
  if (warming(endpoints_[index])) {
    const double age = std::max(0.001, *view_.now - endpoints_[index].joined_s);
    const double factor = std::pow(age / options_.slow_start_window_s, 1 / options_.slow_start_aggression);
    weight *= std::max(options_.slow_start_min, factor);
  }
  return weight;
}

std::size_t LeastRequest::unweighted_pick() {
  const auto n = static_cast<std::uint32_t>(endpoints_.size());
  if (!options_.full_scan) {
    const std::size_t first = rng_.below(n);
    const std::size_t second = rng_.below(n);
    return active(second) < active(first) ? second : first;
  }
  std::size_t best = 0;
  std::uint32_t tied = 1;
  for (std::size_t i = 1; i < n; ++i) {
    if (active(i) < active(best)) {
      best = i;
      tied = 1;
    } else if (active(i) == active(best) && rng_.below(++tied) == 0) {
      best = i;
    }
  }
  return best;
}

Random::Random(const ClientView& view) : rng_(view.seed, Cause::kRouting, view.client) {}

std::uint32_t Random::pick(const Keys&) {
  return endpoints_[rng_.below(static_cast<std::uint32_t>(endpoints_.size()))].server;
}

std::uint32_t LeastConnections::pick(const Keys&) {
  const std::size_t n = endpoints_.size();
  std::size_t best = n;
  double least = 0;
  for (std::size_t step = 1; step <= n; ++step) {
    const std::size_t i = (last_ + step) % n;
    const double load = view_.active[endpoints_[i].server] / endpoints_[i].operator_weight;
    if (best == n || load < least) {
      best = i;
      least = load;
    }
  }
  last_ = best;
  return endpoints_[best].server;
}

}  // namespace ballast::sim
