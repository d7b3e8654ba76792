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
/// JSON of `requests` and `loss` is a contract: what scripts read stays.
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
  Result<Report> (*run)(View& view,
                        const std::string& target);  ///< null: `top` and `global`, which read otherwise
  bool takes_target = true;
  bool needs_target = false;
};

/// In the order of the help.
inline const std::vector<Verb>& verbs() {
  static const std::vector<Verb> kVerbs = {
      {"status", "is ballastd alive, what is attached, which policy acts", status, false},
      {"requests", "requests, status classes and latency by cgroup, role and protocol", requests},
      {"histogram", "latency histograms", histogram},
      {"connections", "connections by cgroup", connections},
      {"cpu", "time on CPU and waiting for it by cgroup", cpu},
      {"calls", "who calls whom, how often and how slowly; also -o dot", calls},
      {"spans", "sampled requests of late, joined into traces", spans},
      {"loss", "what could not be measured, by reason", loss, false},
      {"weights", "the weight of each endpoint", weights},
      {"explain", "why an endpoint has its weight", explain, true, true},
      {"global", "a ballast-global; TARGET is the IP:PORT of its --operations", nullptr},
      {"top", "a live table; q quits", nullptr},
  };
  return kVerbs;
}
const Verb* find_verb(const std::string& name);

}  // namespace ballast::ctl
