// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/charts.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace ballast::bench {
namespace {

constexpr double kWidth = 640;
constexpr double kHeight = 300;
constexpr double kLeft = 52;
constexpr double kRight = 8;
constexpr double kTop = 10;
constexpr double kBottom = 34;

// Okabe and Ito's palette, which the colour-blind can tell apart; black goes to the strong one.
constexpr std::array<const char*, 7> kColours = {"#0072b2", "#e69f00", "#009e73", "#cc79a7",
                                                 "#56b4e9", "#d55e00", "#7f7f7f"};
constexpr std::array<const char*, 3> kDashes = {"none", "6 3", "2 3"};

struct Axis {
  double low = 0;
  double high = 1;
  double step = 1;

  static Axis over(double low, double high) {
    if (!(high > low)) {
      high = low + 1;
    }
    const double raw = (high - low) / 5;
    const double power = std::pow(10, std::floor(std::log10(raw)));
    const double lead = raw / power;
    Axis axis;
    axis.step = power * (lead <= 1 ? 1 : lead <= 2 ? 2 : lead <= 5 ? 5 : 10);
    axis.low = std::floor(low / axis.step) * axis.step;
    axis.high = std::ceil(high / axis.step) * axis.step;
    return axis;
  }
};

struct Plane {
  Axis x;
  Axis y;
  double at_x(double v) const { return kLeft + (v - x.low) / (x.high - x.low) * (kWidth - kLeft - kRight); }
  double at_y(double v) const {
    return kHeight - kBottom - (v - y.low) / (y.high - y.low) * (kHeight - kTop - kBottom);
  }
};

Plane plane_of(const LineChart& chart) {
  double x_low = INFINITY;
  double x_high = -INFINITY;
  double y_low = INFINITY;
  double y_high = -INFINITY;
  for (const auto& s : chart.series) {
    for (const double x : s.x) {
      x_low = std::min(x_low, x);
      x_high = std::max(x_high, x);
    }
    for (const auto* values : {&s.y, &s.low, &s.high}) {
      for (const double y : *values) {
        y_low = std::min(y_low, y);
        y_high = std::max(y_high, y);
      }
    }
  }
  if (!std::isfinite(x_low) || !std::isfinite(y_low)) {
    return {Axis::over(0, 1), Axis::over(0, 1)};
  }
  Plane plane{Axis::over(x_low, x_high), Axis::over(chart.y_from.value_or(y_low), y_high)};
  plane.x.low = x_low;  // lines fill the width; the ticks stay round
  plane.x.high = std::max(x_high, x_low + 1e-9);
  return plane;
}

std::string grid(const LineChart& chart, const Plane& plane) {
  std::string out;
  for (double y = plane.y.low; y <= plane.y.high + plane.y.step / 2; y += plane.y.step) {
    const double at = plane.at_y(y);
    const double shown = std::abs(y) < plane.y.step * 1e-9 ? 0 : y;
    out += fmt::format("<line class='grid' x1='{}' x2='{}' y1='{:.1f}' y2='{:.1f}'/>", kLeft, kWidth - kRight,
                       at, at);
    out += fmt::format("<text x='{}' y='{:.1f}' text-anchor='end'>{}</text>", kLeft - 5, at + 4,
                       short_number(shown));
  }
  for (double x = std::ceil(plane.x.low / plane.x.step - 1e-9) * plane.x.step; x <= plane.x.high + 1e-9;
       x += plane.x.step) {
    out += fmt::format("<text x='{:.1f}' y='{}' text-anchor='middle'>{}</text>", plane.at_x(x),
                       kHeight - kBottom + 15, short_number(x));
  }
  out += fmt::format("<text x='{}' y='{}' text-anchor='end'>{}</text>", kWidth - kRight, kHeight - 4,
                     escaped(chart.x_label));
  return out;
}

std::string path_of(const std::vector<double>& x, const std::vector<double>& y, const Plane& plane,
                    bool back) {
  std::string out;
  const std::size_t n = std::min(x.size(), y.size());
  for (std::size_t k = 0; k < n; ++k) {
    const std::size_t i = back ? n - 1 - k : k;
    out += fmt::format("{}{:.1f} {:.1f}", k == 0 && !back ? "M" : "L", plane.at_x(x[i]), plane.at_y(y[i]));
  }
  return out;
}

std::string colour_of(std::size_t index, bool strong) {
  return strong ? "var(--ink)" : kColours[index % kColours.size()];
}

std::string line_of(const Series& s, std::size_t index, const Plane& plane) {
  const std::string colour = colour_of(index, s.strong);
  std::string out;
  if (!s.low.empty() && s.low.size() == s.high.size()) {
    out += fmt::format("<path d='{}{}Z' style='fill:{};opacity:.15'/>", path_of(s.x, s.high, plane, false),
                       path_of(s.x, s.low, plane, true), colour);
  }
  out += fmt::format("<path d='{}' style='fill:none;stroke:{};stroke-width:{};stroke-dasharray:{}'/>",
                     path_of(s.x, s.y, plane, false), colour, s.strong ? 2.6 : 1.5,
                     s.strong ? "none" : kDashes[(index / kColours.size() + index) % kDashes.size()]);
  return out;
}

}  // namespace

