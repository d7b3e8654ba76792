// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <vector>

#include "model/sim/balancer.h"

namespace ballast::sim {

/// Peak-EWMA: two distinct endpoints at random, the lower cost * (pending + 1) wins. The cost jumps
/// to a slower round trip at once and decays towards faster ones with time constant tau; it decays
/// towards 0 while nothing is seen, so a slow endpoint is tried again.
/// Sources: Finagle, PeakEwma.scala (tau 10 s); Linkerd 2, default RTT 30 ms where nothing is known.
class PeakEwma final : public Balancer {
 public:
  static constexpr double kTau = 10.0;
  static constexpr double kDefaultRtt = 0.030;
  explicit PeakEwma(const ClientView& view);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) override;
  void on_response(const Response& response) override;
  /// Cost of a server now: cost * (pending + 1).
  double load(std::uint32_t server);

 private:
  struct Cost {
    double value = kDefaultRtt;
    double stamp = 0;
    bool known = false;
  };
  void observe(Cost& cost, double rtt) const;

  ClientView view_;
  Rng rng_;
  std::vector<Endpoint> endpoints_;
  std::vector<Cost> costs_;  ///< by server
};

/// C3's replica ranking: least R - 1/mu + q^3 / mu with q = 1 + outstanding * clients + queue, where
/// R (response time), 1/mu (service time) and queue (piggybacked by the server) are EWMAs with
/// weight .9 on the past. All endpoints are replicas here; ties in turn. Its rate control is left
/// out: it shapes the sender, not the choice.
/// Source: Suresh, Canini, Schmid, Feldmann, NSDI 2015, section 3.1.
class C3 final : public Balancer {
 public:
  static constexpr double kPast = 0.9;
  explicit C3(const ClientView& view) : view_(view) {}
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) override;
  void on_response(const Response& response) override;
  double score(std::uint32_t server) const;

 private:
  struct Seen {
    double response_s = 0;
    double service_s = 0;
    double queue = 0;
    bool known = false;
  };
  ClientView view_;
  std::vector<Endpoint> endpoints_;
  std::vector<Seen> seen_;
  std::size_t last_ = 0;
};

/// Prequal, asynchronous: after each pick, three probes to distinct random servers fill a pool of
/// 16 (one entry a server, at most 1 s old, reused a bounded number of times; each pick removes the
/// oldest and the worst entry in turn). Hot-cold lexicographic: an entry is hot when its requests in
/// flight exceed the .84 quantile of those lately probed; the cold one of least latency wins, or,
/// when all are hot, the one with the fewest in flight. Fewer than two entries: a random server.
/// Sources: Wydrowski, Kleinberg, Rumble, Archer, NSDI 2024, section 4. A probe's answer is there
/// for the next pick: its own travel time is not simulated.
class Prequal final : public Balancer {
 public:
  static constexpr double kHotQuantile = 0.84;
  static constexpr std::size_t kPool = 16;
  static constexpr std::uint32_t kProbes = 3;
  static constexpr double kMaxAge = 1.0;
  static constexpr std::size_t kRifWindow = 128;  ///< probes that the quantile is taken over
  explicit Prequal(const ClientView& view);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) override;

  struct Entry {
    std::uint32_t server = 0;
    double rif = 0;
    double latency_s = 0;
    double taken_s = 0;
    double uses_left = 0;
  };
  /// The rule alone: index of the entry to use. REQUIRES a pool that is not empty.
  static std::size_t choose(const std::vector<Entry>& pool, double hot_above);

 private:
  void probe();
  void forget_old();
  void remove_one();
  double hot_above() const;

  ClientView view_;
  Rng picks_;
  Rng probes_;
  std::vector<Endpoint> endpoints_;
  std::vector<Entry> pool_;
  std::vector<double> rifs_;  ///< ring of the last kRifWindow
  std::size_t next_rif_ = 0;
  bool remove_worst_ = false;
  double reuse_ = 1;
};

/// brpc's locality-aware balancer: an endpoint is picked with probability in proportion to
/// qps / latency^2 over its last 128 answers; requests that are out for more than twice the mean
/// latency pull the weight down at once; a timeout counts as twice its latency; other errors leave
/// the weight alone; never 0. A new endpoint begins with the mean weight.
/// Source: Apache brpc, src/brpc/policy/locality_aware_load_balancer.{h,cpp} with
/// quadratic_latency. The weights lie in a Fenwick tree: O(log n) a pick.
class LocalityAware final : public Balancer {
 public:
  static constexpr std::size_t kWindow = 128;
  static constexpr double kMinimum = 1e-6;  ///< share of the mean weight that always stays
  explicit LocalityAware(const ClientView& view);
  void set_endpoints(const std::vector<Endpoint>& endpoints) override;
  std::uint32_t pick(const Keys& keys) override;
  void on_sent(std::uint32_t server) override;
  void on_response(const Response& response) override;
  double weight(std::uint32_t server) const { return nodes_[server].weight; }

 private:
  struct Answer {
    double ended_s = 0;
    double latency_s = 0;
  };
  struct Node {
    bool known = false;
    std::size_t place = 0;  ///< in the tree
    double base = 0;
    double weight = 0;
    double begin_sum = 0;  ///< of the requests that are out
    std::uint32_t out = 0;
    double mean_latency = 0;
    double latency_sum = 0;
    std::vector<Answer> answers;  ///< ring of kWindow
    std::size_t next = 0;
  };
  void reset_weight(Node& node);
  void set_weight(Node& node, double weight);
  void tree_add(std::size_t place, double diff);
  std::size_t tree_find(double dice) const;

  ClientView view_;
  Rng rng_;
  std::vector<Endpoint> endpoints_;
  std::vector<Node> nodes_;   ///< by server
  std::vector<double> tree_;  ///< Fenwick, 1-based
  double total_ = 0;
};

}  // namespace ballast::sim
