// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/load_report.h"

#include <fmt/format.h>
#include <time.h>

#include <cstdlib>

#include "core/base/file.h"

namespace ballast::lab {
namespace {

double process_cpu_s() {
  timespec t{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
  return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

}  // namespace

LoadReport::LoadReport(std::filesystem::path quota_file)
    : quota_file_(std::move(quota_file)), begun_(std::chrono::steady_clock::now()), cpu_s_(process_cpu_s()) {}

std::string LoadReport::answered() {
  const std::lock_guard lock(mutex_);
  ++answers_;
  const auto now = std::chrono::steady_clock::now();
  if (now - begun_ < kWindow) {
    return header_;
  }
  const double seconds = std::chrono::duration<double>(now - begun_).count();
  const double cpu_s = process_cpu_s();
  const auto text = read_file(quota_file_);
  const double quota = text ? std::strtod(text->c_str(), nullptr) : 0;
  header_ = quota > 0
                ? fmt::format("endpoint-load-metrics: TEXT cpu_utilization={:.4f},rps_fractional={:.2f}\r\n",
                              (cpu_s - cpu_s_) / seconds / quota, answers_ / seconds)
                : std::string();
  begun_ = now;
  cpu_s_ = cpu_s;
  answers_ = 0;
  return header_;
}

}  // namespace ballast::lab
