// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <mutex>
#include <string>

namespace ballast::lab {

/// What an application that supports ORCA says of itself with each answer (header endpoint-load-metrics,
/// xds/data/orca/v3), for the arm that needs it: CPU used over CPU allowed and requests a second, of its last
/// window. Thread-safe.
class LoadReport {
 public:
  static constexpr std::chrono::milliseconds kWindow{250};

  /// `quota_file` holds the CPUs that this process may use; it is read again for each window.
  explicit LoadReport(std::filesystem::path quota_file);
  /// Counts an answer; the header line with its end, or nothing before the first window is over.
  std::string answered();

 private:
  std::filesystem::path quota_file_;
  std::mutex mutex_;
  std::chrono::steady_clock::time_point begun_;
  double cpu_s_;
  int answers_ = 0;
  std::string header_;
};

}  // namespace ballast::lab
