// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <string>

#include "agent/guard/guard.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "core/spec/spec.h"
#include "tools/ctl/decisions.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

struct Named {
  const char* name;
  const char* meaning;
};

/// In the order of spec::Feature.
constexpr std::array<Named, spec::kFeatures> kFeatureNames = {{
    {"latency", "log of p50 over the service's median"},
    {"tail_latency", "log of p99 over the service's median p99"},
    {"in_flight", "log of requests in flight over the median"},
    {"run_queue", "share of time spent waiting for a CPU, minus the median"},
    {"qps_share", "log of requests/s over the mean"},
    {"utilisation", "CPU used over CPU it may use, minus the mean"},
    {"load", "mean utilisation of the service"},
    {"memory", "memory used over its limit"},
    {"errors", "share of 5xx"},
    {"trend", "log of p50 in the last tick over p50 in the window"},
    {"age", "log of 1 + age of the sample in ticks"},
    {"persistence", "log of how long differences last over the loop's delay"},
    {"loop_delay", "log of the loop's delay in seconds"},
    {"log_weight", "the offset in force"},
    {"speed", "log of the scheduler's speed over the median"},
    {"prior", "log of the prior over the mean"},
}};

constexpr std::array<const char*, 12> kRawNames = {
    "qps",   "p50_ns",       "p99_ns",       "in_flight",  "cpu_cores", "cpu_limit_cores",
    "speed", "capacity_qps", "memory_bytes", "error_rate", "age_s",     "utilisation"};

/// The decision's features are the head of spec::Observation: own, then mean, then max.
double feature(const ballast_decision_value& v, std::size_t block, std::size_t i) {
  const std::size_t at = block * spec::kFeatures + i;
  return at < std::min<std::size_t>(v.feature_count, BALLAST_DECISION_FEATURES) ? e6(v.features_e6[at]) : NAN;
}

Json number_or_null(double value) {
  return std::isfinite(value) ? Json(value) : Json(nullptr);
}

Json explain_json(const sample::DecisionRow& row, MonotonicNs now) {
  Json json = decision_json(row, now);
  json["action"] = row.value.action < spec::kActions ? spec::kActionStep[row.value.action] : 0.0F;
  Json raw = Json::object();
  for (std::size_t i = 0; i < kRawNames.size(); ++i) {
    raw[kRawNames[i]] = number_or_null(row.value.raw[i]);
  }
  json["measured"] = std::move(raw);
  Json features = Json::object();
  for (std::size_t i = 0; i < spec::kFeatures; ++i) {
    features[kFeatureNames[i].name] = {{"own", number_or_null(feature(row.value, 0, i))},
                                       {"mean", number_or_null(feature(row.value, 1, i))},
                                       {"max", number_or_null(feature(row.value, 2, i))}};
  }
  json["features"] = std::move(features);
  return json;
}

std::string weight_sentence(const sample::DecisionRow& row, std::size_t endpoints, MonotonicNs now) {
  const auto& v = row.value;
  const double age_ns = v.decided_ns > now ? 0 : static_cast<double>(now - v.decided_ns);
  const std::string where = fmt::format("{} at {}", field(row.key.pod), field(v.address));
  const std::string weight =
      fmt::format("weight {}, {} of the traffic of {} endpoint{}", v.weight, human_percent(e6(v.guarded_e6)),
                  endpoints, endpoints == 1 ? "" : "s");
  const std::string when =
      fmt::format("decided {} ago, mode {}", human_duration_ns(age_ns), mode_name(v.mode));
  if (v.in_force == v.weight) {
    return fmt::format("{} has {} ({}).\n", where, weight, when);
  }
  return fmt::format("{} would have {} ({}), but {}.\n", where, weight, when,
                     v.in_force == 0 ? std::string("no weight of ours is in force")
                                     : fmt::format("weight {} is in force", v.in_force));
}

std::string outcome_sentence(const ballast_decision_value& v) {
  static const std::map<guard::Outcome, const char*> kSentences = {
      {guard::Outcome::kNone, "it was not handed to a sink yet"},
      {guard::Outcome::kWritten, "it was written"},
      {guard::Outcome::kAcknowledged, "every proxy that asked for it has acknowledged it"},
      {guard::Outcome::kHeldBack, "it is held back"},
      {guard::Outcome::kNotLeader, "it is not written here, for another process writes"},
      {guard::Outcome::kRefused, "it was refused"}};
  const auto found = kSentences.find(static_cast<guard::Outcome>(v.outcome));
  const std::string detail = field(v.outcome_detail);
  if (found != kSentences.end() && found->first == guard::Outcome::kAcknowledged && !detail.empty()) {
    return fmt::format("  Outcome: it was written, and {}.\n", detail);
  }
  return fmt::format("  Outcome: {}{}{}.\n", found == kSentences.end() ? "unknown" : found->second,
                     detail.empty() ? "" : ": ", detail);
}

