// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/page.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>

#include "tools/bench/charts.h"

namespace ballast::bench {
namespace {

constexpr const char* kBeforeTitle = R"(<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>)";
constexpr const char* kAfterTitle = R"(</title><style>
:root{--ink:#111;--paper:#fff;--faint:#8888;color-scheme:light dark}
@media (prefers-color-scheme:dark){:root{--ink:#eee;--paper:#181818}}
body{font:16px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);margin:0 auto;padding:0 16px 48px;max-width:960px}
h1{font-size:1.6em}h2{font-size:1.25em;margin:2em 0 .3em}h3{font-size:1em;margin:1.4em 0 .3em}
figure{margin:1.2em 0}figcaption{font-weight:600}
.axis,.legend,.note{font-size:.85em;margin:.2em 0}
.note{opacity:.8}
.legend span{white-space:nowrap;margin-right:.8em}.legend i{display:inline-block;width:1.4em;height:.35em;margin-right:.3em;vertical-align:middle}
svg{width:100%;height:auto;display:block}svg text{font-size:13px;fill:var(--ink)}.grid{stroke:var(--faint);stroke-width:.6}
.pair{display:grid;gap:0 1.2em}@media (min-width:800px){.pair{grid-template-columns:1fr 1fr}}
.wide{overflow-x:auto}table{border-collapse:collapse;font-size:.8em;font-variant-numeric:tabular-nums}
th,td{padding:.15em .45em;text-align:right;border-bottom:1px solid var(--faint)}th:first-child{text-align:left;white-space:nowrap}
td{white-space:nowrap}td:last-child{white-space:normal;min-width:9em}
.heat td{min-width:2.6em;text-align:center;border:1px solid var(--paper)}
.heat th:first-child{position:sticky;left:0;background:var(--paper)}
.turn{vertical-align:bottom}.turn div{writing-mode:vertical-rl;transform:rotate(180deg);white-space:nowrap}
.strong{font-weight:800;text-decoration:underline}.none{opacity:.5}
@media (max-width:600px){svg text{font-size:20px}}
@media print{:root{--ink:#000;--paper:#fff}body{max-width:none;font-size:10pt}figure,tr{break-inside:avoid}h2{break-after:avoid}
.wide{overflow:visible}table{font-size:6.5pt}th,td{padding:.1em .25em}.heat td{min-width:0}td{white-space:normal}*{print-color-adjust:exact;-webkit-print-color-adjust:exact}}
</style></head><body>
)";

const std::vector<std::string> kTraffics = {"normal", "stressful"};

std::string with_interval(const Estimate& i) {
  return fmt::format("{} [{}, {}]", short_number(i.value), short_number(i.low), short_number(i.high));
}

std::string tick_label(const Cell& cell) {
  return cell.tick_s > 0 ? fmt::format("{} at {} s", cell.policy, cell.tick_s) : cell.policy;
}

template <typename Curve>
void add(LineChart& chart, const Curve& curve, const std::string& name, const std::vector<double>& x,
         const std::vector<Estimate>& y, bool strong) {
  static_cast<void>(curve);
  Series series{.name = name, .x = x, .strong = strong};
  for (const auto& i : y) {
    series.y.push_back(i.value);
    series.low.push_back(i.low);
    series.high.push_back(i.high);
  }
  chart.series.push_back(std::move(series));
}

std::string learning(const Figures& f) {
  std::string out = "<h2>Figure 3: six learners</h2>\n";
  if (!f.learning_note.empty()) {
    out += "<p class='note'>" + escaped(f.learning_note) + "</p>\n";
  }
  if (f.learning.empty()) {
    return out;
  }
  out += "<div class='pair'>";
  TextTable table{{"learner", "world", "seeds", "return at the end, IQM [95 %]"}, {}};
  std::vector<std::string> worlds;
  for (const auto& c : f.learning) {
    if (std::find(worlds.begin(), worlds.end(), c.world) == worlds.end()) {
      worlds.push_back(c.world);
    }
  }
  for (const auto& world : worlds) {
    LineChart chart{.title = world,
                    .x_label = "environment steps",
                    .y_label = "return of an episode, interquartile mean over seeds and 95 % interval"};
    for (const auto& c : f.learning) {
      if (c.world == world && !c.steps.empty()) {
        add(chart, c, c.learner, c.steps, c.returns, c.learner == "a3c");
        table.rows.push_back({c.learner, world, std::to_string(c.seeds), with_interval(c.returns.back())});
      }
    }
    out += chart.series.empty() ? "" : svg(chart);
  }
  return out + "</div>\n" + html(table);
}

std::string throughput(const Figures& f) {
  std::string out =
      "<h2>Figure 4: throughput by technique</h2>\n<p class='note'>Requests answered in time, a second; the "
      "same "
      "arrivals and sizes for every technique. Mean over seeds.</p><div class='pair'>\n";
  for (const auto& traffic : kTraffics) {
    LineChart chart{.title = traffic + " traffic",
                    .x_label = "seconds",
                    .y_label = "answered in time, requests/s",
                    .y_from = 0};
    for (const auto& c : f.throughput) {
      if (c.traffic == traffic) {
        add(chart, c, c.label, c.seconds, c.goodput,
            c.policy == "prior_square_root" || c.policy == "ballast");
        chart.series.back().low.clear();
      }
    }
    out += svg(chart);
  }
  out += "</div>\n";
  for (const auto& traffic : kTraffics) {
    TextTable table{
        {traffic + " traffic", "p50 ms", "p99 ms", "p99.9 ms", "answered in time /s", "weight changes /min"},
        {}};
    for (const auto& c : f.throughput) {
      for (const auto& row : f.matrix.rows) {
        if (c.traffic == traffic && row.cell.scenario == traffic && row.cell.policy == c.policy &&
            (row.cell.tick_s == 0 || row.cell.tick_s == 0.25)) {
          table.rows.push_back({c.label, with_interval(row.p50_ms), with_interval(row.p99_ms),
                                with_interval(row.p999_ms), with_interval(row.goodput_rps),
                                short_number(row.churn.value)});
        }
      }
    }
    out += html(table);
  }
  return out;
}

std::vector<std::string> in_order(const Matrix& matrix, bool columns) {
  std::vector<std::string> names;
  for (const auto& row : matrix.rows) {
    const std::string name = columns ? tick_label(row.cell) : row.cell.scenario;
    if (std::find(names.begin(), names.end(), name) == names.end()) {
      names.push_back(name);
    }
  }
  return names;
}

std::string heat(const Matrix& matrix) {
  struct Look {
    const char* title;
    Estimate MatrixRow::*field;
    bool inverse;
  };
  const Look looks[] = {
      {"p99 beside LEAST_REQUEST's (below 1 is better)", &MatrixRow::p99_ratio, false},
      {"p50 beside LEAST_REQUEST's (below 1 is better)", &MatrixRow::p50_ratio, false},
      {"LEAST_REQUEST's goodput beside this one's (below 1 is better)", &MatrixRow::goodput_ratio, true}};
  std::string out =
      "<h2>Scenario by balancer</h2>\n<p class='note'>Geometric means over seeds of paired ratios. Oracles "
      "know what no "
      "deployable balancer can; Prequal and C3 need the servers' help, an answer to a probe or a figure in "
      "every response. Intervals are in matrix.csv. A dash: not run at this tick.</p>\n";
  const auto rows = in_order(matrix, false);
  const auto columns = in_order(matrix, true);
  for (const auto& look : looks) {
    HeatMap map{look.title, rows, columns, {}, {}};
    map.values.assign(rows.size(), std::vector<std::optional<double>>(columns.size()));
    for (const auto& row : matrix.rows) {
      const auto r = std::find(rows.begin(), rows.end(), row.cell.scenario) - rows.begin();
      const auto c = std::find(columns.begin(), columns.end(), tick_label(row.cell)) - columns.begin();
      const double value = (row.*look.field).value;
      map.values[r][c] = look.inverse && value > 0 ? 1 / value : value;
      if (row.cell.policy.starts_with("prior") || row.cell.policy == "ballast") {
        map.strong.push_back(columns[static_cast<std::size_t>(c)]);
      }
    }
    out += html(map, look.inverse ? 1.5 : 4);
  }
  return out;
}

std::string targets(const Matrix& matrix) {
  static const char* const kTargets[] = {
      "(1) never worse than Istio's default: p99 at most 1.01 of LEAST_REQUEST's",
      "(2) better than all that Istio offers, where differences last ten loop delays",
      "(3) better than Peak-EWMA, Prequal, C3, L3, LALB, CSWRR and FULL_SCAN, where they last 10 s",
      "(4) within 10 % of the optimal static split, on static pods"};
  std::set<std::pair<std::string, double>> ticks;
  std::set<std::string> candidates;
  for (const auto& j : matrix.judgements) {
    ticks.insert({j.candidate.policy, j.candidate.tick_s});
    candidates.insert(j.candidate.policy);
  }
  std::string out =
      "<h2>Does it earn its place?</h2>\n<p class='note'>Each cell is the worst comparison of p99 that the "
      "target asks for, on the same seeds. The last column has it with its 95 % interval for the "
      "fastest tick.</p>\n";
  for (const auto& candidate : candidates) {
    for (int target = 1; target <= 4; ++target) {
      TextTable table{{"scenario"}, {}};
      for (const auto& [policy, tick] : ticks) {
        if (policy == candidate) {
          table.head.push_back(fmt::format("T = {} s", tick));
        }
      }
      table.head.push_back("worst against");
      int pass = 0;
      int miss = 0;
      for (const auto& scenario : in_order(matrix, false)) {
        std::vector<std::string> row = {scenario};
        std::string why;
        bool asked = false;
        for (const auto& [policy, tick] : ticks) {
          if (policy != candidate) {
            continue;
          }
          std::string cell = "–";
          for (const auto& j : matrix.judgements) {
            if (j.target == target && j.candidate.policy == candidate && j.candidate.tick_s == tick &&
                j.candidate.scenario == scenario && j.verdict != Ruling::kNotAsked) {
              cell = fmt::format("{} {}", short_number(j.worst), word(j.verdict));
              (j.verdict == Ruling::kPass ? pass : miss) += 1;
              why = why.empty() ? j.why : why;
              asked = true;
            }
          }
          row.push_back(cell);
        }
        row.push_back(why);
        if (asked) {
          table.rows.push_back(std::move(row));
        }
      }
      out += fmt::format("<h3>{}, target {}: {} pass, {} miss</h3>\n{}", escaped(candidate),
                         escaped(kTargets[target - 1]), pass, miss, html(table));
    }
  }
  return out;
}

const MatrixRow* row_of(const Figures& f, const std::string& scenario, const std::string& policy) {
  for (const auto& row : f.matrix.rows) {
    if (row.cell.scenario == scenario && row.cell.policy == policy &&
        (row.cell.tick_s == 0 || row.cell.tick_s == 0.25)) {
      return &row;
    }
  }
  return nullptr;
}

/// What the paper reports, in its order, beside what we found. It prints curves and no figures in its
/// text, so the comparison is of orders and claims.
std::string beside_the_paper(const Figures& f) {
  const auto found = [&](const std::string& traffic) {
    std::vector<std::pair<double, std::string>> ranks;
    for (const auto& c : f.throughput) {
      if (const MatrixRow* row = c.traffic == traffic ? row_of(f, traffic, c.policy) : nullptr) {
        ranks.emplace_back(-row->goodput_rps.value, c.label);
      }
    }
    std::sort(ranks.begin(), ranks.end());
    std::string out;
    for (const auto& [goodput, label] : ranks) {
      out += fmt::format("{}{} {}", out.empty() ? "" : " > ", label, short_number(-goodput));
    }
    return out.empty() ? std::string("not run") : out;
  };
  std::map<std::string, std::vector<std::pair<double, std::string>>> ends;
  for (const auto& c : f.learning) {
    if (!c.returns.empty()) {
      ends[c.world].emplace_back(-c.returns.back().value, c.learner);
    }
  }
  std::string order;
  for (auto& [world, learners] : ends) {
    std::sort(learners.begin(), learners.end());
    order += fmt::format("{}{}: ", order.empty() ? "" : "; ", world);
    for (const auto& [value, learner] : learners) {
      order += fmt::format("{}{} {}", learner == learners.front().second ? "" : " > ", learner,
                           short_number(-value));
    }
  }
  const TextTable table{{"the paper's claim (Kim, Nam)", "ours"},
                        {{"figure 3: A3C learns fast and converges stably, and is robust under stress",
                          order.empty() ? "not available in this run" : "return at the end, " + order},
                         {"figure 4, normal traffic: the proposed technique is not the best",
                          "answered in time a second: " + found("normal")},
                         {"figure 4, stressful traffic: the proposed technique is the best",
                          "answered in time a second: " + found("stressful")}}};
  return "<h2>Beside the paper</h2>\n<p class='note'>The paper gives curves without figures in its text, "
         "measured on "
         "a Kubernetes cluster under JMeter; ours are simulated. So claims stand beside claims.</p>\n" +
         html(table);
}

}  // namespace

std::string page_head(const std::string& title) {
  return kBeforeTitle + escaped(title) + kAfterTitle;
}

std::string page(const Figures& f) {
  return page_head("Ballast: figures") + "<h1>Ballast: learning beside balancing</h1>\n<p class='note'>" +
         escaped(f.how) + "</p>\n" + throughput(f) + html(f.live) + learning(f) + targets(f.matrix) +
         heat(f.matrix) + beside_the_paper(f) + "</body></html>\n";
}

std::string learning_csv(const std::vector<LearningCurve>& curves) {
  std::string out = "learner,world,seeds,steps,iqm,low,high\n";
  for (const auto& c : curves) {
    for (std::size_t i = 0; i < c.steps.size(); ++i) {
      out += fmt::format("{},{},{},{},{:.6g},{:.6g},{:.6g}\n", c.learner, c.world, c.seeds, c.steps[i],
                         c.returns[i].value, c.returns[i].low, c.returns[i].high);
    }
  }
  return out;
}

std::string throughput_csv(const std::vector<ThroughputCurve>& curves) {
  std::string out = "technique,policy,traffic,second,goodput_rps,low,high\n";
  for (const auto& c : curves) {
    for (std::size_t i = 0; i < c.seconds.size(); ++i) {
      out += fmt::format("{},{},{},{},{:.6g},{:.6g},{:.6g}\n", c.label, c.policy, c.traffic, c.seconds[i],
                         c.goodput[i].value, c.goodput[i].low, c.goodput[i].high);
    }
  }
  return out;
}

}  // namespace ballast::bench
