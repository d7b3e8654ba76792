// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "agent/guard/guard.h"

namespace ballast::telemetry {

/// Weights through a real Guard that lets shares pass: one pod for each share, at 127.1.0.x:8080.
class Weigher {
 public:
  guard::GuardedWeights weights(const std::string& service, const std::vector<double>& shares,
                                bool neutral = false) {
    guard::ServiceView view;
    view.service = {"shop", service};
    view.neutral = neutral;
    view.why = "because the test says so";
    double sum = 0;
    for (const double share : shares) {
      sum += share;
    }
    for (std::size_t i = 0; i < shares.size(); ++i) {
      guard::EndpointView& endpoint = view.endpoints.emplace_back();
      endpoint.id = {view.service, service + "-" + std::to_string(i)};
      endpoint.address = "127.1." + std::to_string(i / 250) + "." + std::to_string(i % 250 + 1);
      endpoint.port = 8080;
      endpoint.known = true;
      endpoint.share = shares[i] / sum;
    }
    guard_.apply(view, now_ += 250'000'000);
    return guard_.apply(view, now_ += 250'000'000);
  }

 private:
  static guard::GuardOptions options() {
    guard::GuardOptions options;
    options.floor = 0.01;
    options.cap = 10;
    options.max_step = 10;
    options.deadband = 0;
    return options;
  }

  guard::Guard guard_{options()};
  MonotonicNs now_ = 1'000'000'000;
};

}  // namespace ballast::telemetry
