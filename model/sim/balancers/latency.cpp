// SPDX-License-Identifier: Apache-2.0
#include "model/sim/balancers/latency.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ballast::sim {
namespace {

std::size_t servers_of(const std::vector<Endpoint>& endpoints) {
  std::size_t most = 0;
  for (const auto& endpoint : endpoints) {
    most = std::max<std::size_t>(most, endpoint.server + 1ULL);
  }
  return most;
}

template <typename T>
void grow(std::vector<T>& by_server, const std::vector<Endpoint>& endpoints) {
  by_server.resize(std::max(by_server.size(), servers_of(endpoints)));
}

}  // namespace

PeakEwma::PeakEwma(const ClientView& view) : view_(view), rng_(view.seed, Cause::kRouting, view.client) {}

void PeakEwma::set_endpoints(const std::vector<Endpoint>& endpoints) {
  endpoints_ = endpoints;
  grow(costs_, endpoints);
}

void PeakEwma::observe(Cost& cost, double rtt) const {
  const double past = std::exp(-std::max(0.0, *view_.now - cost.stamp) / kTau);
  cost.value = rtt > cost.value ? rtt : cost.value * past + rtt * (1 - past);
  cost.stamp = *view_.now;
}

double PeakEwma::load(std::uint32_t server) {
  Cost& cost = costs_[server];
  if (cost.known) {
    observe(cost, 0);
  }
  return cost.value * (view_.active[server] + 1.0);
}

std::uint32_t PeakEwma::pick(const Keys&) {
  const auto n = static_cast<std::uint32_t>(endpoints_.size());
  const std::uint32_t first = rng_.below(n);
  if (n == 1) {
    return endpoints_[first].server;
  }
  std::uint32_t second = rng_.below(n - 1);
  second += second >= first ? 1 : 0;
  const std::uint32_t a = endpoints_[first].server;
  const std::uint32_t b = endpoints_[second].server;
  return load(b) < load(a) ? b : a;
}

void PeakEwma::on_response(const Response& response) {
  Cost& cost = costs_[response.server];
  if (!cost.known) {
    cost = {response.latency_s, *view_.now, true};
    return;
  }
  observe(cost, response.latency_s);
}

void C3::set_endpoints(const std::vector<Endpoint>& endpoints) {
  endpoints_ = endpoints;
  grow(seen_, endpoints);
}

double C3::score(std::uint32_t server) const {
  const Seen& seen = seen_[server];
  const double queue = 1 + view_.active[server] * static_cast<double>(view_.clients) + seen.queue;
  return seen.response_s - seen.service_s + queue * queue * queue * seen.service_s;
}

std::uint32_t C3::pick(const Keys&) {
  const std::size_t n = endpoints_.size();
  double least = std::numeric_limits<double>::infinity();
  std::size_t best = (last_ + 1) % n;
  for (std::size_t step = 1; step <= n; ++step) {
    const std::size_t i = (last_ + step) % n;
    const double value = score(endpoints_[i].server);
    if (value < least) {
      least = value;
      best = i;
    }
  }
  last_ = best;
  return endpoints_[best].server;
}

void C3::on_response(const Response& response) {
  Seen& seen = seen_[response.server];
  const double past = seen.known ? kPast : 0;
  seen.response_s = past * seen.response_s + (1 - past) * response.latency_s;
  if (response.service_s > 0) {
    seen.service_s = past * seen.service_s + (1 - past) * response.service_s;
    seen.queue = past * seen.queue + (1 - past) * response.queue;
    seen.known = true;
  }
}

Prequal::Prequal(const ClientView& view)
    : view_(view),
      picks_(view.seed, Cause::kRouting, view.client),
      probes_(view.seed, Cause::kProbes, view.client) {}

