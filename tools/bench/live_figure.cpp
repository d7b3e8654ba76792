// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/live_figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

namespace {

using nlohmann::json;

constexpr std::size_t kBins = 24;

struct Arm {
  std::string policy;
  Estimate p99;
};

bool ours(const std::string& policy) {
  return policy.starts_with("ballast") || policy == "queue_rule";
}

std::vector<double> over_rounds(const json& arm, const char* key) {
  std::vector<double> values;
  for (const auto& run : arm.at("results")) {
    values.push_back(run.at(key).get<double>());
  }
  return values;
}

std::string with_interval(const Estimate& i) {
  return fmt::format("{} [{}, {}]", short_number(i.value), short_number(i.low), short_number(i.high));
}

Series series_of(const json& arm, std::size_t seconds) {
  const std::string policy = arm.at("policy");
  Series out{.name = policy, .strong = ours(policy)};
  const std::size_t bin = std::max<std::size_t>(1, seconds / kBins);
  for (std::size_t begin = 0; begin + bin <= seconds; begin += bin) {
    std::vector<double> rates;
    for (const auto& run : arm.at("results")) {
      const auto& answered = run.at("answered_by_s");
      double sum = 0;
      for (std::size_t s = begin; s < begin + bin && s < answered.size(); ++s) {
        sum += answered[s].get<double>();
      }
      rates.push_back(sum / static_cast<double>(bin));
    }
    out.x.push_back(static_cast<double>(begin) + 0.5 * static_cast<double>(bin));
    out.y.push_back(bootstrap_mean(rates).value);
  }
  return out;
}

std::vector<std::string> judged(const std::vector<Arm>& arms) {
  const auto& best = *std::min_element(arms.begin(), arms.end(),
                                       [](const Arm& a, const Arm& b) { return a.p99.value < b.p99.value; });
  std::vector<std::string> out;
  for (const auto& arm : arms) {
    if (!ours(arm.policy)) {
      continue;
    }
    const bool within = arm.p99.low <= best.p99.high;
    out.push_back(arm.policy == best.policy ? arm.policy + " has the lowest p99 of all."
                  : within
                      ? fmt::format("{}: p99 within its interval of {}, the lowest.", arm.policy, best.policy)
                      : fmt::format("{} is not the best: {} has {:.2f} of its p99.", arm.policy, best.policy,
                                    best.p99.value / arm.p99.value));
  }
  return out;
}

LiveFigure figure_of(const json& report, const std::string& client, const std::string& traffic) {
  LiveFigure out;
  const auto seconds = static_cast<std::size_t>(report.at("duration_s").get<double>());
  const std::string who = client == "jmeter" ? "Apache JMeter (closed loop)" : "open-loop generator";
  out.chart = {.title = fmt::format("{} traffic, {}", traffic, who),
               .x_label = "seconds",
               .y_label = "answered, requests/s",
               .series = {},
               .y_from = 0};
  out.table.head = {
      fmt::format("{} traffic, {}", traffic, who), "rounds", "p50 ms", "p99 ms", "answered /s", "failed"};
  std::vector<Arm> arms;
  static_cast<void>(report.at("arms").at(0));  // a report without an arm is none
  for (const auto& arm : report.at("arms")) {
    const std::string policy = arm.at("policy");
    const auto p99 = over_rounds(arm, "p99_ms");
    out.chart.series.push_back(series_of(arm, seconds));
    arms.push_back({policy, bootstrap_mean(p99)});
    out.table.rows.push_back(
        {policy, std::to_string(p99.size()), with_interval(bootstrap_mean(over_rounds(arm, "p50_ms"))),
         with_interval(arms.back().p99), with_interval(bootstrap_mean(over_rounds(arm, "goodput_rps"))),
         std::to_string(arm.at("errors").get<std::uint64_t>())});
  }
  out.judgement = judged(arms);
  return out;
}

}  // namespace

Result<std::vector<LiveFigure>> read_live(const std::filesystem::path& folder) {
  std::vector<LiveFigure> out;
  for (const char* client : {"jmeter", "generator"}) {
    for (const char* traffic : {"normal", "stress", "spike"}) {
      const auto file = folder / fmt::format("{}-{}.json", client, traffic);
      if (!std::filesystem::exists(file)) {
        continue;
      }
      const auto text = read_file(file);
      if (!text) {
        return text.error();
      }
      try {
        out.push_back(figure_of(json::parse(*text), client, traffic));
      } catch (const json::exception& error) {
        return Error::usage(
            fmt::format("{} is no whole report of ballast-lab: {}", file.string(), error.what()));
      }
    }
  }
  if (out.empty()) {
    return Error::usage(folder.string() + " holds no report of tools/jmeter/run");
  }
  return out;
}

std::string html(const std::vector<LiveFigure>& figures) {
  if (figures.empty()) {
    return "";
  }
  std::string out =
      "<h2>Figure 4, live</h2>\n<p class='note'>Real Envoys and pods (tools/jmeter/run), mean over the "
      "rounds and 95 % "
      "interval. JMeter's users wait for their answers: throughput. The generator sends when a request is "
      "due: "
      "latency.</p><div class='pair'>\n";
  for (const auto& figure : figures) {
    out += svg(figure.chart);
  }
  out += "</div>\n";
  for (const auto& figure : figures) {
    out += html(figure.table);
    for (const auto& sentence : figure.judgement) {
      out += "<p class='note'>" + escaped(sentence) + "</p>\n";
    }
  }
  return out;
}

}  // namespace ballast::bench
