// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "tools/ctl/view.h"

/// The verbs of ballastctl. Each reads the pinned maps once. `target` limits the rows (names.h);
/// empty means all.
namespace ballast::ctl {

/// [{the names of a cgroup, "kind","events","last_seen_s"}]: what of it is not measured.
Result<Json> coverage_json(View& view);

Result<Report> status(View& view, const std::string& target);
/// JSON of `requests` and `loss` is what others script against.
Result<Report> requests(View& view, const std::string& target);
Result<Report> histogram(View& view, const std::string& target);
Result<Report> connections(View& view, const std::string& target);
Result<Report> cpu(View& view, const std::string& target);
/// The call graph: also in DOT.
Result<Report> calls(View& view, const std::string& target);
/// Sampled requests of late, joined into trees.
Result<Report> spans(View& view, const std::string& target);
Result<Report> loss(View& view, const std::string& target);
Result<Report> weights(View& view, const std::string& target);
/// kFailed when nothing was decided for the target.
Result<Report> explain(View& view, const std::string& target);

struct Verb {
  const char* name;
  const char* help;
  Result<Report> (*run)(View& view, const std::string& target);  ///< null: reads otherwise, see main.cpp
  const char* target = "";  ///< what may be named behind it; empty: nothing
  bool needs_target = false;
};

/// In the order of the help. A new verb takes its file, its declaration above and its line here.
inline const std::vector<Verb>& verbs() {
  constexpr const char* kRows = "rows of SERVICE, POD or SERVICE/POD, a cgroup path or a cgroup id";
  static const std::vector<Verb> all = {
      {"status", "is ballastd alive, what is attached, which policy acts", status},
      {"requests", "requests, status classes and latency by cgroup, role and protocol", requests, kRows},
      {"histogram", "latency histograms", histogram, kRows},
      {"connections", "connections by cgroup", connections, kRows},
      {"cpu", "time on CPU and waiting for it by cgroup", cpu, kRows},
      {"calls", "who calls whom, how often and how slowly; also -o dot", calls, kRows},
      {"spans", "sampled requests of late, joined into traces", spans, kRows},
      {"loss", "what could not be measured, by reason", loss},
      {"weights", "the weight of each endpoint", weights, kRows},
      {"explain", "why an endpoint has its weight", explain, "SERVICE or SERVICE/POD", true},
      {"global", "a ballast-global", nullptr, "IP:PORT of its --operations", true},
      {"top", "a live table; q quits", nullptr, kRows},
      {"release", "give Services back to plain Kubernetes", nullptr, "NAMESPACE/SERVICE"},
  };
  return all;
}

}  // namespace ballast::ctl
