// SPDX-License-Identifier: Apache-2.0
//
// ballast_cluster_load ADDRESS PORT HOST RATE SECONDS WARM-UP SEED MEAN-MS: open-loop load on pods of
// ballast-lab, each request counted from when it was due. Prints one line of JSON, of what was due after the
// warm-up.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <span>
#include <vector>

#include "core/base/statistics.h"
#include "tools/lab/generator.h"

int main(int argc, char** argv) {
  if (argc != 9) {
    std::fputs("ballast_cluster_load: ADDRESS PORT HOST RATE SECONDS WARM-UP SEED MEAN-MS\n", stderr);
    return 2;
  }
  const std::span<char*> words(argv, static_cast<std::size_t>(argc));
  const auto number = [&](std::size_t at) { return std::strtod(words[at], nullptr); };
  const double seconds = number(5) + number(6);
  const auto arrivals = ballast::lab::make_arrivals({.rate = number(4),
                                                     .seconds = seconds,
                                                     .demand_mean_ms = number(8),
                                                     .sessions = 16,
                                                     .seed = static_cast<std::uint64_t>(number(7))});
  auto load = ballast::lab::Generator::start({.target = {words[1], static_cast<std::uint16_t>(number(2))},
                                              .arrivals = arrivals,
                                              .seconds = seconds,
                                              .max_connections = 512,
                                              .host = words[3]});
  if (!load) {
    std::fprintf(stderr, "ballast_cluster_load: %s\n", load.error().message.c_str());
    return 1;
  }
  const auto answers = (*load)->wait();
  std::vector<double> took_ms;
  std::size_t failed = 0;
  for (std::size_t i = 0; i < answers.size(); ++i) {
    if (static_cast<double>(arrivals[i].at_ns) * 1e-9 >= number(6)) {
      failed += answers[i].outcome == ballast::lab::Outcome::kOk ? 0 : 1;
      took_ms.push_back(static_cast<double>(answers[i].latency_ns) * 1e-6);
    }
  }
  std::sort(took_ms.begin(), took_ms.end());
  fmt::print(R"({{"requests": {}, "failed": {}, "p50_ms": {:.2f}, "p99_ms": {:.2f}}})"
             "\n",
             took_ms.size(), failed, ballast::quantile_of_sorted(took_ms, 0.5),
             ballast::quantile_of_sorted(took_ms, 0.99));
  return 0;
}