std::string measured_sentences(const ballast_decision_value& v) {
  const auto& raw = v.raw;
  if (raw[BALLAST_RAW_CPU_LIMIT_CORES] == 0 && raw[BALLAST_RAW_QPS] == 0) {
    return "  Measured: nothing yet (its cgroup is not on this node, is gone, or was never sampled).\n";
  }
  std::string out = fmt::format(
      "  Measured: {} requests/s, p50 {}, p99 {}, {} in flight, {} errors, {} of memory; the sample is {} "
      "old.\n",
      human_number(raw[BALLAST_RAW_QPS]), human_duration_ns(raw[BALLAST_RAW_P50_NS]),
      human_duration_ns(raw[BALLAST_RAW_P99_NS]), human_number(raw[BALLAST_RAW_IN_FLIGHT]),
      human_percent(raw[BALLAST_RAW_ERROR_RATE]), human_bytes(raw[BALLAST_RAW_MEMORY_BYTES]),
      human_duration_ns(raw[BALLAST_RAW_AGE_S] * 1e9));
  out +=
      fmt::format("  CPU: it uses {} of the {} cores that it may use, at {} of full speed: utilisation {}.\n",
                  human_number(raw[BALLAST_RAW_CPU_CORES]), human_number(raw[BALLAST_RAW_CPU_LIMIT_CORES]),
                  human_percent(raw[BALLAST_RAW_SPEED]), human_percent(raw[BALLAST_RAW_UTILISATION]));
  if (raw[BALLAST_RAW_CAPACITY_QPS] > 0) {
    out += fmt::format("  Prior: it can carry {} requests/s, {:.3f} times the service's mean.\n",
                       human_number(raw[BALLAST_RAW_CAPACITY_QPS]), std::exp(e6(v.log_prior_e6)));
  } else {
    out += "  Prior: its capacity is not known yet, so the service's mean stands in for it.\n";
  }
  return out;
}

std::string decision_sentences(const ballast_decision_value& v) {
  const double step = v.action < spec::kActions ? static_cast<double>(spec::kActionStep[v.action]) : 0;
  std::string out =
      fmt::format("  Policy {} (epoch {}, version {}): offset {:+.3f}, {}; it proposed {}.\n",
                  field(v.policy), v.policy_epoch, v.policy_version, e6(v.offset_e6),
                  step == 0 ? "kept in this tick" : fmt::format("moved by {:+.2f} in this tick", step),
                  v.asked_neutral != 0 ? "equal weights" : human_percent(e6(v.proposed_e6)));
  const auto done = reasons(v.guard_reasons);
  if (done.empty()) {
    const bool by_mode = v.mode != static_cast<std::uint32_t>(guard::Mode::kActive) && v.asked_neutral == 0;
    out += by_mode ? "  Guard: it kept weights equal, as the mode says.\n" : "  Guard: it changed nothing.\n";
  } else {
    out += "  Guard: it ";
    for (std::size_t i = 0; i < done.size(); ++i) {
      out += std::string(i == 0 ? "" : "; it ") + done[i].sentence;
    }
    out += ".\n";
  }
  if (v.mode != static_cast<std::uint32_t>(guard::Mode::kActive) && v.asked_neutral == 0) {
    out += fmt::format("  Mode {}: active, it would go towards {}.\n", mode_name(v.mode),
                       human_percent(e6(v.shadow_e6)));
  }
  if (const std::string why = field(v.why); !why.empty()) {
    out += "  Why: " + why + "\n";
  }
  if (v.forecast[0] != 0) {
    out += "  Forecast: " + field(v.forecast) + "\n";
  }
  if (v.twin[0] != 0) {
    out += "  Twin: " + field(v.twin) + "\n";
  }
  return out + outcome_sentence(v);
}

std::string feature_table(const ballast_decision_value& v) {
  using Align = Table::Align;
  Table table(
      {{"  FEATURE"}, {"OWN", Align::kRight}, {"MEAN", Align::kRight}, {"MAX", Align::kRight}, {"MEANING"}});
  const auto text = [](double value) { return std::isfinite(value) ? fmt::format("{:+.3f}", value) : "-"; };
  for (std::size_t i = 0; i < spec::kFeatures; ++i) {
    table.row({std::string("  ") + kFeatureNames[i].name, text(feature(v, 0, i)), text(feature(v, 1, i)),
               text(feature(v, 2, i)), kFeatureNames[i].meaning});
  }
  return table.text();
}

}  // namespace

Result<Report> explain(View& view, const std::string& target) {
  const auto rows = decisions(view, target);
  if (!rows) {
    return rows.error();
  }
  if (rows->empty()) {
    return Error::failed("nothing was decided for " + target + ": `ballastctl weights` lists what is known");
  }
  Report report{Json::array(), ""};
  for (const auto& row : *rows) {
    const auto of_service = decisions(view, field(row.key.ns) + "/" + field(row.key.service));
    report.json.push_back(explain_json(row, view.now));
    report.text += (report.text.empty() ? "" : "\n") + service_label(name_of(row.key)) + "/" +
                   weight_sentence(row, of_service ? of_service->size() : 0, view.now) +
                   measured_sentences(row.value) + decision_sentences(row.value) + feature_table(row.value);
  }
  return report;
}

}  // namespace ballast::ctl