std::string escaped(const std::string& text) {
  std::string out;
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '\'':
        out += "&#39;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string short_number(double value) {
  if (!std::isfinite(value)) {
    return "–";
  }
  const double size = std::abs(value);
  if (size >= 9999.5) {
    return size >= 999'500 ? fmt::format("{:.3g}M", value / 1e6) : fmt::format("{:.3g}k", value / 1e3);
  }
  return size >= 99.95 ? fmt::format("{:.0f}", value) : fmt::format("{:.3g}", value);
}

std::string svg(const LineChart& chart) {
  const Plane plane = plane_of(chart);
  std::string lines;
  std::string legend;
  for (const bool strong : {false, true}) {
    for (std::size_t i = 0; i < chart.series.size(); ++i) {
      if (chart.series[i].strong == strong) {
        lines += line_of(chart.series[i], i, plane);
        legend += fmt::format("<span><i style='background:{}'></i>{}</span> ", colour_of(i, strong),
                              escaped(chart.series[i].name));
      }
    }
  }
  return fmt::format(
      "<figure><figcaption>{0}</figcaption><p class='axis'>{1}</p><svg viewBox='0 0 {2} {3}' role='img' "
      "aria-label='{0}'>{4}{5}</svg><p class='legend'>{6}</p></figure>\n",
      escaped(chart.title), escaped(chart.y_label), kWidth, kHeight, grid(chart, plane), lines, legend);
}

std::string html(const HeatMap& map, double full) {
  const auto is_strong = [&](const std::string& name) {
    return std::find(map.strong.begin(), map.strong.end(), name) != map.strong.end();
  };
  std::string out =
      fmt::format("<figure><figcaption>{}</figcaption><div class='wide'><table class='heat'><tr><th></th>",
                  escaped(map.title));
  for (const auto& column : map.columns) {
    out += fmt::format("<th class='turn{}'><div>{}</div></th>", is_strong(column) ? " strong" : "",
                       escaped(column));
  }
  out += "</tr>\n";
  for (std::size_t r = 0; r < map.rows.size(); ++r) {
    out += fmt::format("<tr><th>{}</th>", escaped(map.rows[r]));
    for (std::size_t c = 0; c < map.columns.size(); ++c) {
      const auto& value = map.values[r][c];
      if (!value || !(*value > 0)) {
        out += "<td class='none'>–</td>";
        continue;
      }
      const double depth = std::clamp(std::log(*value) / std::log(full), -1.0, 1.0);
      out += fmt::format("<td style='background:rgba({},{:.2f})'>{}</td>",
                         depth < 0 ? "0,158,115" : "213,94,0", 0.75 * std::abs(depth), short_number(*value));
    }
    out += "</tr>\n";
  }
  return out + "</table></div></figure>\n";
}

std::string html(const TextTable& table) {
  std::string out = "<div class='wide'><table><tr>";
  for (const auto& head : table.head) {
    out += "<th>" + escaped(head) + "</th>";
  }
  out += "</tr>\n";
  for (const auto& row : table.rows) {
    out += "<tr>";
    for (std::size_t i = 0; i < row.size(); ++i) {
      out += (i == 0 ? "<th>" : "<td>") + escaped(row[i]) + (i == 0 ? "</th>" : "</td>");
    }
    out += "</tr>\n";
  }
  return out + "</table></div>\n";
}

}  // namespace ballast::bench
