// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "model/sim/balancer.h"

namespace ballast::sim {

/// Hash position of a server; both tables are the same in every proxy, so they are built once and
/// shared. Our mixing function stands in for Envoy's xxHash: placement differs, statistics do not.

/// Ketama ring: each endpoint has entries in proportion to its weight, at least `minimum_size` in
/// all; a key goes to the first entry at or after its hash.
/// Source: Envoy, ring_hash_lb.cc (minimum_ring_size 1024).
class Ring {
 public:
  static constexpr std::size_t kMinimumSize = 1024;
  Ring(const std::vector<Endpoint>& endpoints, std::size_t minimum_size);
  std::uint32_t find(std::uint64_t hash) const;
  std::size_t size() const { return entries_.size(); }

 private:
  std::vector<std::pair<std::uint64_t, std::uint32_t>> entries_;
};

/// Maglev's table: each endpoint in turn takes the next free place of its own permutation (offset +
/// skip * i) mod size, endpoints of lower weight less often. Source: Eisenbud 2016, listing 1;
/// Envoy, maglev_lb.cc (table size 65537).
class MaglevTable {
 public:
  static constexpr std::uint32_t kSize = 65537;
  struct Permutation {
    std::uint32_t server = 0;
    std::uint64_t offset = 0;
    std::uint64_t skip = 1;
    double weight = 1;
  };
  /// Fills a table of `size` (a prime) from given permutations.
  static std::vector<std::uint32_t> fill(std::vector<Permutation> permutations, std::uint32_t size);
  explicit MaglevTable(const std::vector<Endpoint>& endpoints);
  std::uint32_t find(std::uint64_t hash) const { return table_[hash % kSize]; }

 private:
  std::vector<std::uint32_t> table_;
};

/// One balancer a client over tables they share: by the request's source (RING_HASH) or by its
/// destination (MAGLEV).
Balancers make_ring_hash(std::span<const ClientView> clients);
Balancers make_maglev(std::span<const ClientView> clients);

}  // namespace ballast::sim
