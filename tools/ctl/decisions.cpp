// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/decisions.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "agent/guard/guard.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

constexpr Reason kReasons[] = {
    {guard::kFloor, "floor", "raised it to the floor"},
    {guard::kCap, "cap", "cut it to the cap"},
    {guard::kStep, "step", "bounded the step of this tick"},
    {guard::kDeadband, "deadband", "held it back, because the change was too small to push"},
    {guard::kStale, "stale", "distrusted telemetry that was too old"},
    {guard::kGarbage, "garbage", "refused a proposal that was not a set of numbers, and went neutral"},
    {guard::kTripped, "tripped",
     "tripped: p99 or errors were worse than under equal weights, and it went neutral"},
    {guard::kBlend, "blend", "let only a part of the change through"},
    {guard::kKillSwitch, "kill_switch", "was told by an operator to keep weights equal"},
    {guard::kNeutral, "neutral", "kept the equal weights that the policy asked for"},
    {guard::kShutdown, "shutdown", "made them equal, because ballastd ended"},
    {guard::kUnproven, "unproven",
     "cut it, because it counted more requests than its weight can have brought"},
};

}  // namespace

Name name_of(const ballast_decision_key& key) {
  Name name;
  name.ns = field(key.ns);
  name.service = field(key.service);
  name.pod = field(key.pod);
  return name;
}

Result<std::vector<sample::DecisionRow>> decisions(const View& view, const std::string& target) {
  auto rows = view.maps.decisions();
  if (!rows) {
    return rows.error();
  }
  std::erase_if(*rows, [&](const auto& row) { return !matches(name_of(row.key), 0, target); });
  std::sort(rows->begin(), rows->end(), [](const auto& a, const auto& b) {
    const auto key = [](const sample::DecisionRow& r) {
      return std::tuple(field(r.key.ns), field(r.key.service), field(r.key.pod));
    };
    return key(a) < key(b);
  });
  return rows;
}

std::vector<Reason> reasons(std::uint32_t bits) {
  std::vector<Reason> found;
  std::copy_if(std::begin(kReasons), std::end(kReasons), std::back_inserter(found),
               [bits](const Reason& r) { return (bits & r.bit) != 0; });
  return found;
}

const char* outcome_name(const ballast_decision_value& v) {
  return guard::to_string(static_cast<guard::Outcome>(v.outcome));
}

Json decision_json(const sample::DecisionRow& row, MonotonicNs now) {
  const auto& v = row.value;
  Json names = Json::array();
  for (const Reason& reason : reasons(v.guard_reasons)) {
    names.push_back(reason.name);
  }
  const double age_s = v.decided_ns > now ? 0 : static_cast<double>(now - v.decided_ns) * 1e-9;
  return {{"namespace", field(row.key.ns)},
          {"service", field(row.key.service)},
          {"pod", field(row.key.pod)},
          {"address", field(v.address)},
          {"weight", v.weight},
          {"neutral", v.neutral != 0},
          {"mode", mode_name(v.mode)},
          {"in_force", v.in_force},
          {"outcome", outcome_name(v)},
          {"outcome_detail", field(v.outcome_detail)},
          {"proposed_neutral", v.asked_neutral != 0},
          {"proposed_share", e6(v.proposed_e6)},
          {"guarded_share", e6(v.guarded_e6)},
          {"shadow_share", e6(v.shadow_e6)},
          {"blend", e6(v.blend_e6)},
          {"log_prior", e6(v.log_prior_e6)},
          {"offset", e6(v.offset_e6)},
          {"guard", names},
          {"policy", field(v.policy)},
          {"policy_epoch", v.policy_epoch},
          {"policy_version", v.policy_version},
          {"age_s", age_s},
          {"why", field(v.why)},
          {"forecast", field(v.forecast)},
          {"twin", field(v.twin)}};
}

Result<Report> weights(View& view, const std::string& target) {
  const auto rows = decisions(view, target);
  if (!rows) {
    return rows.error();
  }
  Report report{Json::array(), ""};
  using Align = Table::Align;
  Table table({{"SERVICE"},
               {"POD"},
               {"ADDRESS"},
               {"WEIGHT", Align::kRight},
               {"IN FORCE", Align::kRight},
               {"OUTCOME"},
               {"SHARE", Align::kRight},
               {"PROPOSED", Align::kRight},
               {"MODE"},
               {"POLICY"},
               {"GUARD"},
               {"WHY"}});
  for (const auto& row : *rows) {
    const auto& v = row.value;
    report.json.push_back(decision_json(row, view.now));
    std::string guard;
    for (const Reason& reason : reasons(v.guard_reasons)) {
      guard += (guard.empty() ? "" : ",") + std::string(reason.name);
    }
    const Name name = name_of(row.key);
    table.row({service_label(name), name.pod, field(v.address), std::to_string(v.weight),
               v.in_force == 0 ? "-" : std::to_string(v.in_force), outcome_name(v),
               human_percent(e6(v.guarded_e6)), human_percent(e6(v.proposed_e6)), mode_name(v.mode),
               field(v.policy), guard.empty() ? "-" : guard, field(v.why)});
  }
  report.text =
      table.empty() ? "No weight was decided: no pod is known to belong to a service.\n" : table.text();
  return report;
}

}  // namespace ballast::ctl