void Prequal::set_endpoints(const std::vector<Endpoint>& endpoints) {
  endpoints_ = endpoints;
  std::erase_if(pool_, [&](const Entry& entry) {
    return std::none_of(endpoints.begin(), endpoints.end(),
                        [&](const Endpoint& e) { return e.server == entry.server; });
  });
  // b_reuse of the paper, with delta = 1 and one removal a query; where the pool covers the servers
  // its denominator is not positive and entries live until they are old or replaced.
  const double share = 1 - static_cast<double>(kPool) / static_cast<double>(endpoints.size());
  const double rate = share * kProbes - 1;
  reuse_ = rate > 0 ? std::max(1.0, 2 / rate) : 1;
}

double Prequal::hot_above() const {
  if (rifs_.empty()) {
    return std::numeric_limits<double>::infinity();
  }
  std::vector<double> sorted = rifs_;
  const auto at = std::min(sorted.size() - 1,
                           static_cast<std::size_t>(kHotQuantile * static_cast<double>(sorted.size())));
  std::nth_element(sorted.begin(), sorted.begin() + at, sorted.end());
  return sorted[at];
}

std::size_t Prequal::choose(const std::vector<Entry>& pool, double hot_above) {
  std::size_t best = 0;
  for (std::size_t i = 1; i < pool.size(); ++i) {
    const bool hot = pool[i].rif > hot_above;
    const bool best_hot = pool[best].rif > hot_above;
    if (hot != best_hot) {
      best = hot ? best : i;
    } else if (hot ? pool[i].rif < pool[best].rif : pool[i].latency_s < pool[best].latency_s) {
      best = i;
    }
  }
  return best;
}

void Prequal::forget_old() {
  std::erase_if(pool_, [&](const Entry& e) { return e.uses_left <= 0 || *view_.now - e.taken_s > kMaxAge; });
}

void Prequal::remove_one() {
  if (pool_.size() < 2) {
    return;
  }
  auto victim = pool_.begin();
  const double limit = hot_above();
  for (auto it = pool_.begin() + 1; it != pool_.end(); ++it) {
    if (!remove_worst_) {
      victim = it->taken_s < victim->taken_s ? it : victim;
      continue;
    }
    const bool hot = it->rif > limit;
    const bool victim_hot = victim->rif > limit;
    const bool worse = hot != victim_hot ? hot
                       : hot             ? it->rif > victim->rif
                                         : it->latency_s > victim->latency_s;
    victim = worse ? it : victim;
  }
  pool_.erase(victim);
  remove_worst_ = !remove_worst_;
}

void Prequal::probe() {
  const auto n = static_cast<std::uint32_t>(endpoints_.size());
  const std::uint32_t probes = std::min(kProbes, n);
  std::vector<std::uint32_t> chosen;
  while (chosen.size() < probes) {
    const std::uint32_t server = endpoints_[probes_.below(n)].server;
    if (std::find(chosen.begin(), chosen.end(), server) != chosen.end()) {
      continue;
    }
    chosen.push_back(server);
    const ProbeReply reply = view_.world->probe(server);
    if (rifs_.size() < kRifWindow) {
      rifs_.push_back(reply.rif);
    } else {
      rifs_[next_rif_++ % kRifWindow] = reply.rif;
    }
    std::erase_if(pool_, [&](const Entry& e) { return e.server == server; });
    if (pool_.size() >= kPool) {
      pool_.erase(std::min_element(pool_.begin(), pool_.end(),
                                   [](const Entry& a, const Entry& b) { return a.taken_s < b.taken_s; }));
    }
    pool_.push_back({server, reply.rif, reply.latency_s, *view_.now, reuse_});
  }
}

std::uint32_t Prequal::pick(const Keys&) {
  forget_old();
  std::uint32_t server = 0;
  if (pool_.size() < 2) {
    server = endpoints_[picks_.below(static_cast<std::uint32_t>(endpoints_.size()))].server;
  } else {
    Entry& entry = pool_[choose(pool_, hot_above())];
    server = entry.server;
    entry.rif += 1;  // what this client has just added is not in the probe
    entry.uses_left -= 1;
  }
  remove_one();
  probe();
  return server;
}

LocalityAware::LocalityAware(const ClientView& view)
    : view_(view), rng_(view.seed, Cause::kRouting, view.client) {}

