// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::bench {

/// `ballast-bench life`: one long run, looked at minute by minute.
struct LifeOptions {
  std::string scenario;
  std::vector<std::string> policies;
  std::string loop_name = "istio";
  std::uint64_t seed = 1;
  double every_s = 60;
  std::string output;  ///< CSV: policy, minute, requests, p50_ms, p99_ms
};

Status run_life(const LifeOptions& options);

}  // namespace ballast::bench
