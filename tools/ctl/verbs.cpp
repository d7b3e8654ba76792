// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/verbs.h"

#include <algorithm>

namespace ballast::ctl {

const std::vector<Verb>& verbs() {
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

const Verb* find_verb(const std::string& name) {
  const auto found =
      std::find_if(verbs().begin(), verbs().end(), [&](const Verb& v) { return v.name == name; });
  return found == verbs().end() ? nullptr : &*found;
}

}  // namespace ballast::ctl
