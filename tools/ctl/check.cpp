// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/check.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "core/base/log.h"

namespace ballast::ctl {
namespace {

constexpr std::array<const char*, 4> kStatus = {"ok", "skipped", "warn", "fail"};

std::string link_of(const Finding& finding) {
  return "docs/troubleshooting.md#check-" + finding.check.substr(0, finding.check.find(' '));
}

}  // namespace

const std::vector<std::string>& check_kinds() {
  static const std::vector<std::string> kKinds = {
      "kernel", "btf",     "cgroup", "capabilities", "security_module", "bpf",      "bpffs",      "memlock",
      "clock",  "pins",    "agent",  "programs",     "policy",          "coverage", "api_server", "rights",
      "istio",  "ambient", "nodes",  "learner",      "global",          "leader",   "service"};
  return kKinds;
}

Checked check(const CheckOptions& options) {
  // What a room would log on the way is what the findings say.
  spdlog::set_level(spdlog::level::off);
  Findings findings;
  check_host(options, findings);
  if (!options.pre) {
    check_node(options, findings);
  }
  check_cluster(options, findings);
  Checked checked{{Json::array(), "", ""}, 0};
  std::array<int, kStatus.size()> counts{};
  for (const Finding& one : findings) {
    const auto level = static_cast<std::size_t>(one.level);
    ++counts[level];
    const bool good = one.level == Level::kOk;
    checked.report.json.push_back({{"check", one.check},
                                   {"status", kStatus[level]},
                                   {"what", one.what},
                                   {"fix", good ? "" : one.fix},
                                   {"link", link_of(one)}});
    checked.report.text += fmt::format("{:<8}{}: {}\n", kStatus[level], one.check, one.what);
    if (one.level >= Level::kWarn) {
      checked.report.text += fmt::format("        fix: {}\n        see: {}\n", one.fix, link_of(one));
    }
    if (one.level == Level::kFail) {
      checked.exit_code = std::max(checked.exit_code, one.privilege ? 3 : 1);
    }
  }
  checked.report.text +=
      fmt::format("{} ok, {} warnings, {} failed, {} skipped\n", counts[0], counts[2], counts[3], counts[1]);
  return checked;
}

}  // namespace ballast::ctl
