// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/base/statistics.h"
#include "core/base/table.h"

namespace ballast::lab {

namespace {

using json = nlohmann::json;

double rounded(double value) {
  return std::round(value * 1000) / 1000;
}

json optional_number(const std::optional<double>& value) {
  return value ? json(rounded(*value)) : json(nullptr);
}

std::vector<std::string> arm_names(const Report& report) {
  std::vector<std::string> names;
  for (const auto& run : report.runs) {
    if (std::find(names.begin(), names.end(), run.policy) == names.end()) {
      names.push_back(run.policy);
    }
  }
  return names;
}

std::vector<const RunResult*> runs_of(const Report& report, const std::string& policy) {
  std::vector<const RunResult*> runs;
  for (const auto& run : report.runs) {
    if (run.policy == policy) {
      runs.push_back(&run);
    }
  }
  return runs;
}

/// The runs of one arm taken together.
struct Pooled {
  std::vector<double> latencies_ms;
  std::uint64_t requests = 0;
  std::uint64_t failed = 0;
  std::uint64_t unfinished = 0;
  double goodput_rps = 0;
  double utilisation_max_over_mean = 0;
  std::vector<double> convergence_s;

  explicit Pooled(const std::vector<const RunResult*>& runs) {
    for (const auto* run : runs) {
      latencies_ms.insert(latencies_ms.end(), run->latencies_ms.begin(), run->latencies_ms.end());
      requests += run->requests;
      failed += run->failed;
      unfinished += run->unfinished;
      goodput_rps += run->goodput_rps() / static_cast<double>(runs.size());
      utilisation_max_over_mean += run->utilisation_max_over_mean() / static_cast<double>(runs.size());
      if (run->convergence_s) {
        convergence_s.push_back(*run->convergence_s);
      }
    }
    std::sort(latencies_ms.begin(), latencies_ms.end());
  }
  double quantile(double q) const { return quantile_of_sorted(latencies_ms, q); }
};

json pod_json(const PodResult& pod) {
  json out = {{"pod", pod.pod},       {"requests", pod.requests}, {"requests_total", pod.requests_total},
              {"weight", pod.weight}, {"quota", pod.quota},       {"utilisation", rounded(pod.utilisation)}};
  if (pod.kernel) {
    out["kernel"] = {{"requests_total", pod.kernel->kernel_requests},
                     {"first_byte_p50_ms", rounded(pod.kernel->kernel_first_p50_ms)},
                     {"first_byte_p99_ms", rounded(pod.kernel->kernel_first_p99_ms)},
                     {"last_byte_p50_ms", rounded(pod.kernel->kernel_p50_ms)},
                     {"last_byte_p99_ms", rounded(pod.kernel->kernel_p99_ms)}};
  }
  if (pod.upstream_first_p50_ms) {
    out["upstream"] = {{"first_byte_p50_ms", optional_number(pod.upstream_first_p50_ms)},
                       {"first_byte_p99_ms", optional_number(pod.upstream_first_p99_ms)},
                       {"last_byte_p50_ms", optional_number(pod.upstream_last_p50_ms)},
                       {"last_byte_p99_ms", optional_number(pod.upstream_last_p99_ms)}};
  }
  return out;
}

const char* event_name(EventKind kind) {
  switch (kind) {
    case EventKind::kSetQuota:
      return "set_quota";
    case EventKind::kKillPod:
      return "kill_pod";
    case EventKind::kAddPod:
      return "add_pod";
    case EventKind::kKill:
      return "kill";
    case EventKind::kStop:
      return "stop";
    case EventKind::kRestart:
      return "restart";
  }
  return "";
}

json run_json(const RunResult& run) {
  json out = {{"round", run.round},
              {"seed", run.seed},
              {"sent_total", run.sent_total},
              {"answered_by_s", run.answered_by_s},
              {"requests", run.requests},
              {"errors", run.failed + run.unfinished},
              {"failed", run.failed},
              {"unfinished", run.unfinished},
              {"goodput_rps", rounded(run.goodput_rps())},
              {"p50_ms", rounded(run.quantile_ms(0.5))},
              {"p90_ms", rounded(run.quantile_ms(0.9))},
              {"p99_ms", rounded(run.quantile_ms(0.99))},
              {"p999_ms", rounded(run.quantile_ms(0.999))},
              {"generator_lateness_p99_ms", rounded(run.lateness_p99_ms)},
              {"utilisation_max_over_mean", rounded(run.utilisation_max_over_mean())},
              {"first_request_s", rounded(run.first_request_s)},
              {"window_begin_s", rounded(run.window_begin_s)},
              {"convergence_s", optional_number(run.convergence_s)}};
  out["envoy"] = run.envoy;
  out["pods"] = json::array();
  for (const auto& pod : run.pods) {
    out["pods"].push_back(pod_json(pod));
  }
  out["processes"] = json::array();
  for (const auto& use : run.processes) {
    out["processes"].push_back({{"process", use.name},
                                {"rss_peak_mb", rounded(use.rss_peak_mb)},
                                {"millicores", rounded(use.millicores)}});
  }
  out["events"] = json::array();
  for (const auto& result : run.events) {
    json event = {{"at_s", result.event.at_s},
                  {event_name(result.event.kind), result.event.target},
                  {"done", result.done},
                  {"t_s", rounded(result.t_s)}};
    event["reaction_first_s"] = result.reaction ? json(rounded(result.reaction->first_s)) : json(nullptr);
    event["reaction_s"] = result.reaction ? json(rounded(result.reaction->done_s)) : json(nullptr);
    out["events"].push_back(event);
  }
  out["weights_timeline"] = json::array();
  for (const auto& point : run.timeline) {
    out["weights_timeline"].push_back({{"t_s", rounded(point.t_s)}, {"weights", point.weights}});
  }
  return out;
}

std::vector<double> paired_ratios(const Report& report, const std::string& arm, const std::string& other,
                                  double q) {
  std::vector<double> ratios;
  for (const auto* run : runs_of(report, arm)) {
    for (const auto* against : runs_of(report, other)) {
      if (run->round == against->round && against->quantile_ms(q) > 0) {
        ratios.push_back(rounded(run->quantile_ms(q) / against->quantile_ms(q)));
      }
    }
  }
  return ratios;
}

json ratios_json(const Report& report, const std::string& arm) {
  json out = json::object();
  for (const auto& other : arm_names(report)) {
    if (other != arm) {
      const auto p50 = paired_ratios(report, arm, other, 0.5);
      const auto p99 = paired_ratios(report, arm, other, 0.99);
      out[other] = {{"p50", p50}, {"p50_median", median(p50)}, {"p99", p99}, {"p99_median", median(p99)}};
    }
  }
  return out;
}

/// Requests summed over the runs; weight as at the end of the last one.
json pooled_pods(const std::vector<const RunResult*>& runs) {
  json out = json::array();
  for (const auto& pod : runs.back()->pods) {
    std::uint64_t requests = 0;
    for (const auto* run : runs) {
      for (const auto& other : run->pods) {
        requests += other.pod == pod.pod ? other.requests : 0;
      }
    }
    out.push_back({{"pod", pod.pod}, {"requests", requests}, {"weight", pod.weight}});
  }
  return out;
}

}  // namespace

double RunResult::goodput_rps() const {
  return window_s > 0 ? static_cast<double>(requests - failed - unfinished) / window_s : 0;
}

double RunResult::utilisation_max_over_mean() const {
  double sum = 0;
  double most = 0;
  for (const auto& pod : pods) {
    sum += pod.utilisation;
    most = std::max(most, pod.utilisation);
  }
  return sum > 0 ? most * static_cast<double>(pods.size()) / sum : 0;
}

double RunResult::quantile_ms(double q) const {
  return quantile_of_sorted(latencies_ms, q);
}

void add_answers(RunResult& run, const std::vector<Arrival>& arrivals, const std::vector<Answer>& answers,
                 std::uint64_t from_ns, std::uint64_t to_ns) {
  std::vector<double> lateness;
  run.sent_total = arrivals.size();
  for (std::size_t i = 0; i < arrivals.size() && i < answers.size(); ++i) {
    if (arrivals[i].at_ns < from_ns || arrivals[i].at_ns >= to_ns) {
      continue;
    }
    ++run.requests;
    const auto& answer = answers[i];
    run.failed += answer.outcome == Outcome::kError ? 1 : 0;
    run.unfinished += answer.outcome == Outcome::kUnfinished ? 1 : 0;
    if (answer.outcome == Outcome::kOk) {
      const auto second = (arrivals[i].at_ns + answer.latency_ns - from_ns) / 1'000'000'000;
      run.answered_by_s.resize(std::max<std::size_t>(run.answered_by_s.size(), second + 1));
      ++run.answered_by_s[second];
    }
    if (answer.outcome != Outcome::kError) {
      run.latencies_ms.push_back(static_cast<double>(answer.latency_ns) * 1e-6);
    }
    lateness.push_back(static_cast<double>(answer.lateness_ns) * 1e-6);
  }
  std::sort(run.latencies_ms.begin(), run.latencies_ms.end());
  std::sort(lateness.begin(), lateness.end());
  run.lateness_p99_ms = quantile_of_sorted(lateness, 0.99);
}

json to_json(const Report& report) {
  json out = {
      {"scenario", report.scenario.name},
      {"seed", report.seed},
      {"load", report.scenario.load},
      {"offered_rps", rounded(report.scenario.rate())},
      {"warmup_s", report.scenario.warmup_s},
      {"duration_s", report.duration_s},
      {"latency", "from the intended start, warm-up excluded; an unfinished request counts with its age"},
      {"arms", json::array()}};
  for (const auto& name : arm_names(report)) {
    const auto runs = runs_of(report, name);
    const Pooled pooled(runs);
    json arm = {{"policy", name},
                {"runs", runs.size()},
                {"requests", pooled.requests},
                {"errors", pooled.failed + pooled.unfinished},
                {"failed", pooled.failed},
                {"unfinished", pooled.unfinished},
                {"goodput_rps", rounded(pooled.goodput_rps)},
                {"p50_ms", rounded(pooled.quantile(0.5))},
                {"p90_ms", rounded(pooled.quantile(0.9))},
                {"p99_ms", rounded(pooled.quantile(0.99))},
                {"p999_ms", rounded(pooled.quantile(0.999))},
                {"utilisation_max_over_mean", rounded(pooled.utilisation_max_over_mean)},
                {"convergence_s",
                 pooled.convergence_s.empty() ? json(nullptr) : json(rounded(median(pooled.convergence_s)))},
                {"pods", pooled_pods(runs)},
                {"ratios", ratios_json(report, name)},
                {"results", json::array()}};
    for (const auto* run : runs) {
      arm["results"].push_back(run_json(*run));
    }
    out["arms"].push_back(std::move(arm));
  }
  return out;
}

std::string comparison_table(const Report& report) {
  const auto names = arm_names(report);
  const bool has_reference = std::find(names.begin(), names.end(), "least_request") != names.end();
  using Align = Table::Align;
  Table table({{"policy", Align::kLeft},
               {"requests", Align::kRight},
               {"goodput/s", Align::kRight},
               {"p50 ms", Align::kRight},
               {"p90 ms", Align::kRight},
               {"p99 ms", Align::kRight},
               {"p99.9 ms", Align::kRight},
               {"failed", Align::kRight},
               {"unfinished", Align::kRight},
               {"util max/mean", Align::kRight},
               {"p99 / least_request", Align::kRight},
               {"weights", Align::kLeft}});
  for (const auto& name : names) {
    const auto runs = runs_of(report, name);
    const Pooled pooled(runs);
    std::string weights;
    for (const auto& pod : runs.back()->pods) {
      weights += fmt::format("{}{}", weights.empty() ? "" : ":", pod.weight);
    }
    const auto ratios = paired_ratios(report, name, "least_request", 0.99);
    table.row({name, std::to_string(pooled.requests), fmt::format("{:.1f}", pooled.goodput_rps),
               fmt::format("{:.1f}", pooled.quantile(0.5)), fmt::format("{:.1f}", pooled.quantile(0.9)),
               fmt::format("{:.1f}", pooled.quantile(0.99)), fmt::format("{:.1f}", pooled.quantile(0.999)),
               std::to_string(pooled.failed), std::to_string(pooled.unfinished),
               fmt::format("{:.2f}", pooled.utilisation_max_over_mean),
               has_reference && name == "least_request" ? "1"
               : ratios.empty()                         ? "-"
                                                        : fmt::format("{:.2f}", median(ratios)),
               weights});
  }
  return table.text();
}

}  // namespace ballast::lab
