// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/live.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "core/base/table.h"

namespace ballast::lab {

namespace {

std::size_t terminal_width() {
  winsize size{};
  return ::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 20 ? size.ws_col : 160;
}

std::string milliseconds(double value) {
  return value < 0 ? "-" : fmt::format("{:.1f}", value);
}

}  // namespace

LiveTable::Mode LiveTable::pick(bool wanted) {
  if (!wanted) {
    return Mode::kOff;
  }
  const char* terminal = std::getenv("TERM");
  const bool dumb = terminal == nullptr || std::string_view(terminal) == "dumb";
  return ::isatty(STDOUT_FILENO) == 1 && !dumb ? Mode::kRedraw : Mode::kPrint;
}

void LiveTable::show(const std::string& title, const std::vector<LiveRow>& rows) {
  if (mode_ == Mode::kOff) {
    return;
  }
  using Align = Table::Align;
  Table table({{"service", Align::kLeft},
               {"pod", Align::kLeft},
               {"req/s", Align::kRight},
               {"p50 ms", Align::kRight},
               {"p99 ms", Align::kRight},
               {"in flight", Align::kRight},
               {"CPU/quota", Align::kRight},
               {"weight", Align::kRight},
               {"why", Align::kLeft}});
  for (const auto& row : rows) {
    table.row({row.service, row.pod, fmt::format("{:.0f}", row.rps), milliseconds(row.p50_ms),
               milliseconds(row.p99_ms), std::to_string(row.in_flight),
               fmt::format("{:.2f}/{:.2f}", row.cpu_cores, row.quota), std::to_string(row.weight), row.why});
  }
  const std::size_t width = terminal_width();
  std::string text = fit(title, std::min(width, display_width(title))) + "\n" + table.text(width);
  if (mode_ == Mode::kRedraw && lines_ > 0) {
    // Cursor up and to the left edge, then clear to the end of the screen.
    text = fmt::format("\x1b[{}F\x1b[J", lines_) + text;
  }
  lines_ = static_cast<int>(std::count(text.begin(), text.end(), '\n'));
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace ballast::lab
