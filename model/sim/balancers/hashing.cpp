// SPDX-License-Identifier: Apache-2.0
#include "model/sim/balancers/hashing.h"

#include <algorithm>
#include <cmath>

namespace ballast::sim {
namespace {

std::uint64_t hash_of(std::uint32_t server, std::uint64_t salt) {
  return mix(mix(server + 1ULL) ^ salt);
}

double heaviest(const std::vector<Endpoint>& endpoints) {
  double most = 0;
  for (const auto& endpoint : endpoints) {
    most = std::max(most, endpoint.weight);
  }
  return most;
}

/// A table that the clients of one run share, built anew when the endpoints change.
template <typename Table>
struct Shared {
  std::vector<Endpoint> built_for;
  std::unique_ptr<Table> table;

  void rebuild(const std::vector<Endpoint>& endpoints,
               std::unique_ptr<Table> (*build)(const std::vector<Endpoint>&)) {
    const bool same = table && std::equal(endpoints.begin(), endpoints.end(), built_for.begin(),
                                          built_for.end(), [](const Endpoint& a, const Endpoint& b) {
                                            return a.server == b.server && a.weight == b.weight;
                                          });
    if (!same) {
      built_for = endpoints;
      table = build(endpoints);
    }
  }
};

std::unique_ptr<Ring> build_ring(const std::vector<Endpoint>& endpoints) {
  return std::make_unique<Ring>(endpoints, Ring::kMinimumSize);
}
std::unique_ptr<MaglevTable> build_maglev(const std::vector<Endpoint>& endpoints) {
  return std::make_unique<MaglevTable>(endpoints);
}

class RingHash final : public Balancer {
 public:
  explicit RingHash(std::shared_ptr<Shared<Ring>> shared) : shared_(std::move(shared)) {}
  void set_endpoints(const std::vector<Endpoint>& endpoints) override {
    shared_->rebuild(endpoints, build_ring);
  }
  std::uint32_t pick(const Keys& keys) override { return shared_->table->find(keys.source); }

 private:
  std::shared_ptr<Shared<Ring>> shared_;
};

class Maglev final : public Balancer {
 public:
  explicit Maglev(std::shared_ptr<Shared<MaglevTable>> shared) : shared_(std::move(shared)) {}
  void set_endpoints(const std::vector<Endpoint>& endpoints) override {
    shared_->rebuild(endpoints, build_maglev);
  }
  std::uint32_t pick(const Keys& keys) override { return shared_->table->find(keys.destination); }

 private:
  std::shared_ptr<Shared<MaglevTable>> shared_;
};

template <typename One, typename Table>
Balancers make_shared_balancers(std::size_t clients) {
  auto shared = std::make_shared<Shared<Table>>();
  Balancers balancers;
  for (std::size_t i = 0; i < clients; ++i) {
    balancers.push_back(std::make_unique<One>(shared));
  }
  return balancers;
}

}  // namespace

Ring::Ring(const std::vector<Endpoint>& endpoints, std::size_t minimum_size) {
  double sum = 0;
  double least = heaviest(endpoints);
  for (const auto& endpoint : endpoints) {
    sum += endpoint.weight;
    least = std::min(least, endpoint.weight);
  }
  // Envoy's scale: a whole number of entries for the lightest endpoint, minimum_size in all.
  const double lightest = least / sum;
  const double scale = std::ceil(lightest * static_cast<double>(minimum_size)) / lightest;
  for (const auto& endpoint : endpoints) {
    const auto entries = static_cast<std::size_t>(std::llround(scale * endpoint.weight / sum));
    for (std::size_t i = 0; i < std::max<std::size_t>(entries, 1); ++i) {
      entries_.emplace_back(hash_of(endpoint.server, i << 32), endpoint.server);
    }
  }
  std::sort(entries_.begin(), entries_.end());
}

std::uint32_t Ring::find(std::uint64_t hash) const {
  const auto it = std::lower_bound(entries_.begin(), entries_.end(), hash,
                                   [](const auto& entry, std::uint64_t h) { return entry.first < h; });
  return it == entries_.end() ? entries_.front().second : it->second;
}

MaglevTable::MaglevTable(const std::vector<Endpoint>& endpoints) {
  std::vector<Permutation> permutations;
  for (const auto& endpoint : endpoints) {
    permutations.push_back({endpoint.server, hash_of(endpoint.server, 0) % kSize,
                            hash_of(endpoint.server, 1) % (kSize - 1) + 1, endpoint.weight});
  }
  table_ = fill(std::move(permutations), kSize);
}

std::vector<std::uint32_t> MaglevTable::fill(std::vector<Permutation> permutations, std::uint32_t size) {
  constexpr std::uint32_t kFree = 0xFFFFFFFF;
  std::vector<std::uint32_t> table(size, kFree);
  std::vector<std::uint64_t> next(permutations.size(), 0);
  std::vector<double> target(permutations.size(), 0);
  double most = 0;
  for (const auto& each : permutations) {
    most = std::max(most, each.weight);
  }
  std::uint32_t filled = 0;
  for (std::uint32_t round = 1; filled < size; ++round) {
    for (std::size_t i = 0; i < permutations.size() && filled < size; ++i) {
      const auto& each = permutations[i];
      if (round * each.weight < target[i]) {
        continue;  // a lighter endpoint sits rounds out
      }
      target[i] += most;
      std::uint64_t place = 0;
      do {
        place = (each.offset + each.skip * next[i]++) % size;
      } while (table[place] != kFree);
      table[place] = each.server;
      ++filled;
    }
  }
  return table;
}

Balancers make_ring_hash(std::span<const ClientView> clients) {
  return make_shared_balancers<RingHash, Ring>(clients.size());
}

Balancers make_maglev(std::span<const ClientView> clients) {
  return make_shared_balancers<Maglev, MaglevTable>(clients.size());
}

}  // namespace ballast::sim