void LocalityAware::set_endpoints(const std::vector<Endpoint>& endpoints) {
  const double mean = endpoints_.empty() ? 1 : total_ / static_cast<double>(endpoints_.size());
  endpoints_ = endpoints;
  grow(nodes_, endpoints);
  tree_.assign(endpoints.size() + 1, 0);
  total_ = 0;
  std::vector<bool> listed(nodes_.size(), false);
  for (std::size_t i = 0; i < endpoints.size(); ++i) {
    Node& node = nodes_[endpoints[i].server];
    listed[endpoints[i].server] = true;
    if (!node.known) {
      node.known = true;
      node.base = node.weight = mean;
      node.answers.reserve(kWindow);
    }
    node.place = i + 1;
    tree_add(node.place, node.weight);
  }
  for (std::size_t server = 0; server < nodes_.size(); ++server) {
    if (!listed[server]) {
      nodes_[server].place = 0;  // answers that still come must not touch the tree
    }
  }
}

void LocalityAware::tree_add(std::size_t place, double diff) {
  total_ += diff;
  for (; place < tree_.size(); place += place & (~place + 1)) {
    tree_[place] += diff;
  }
}

std::size_t LocalityAware::tree_find(double dice) const {
  std::size_t place = 0;
  std::size_t step = std::size_t{1} << 30;
  while (step >= tree_.size()) {
    step /= 2;
  }
  for (; step > 0; step /= 2) {
    if (place + step < tree_.size() && tree_[place + step] <= dice) {
      place += step;
      dice -= tree_[place];
    }
  }
  return std::min(place, endpoints_.size() - 1);
}

void LocalityAware::set_weight(Node& node, double weight) {
  if (node.place > 0) {
    tree_add(node.place, weight - node.weight);
  }
  node.weight = weight;
}

void LocalityAware::reset_weight(Node& node) {
  double weight = node.base;
  if (node.out > 0 && node.mean_latency > 0) {
    const double delay = *view_.now - node.begin_sum / node.out;
    if (delay >= 2 * node.mean_latency) {
      weight *= node.mean_latency / delay;
    }
  }
  const double floor = kMinimum * total_ / static_cast<double>(endpoints_.size());
  set_weight(node, std::max(weight, floor));
}

std::uint32_t LocalityAware::pick(const Keys&) {
  // The weight of what was found is brought up to date first; if the dice no longer falls into it,
  // they are thrown again, as brpc does.
  for (std::size_t tries = 0; tries < endpoints_.size(); ++tries) {
    const std::size_t index = tree_find(rng_.uniform() * total_);
    Node& node = nodes_[endpoints_[index].server];
    const double before = node.weight;
    reset_weight(node);
    if (node.weight >= before || rng_.uniform() * before < node.weight) {
      return endpoints_[index].server;
    }
  }
  return endpoints_[rng_.below(static_cast<std::uint32_t>(endpoints_.size()))].server;
}

void LocalityAware::on_sent(std::uint32_t server) {
  nodes_[server].begin_sum += *view_.now;
  ++nodes_[server].out;
}

void LocalityAware::on_response(const Response& response) {
  Node& node = nodes_[response.server];
  node.begin_sum -= response.sent_s;
  --node.out;
  if (!response.ok && !response.timed_out) {
    return;
  }
  const double latency = response.latency_s * (response.timed_out ? 2 : 1);
  const Answer answer{*view_.now, latency};
  Answer oldest = answer;
  if (node.answers.size() < kWindow) {
    node.answers.push_back(answer);
    oldest = node.answers.front();
  } else {
    node.latency_sum -= node.answers[node.next].latency_s;
    node.answers[node.next] = answer;
    node.next = (node.next + 1) % kWindow;
    oldest = node.answers[node.next];
  }
  node.latency_sum += latency;
  const double count = static_cast<double>(node.answers.size());
  const double span = answer.ended_s - oldest.ended_s;
  const double qps = span > 0 ? std::max(1.0, (count - 1) / span) : 1;
  node.mean_latency = node.latency_sum / count;
  node.base = qps / (node.mean_latency * node.mean_latency);
  reset_weight(node);
}

}  // namespace ballast::sim
