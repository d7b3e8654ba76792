// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <iterator>
#include <string_view>

#include "core/metrics/series.h"

namespace ballast::metrics {

namespace {

std::string escaped(std::string_view text, bool quotes) {
  std::string out;
  for (const char c : text) {
    out += c == '\\' ? "\\\\" : c == '\n' ? "\\n" : c == '"' && quotes ? "\\\"" : std::string(1, c);
  }
  return out;
}

std::string labels_of(const Series& series, std::string_view le) {
  std::string out;
  for (const auto& [name, value] : series.labels) {
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escaped(value, true));
  }
  if (!le.empty()) {
    out += fmt::format("{}le=\"{}\"", out.empty() ? "" : ",", le);
  }
  return out.empty() ? out : "{" + out + "}";
}

void histogram(std::string& out, std::string_view name, const Series& series, bool open_metrics) {
  std::uint64_t count = 0;
  for (std::size_t i = 0; i < series.counts.size(); ++i) {
    count += series.counts[i];
    const std::string le = i < series.bounds.size() ? fmt::format("{}", series.bounds[i]) : "+Inf";
    fmt::format_to(std::back_inserter(out), "{}_bucket{} {}", name, labels_of(series, le), count);
    if (open_metrics && i < series.exemplars.size() && series.exemplars[i]) {
      const Exemplar& one = *series.exemplars[i];
      fmt::format_to(std::back_inserter(out), " # {{trace_id=\"{}\",span_id=\"{}\"}} {:.9g} {:.3f}",
                     one.trace_id, one.span_id, one.value_s, static_cast<double>(one.unix_ns) * 1e-9);
    }
    out += '\n';
  }
  const std::string labels = labels_of(series, "");
  fmt::format_to(std::back_inserter(out), "{0}_count{1} {2}\n{0}_sum{1} {3}\n", name, labels, count,
                 series.sum);
}

}  // namespace

std::string exposition(const std::vector<Family>& families, bool open_metrics) {
  std::string out;
  for (const Family& family : families) {
    const std::string_view name = family.metric->name;
    const bool counter = family.metric->type == Metric::Type::kCounter;
    const bool is_histogram = family.metric->type == Metric::Type::kHistogram;
    // OpenMetrics names a counter without the _total of its series.
    const std::string_view plain = open_metrics && counter ? name.substr(0, name.rfind("_total")) : name;
    fmt::format_to(std::back_inserter(out), "# HELP {0} {1}\n# TYPE {0} {2}\n", plain,
                   escaped(family.metric->help, open_metrics),
                   counter        ? "counter"
                   : is_histogram ? "histogram"
                                  : "gauge");
    for (const Series& series : family.series) {
      if (is_histogram) {
        histogram(out, name, series, open_metrics);
      } else {
        fmt::format_to(std::back_inserter(out), "{}{} {}\n", name, labels_of(series, ""), series.value);
      }
    }
  }
  return open_metrics ? out + "# EOF\n" : out;
}

http::Response scraped(const std::vector<Family>& families, const std::string& accept) {
  const bool open_metrics = accept.find("application/openmetrics-text") != std::string::npos;
  return {.type = open_metrics ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                               : "text/plain; version=0.0.4; charset=utf-8",
          .body = exposition(families, open_metrics)};
}

}  // namespace ballast::metrics
