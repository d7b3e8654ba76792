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

std::string line(const std::vector<SyncCost>& points, const Axis& x, const Axis& y, double SyncCost::*value,
                 const char* colour) {
  std::string path;
  std::string dots;
  for (const SyncCost& p : points) {
    const double px = x.place(p.workers, kLeft, kRight);
    const double py = y.place(p.*value, kBottom, kTop);
    path += fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", px, py);
    dots += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"4\" fill=\"{}\"/>\n", px, py, colour);
    dots += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"middle\">{:.0f}</text>\n", px, py - 9,
                        p.*value);
  }
  return fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\"/>\n{}", path,
                     colour, dots);
}

}  // namespace

std::string sync_cost_svg(const std::vector<SyncCost>& points) {
  double low = 1e9, high = 0, few = 1e9, many = 0;
  for (const SyncCost& p : points) {
    low = std::min({low, p.server_cpu_us_per_sync, p.server_kib_per_worker});
    high = std::max({high, p.server_cpu_us_per_sync, p.server_kib_per_worker});
    few = std::min(few, p.workers);
    many = std::max(many, p.workers);
  }
  const Axis x = decades(few, many);
  const Axis y = decades(low, high);
  std::string out =
      "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"700\" height=\"420\" font-family=\"sans-serif\" "
      "font-size=\"12\">\n<rect width=\"700\" height=\"420\" fill=\"white\"/>\n"
      "<text x=\"70\" y=\"24\" font-size=\"15\">Cost of a worker at the global network's server</text>\n";
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
  out += fmt::format("<text x=\"360\" y=\"{}\" text-anchor=\"middle\">workers, a connection each</text>\n",
                     kBottom + 38);
  out += line(points, x, y, &SyncCost::server_cpu_us_per_sync, "#1b6ca8");
  out += line(points, x, y, &SyncCost::server_kib_per_worker, "#c0562b");
  out +=
      "<text x=\"420\" y=\"70\" fill=\"#1b6ca8\">CPU, µs a push and pull</text>\n"
      "<text x=\"420\" y=\"88\" fill=\"#c0562b\">memory, KiB a worker</text>\n</svg>\n";
  return out;
}

}  // namespace ballast::bench
