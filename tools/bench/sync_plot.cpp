// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tools/bench/sync_command.h"

namespace ballast::bench {

namespace {

constexpr double kLeft = 70, kRight = 650, kTop = 50, kBottom = 350;

struct Axis {
  double least = 1, most = 10;  // decades
  double place(double value, double from, double to) const {
    const double share =
        (std::log10(std::max(value, least)) - std::log10(least)) / (std::log10(most) - std::log10(least));
    return from + share * (to - from);
  }
};

Axis decades(double low, double high) {
  const double least = std::pow(10, std::floor(std::log10(std::max(low, 1e-3))));
  return {least, std::max(10 * least, std::pow(10, std::ceil(std::log10(std::max(high, 1e-3)))))};
}

struct Line {
  const char* name;
  bool fleet;
  double SyncCost::*value;
  const char* colour;
};
constexpr Line kLines[] = {
    {"CPU, µs a push and pull", false, &SyncCost::server_cpu_us_per_sync, "#1b6ca8"},
    {"memory, KiB a worker", false, &SyncCost::server_kib_per_client, "#c0562b"},
    {"CPU, µs a report of a node", true, &SyncCost::server_cpu_us_per_sync, "#2a8a57"},
    {"memory, KiB a node", true, &SyncCost::server_kib_per_client, "#7a4fa3"},
};

std::string draw(const std::vector<SyncCost>& points, const Axis& x, const Axis& y, const Line& line) {
  std::string path;
  std::string dots;
  for (const SyncCost& p : points) {
    if (p.fleet != line.fleet) {
      continue;
    }
    const double px = x.place(p.clients, kLeft, kRight);
    const double py = y.place(p.*line.value, kBottom, kTop);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", px, py);
    dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", px, py, line.colour);
    dots += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>\n", px, py - 9,
                        p.*line.value);
  }
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n{}", path,
                     line.colour, dots);
}

}  // namespace

std::string sync_cost_svg(const std::vector<SyncCost>& points) {
  double low = 1e9, high = 0, few = 1e9, many = 0;
  for (const SyncCost& p : points) {
    low = std::min({low, p.server_cpu_us_per_sync, p.server_kib_per_client});
    high = std::max({high, p.server_cpu_us_per_sync, p.server_kib_per_client});
    few = std::min(few, p.clients);
    many = std::max(many, p.clients);
  }
  const Axis x = decades(few, many);
  const Axis y = decades(low, high);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"430\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"760\" height=\"430\" fill=\"white\"/>\n"
      "<text x=\"70\" y=\"24\" font-size=\"15\">What a worker and a node cost the global network's "
      "server</text>\n";
  for (double v = x.least; v <= x.most * 1.001; v *= 10) {
    const double px = x.place(v, kLeft, kRight);
    out += fmt::format("<line x1=\"{0:.1f}\" y1=\"{1}\" x2=\"{0:.1f}\" y2=\"{2}\" stroke=\"#ddd\"/>\n", px,
                       kTop, kBottom);
    out +=
        fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{:g}</text>\n", px, kBottom + 18, v);
  }
  for (double v = y.least; v <= y.most * 1.001; v *= 10) {
    const double py = y.place(v, kBottom, kTop);
    out += fmt::format("<line x1=\"{1}\" y1=\"{0:.1f}\" x2=\"{2}\" y2=\"{0:.1f}\" stroke=\"#ddd\"/>\n", py,
                       kLeft, kRight);
    out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{:g}</text>\n", kLeft - 8, py + 4, v);
  }
  out += fmt::format(
      "<text x=\"360\" y=\"{}\" text-anchor=\"middle\">workers or nodes, a connection each</text>\n",
      kBottom + 38);
  int legend = 0;
  for (const Line& line : kLines) {
    if (std::any_of(points.begin(), points.end(), [&](const SyncCost& p) { return p.fleet == line.fleet; })) {
      out += draw(points, x, y, line);
      out += fmt::format("<text x=\"{}\" y=\"{}\" fill=\"{}\">{}</text>\n", kLeft + 170 * (legend % 4),
                         kBottom + 60, line.colour, line.name);
      ++legend;
    }
  }
  out += "</svg>\n";
  return out;
}

}  // namespace ballast::bench
