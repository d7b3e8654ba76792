// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "agent/guard/guard.h"

namespace ballast::testing {

/// One endpoint of a test's service; share relative to the others.
struct Wanted {
  std::string pod;
  std::string address;
  std::uint16_t port = 0;
  double share = 1;
};

inline std::vector<Wanted> many_endpoints(std::size_t count, const std::string& name = "pod") {
  std::vector<Wanted> wanted;
  for (std::size_t i = 0; i < count; ++i) {
    wanted.push_back({name + "-" + std::to_string(i),
                      "127.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1), 8080,
                      1.0 + static_cast<double>(i % 2)});
  }
  return wanted;
}

/// Weights as they come in life: through a real Guard, here one that lets shares pass.
class Weigher {
 public:
  Weigher() : guard_(options()) {}

  guard::GuardedWeights weights(const std::string& service, const std::vector<Wanted>& wanted,
                                bool neutral = false) {
    guard::ServiceView view;
    view.service = {"shop", service};
    view.neutral = neutral;
    view.why = "because the test says so";
    double sum = 0;
    for (const Wanted& endpoint : wanted) {
      sum += endpoint.share;
    }
    for (const Wanted& endpoint : wanted) {
      guard::EndpointView& added = view.endpoints.emplace_back();
      added.id = {view.service, endpoint.pod};
      added.address = endpoint.address;
      added.port = endpoint.port;
      added.known = true;
      added.share = endpoint.share / sum;
    }
    // New endpoints begin at fair share; the second tick may move them all the way.
    guard_.apply(view, now_ += 250'000'000);
    return guard_.apply(view, now_ += 250'000'000);
  }

  /// One pod for each share, at 127.1.0.x:8080.
  guard::GuardedWeights by_shares(const std::string& service, const std::vector<double>& shares,
                                  bool neutral = false) {
    std::vector<Wanted> wanted = many_endpoints(shares.size(), service);
    for (std::size_t i = 0; i < shares.size(); ++i) {
      wanted[i].share = shares[i];
    }
    return weights(service, wanted, neutral);
  }

  guard::GuardedWeights release(const std::string& service) { return guard_.release({"shop", service}); }

 private:
  static guard::GuardOptions options() {
    guard::GuardOptions options;
    options.floor = 0.01;
    options.cap = 10;
    options.max_step = 10;
    options.deadband = 0;
    return options;
  }

  guard::Guard guard_;
  MonotonicNs now_ = 1'000'000'000;
};

}  // namespace ballast::testing
