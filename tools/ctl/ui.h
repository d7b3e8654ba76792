// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>

#include "core/base/result.h"

namespace ballast::ctl {

struct UiOptions {
  std::filesystem::path bpffs;
  std::string listen = "127.0.0.1:9470";
  std::string report;  ///< a file that is written instead of serving; empty: serve
  int seconds = 10;    ///< of the report
};

/// `ballastctl ui`: serves the page (tools/page/page.h) until it is stopped, or writes it. The last ten
/// minutes are kept. Errors: kUsage for an address that is not loopback's; kFailed naming what cannot be
/// listened on or written.
Status ui(const UiOptions& options);

}  // namespace ballast::ctl
