// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <spdlog/spdlog.h>

#include <string>

#include "core/base/result.h"

namespace ballast {

/// Structured log on stderr, one logfmt-like line an event:
///   ts=2026-11-21T11:00:00.000Z level=info component=ballastd msg="..."
/// Use spdlog::info("weights pushed service={} version={}", ...): key=value pairs in the message.
/// Levels: trace, debug, info, warn, error, off. An unknown level is a usage error.
Status init_log(const std::string& component, const std::string& level);

}  // namespace ballast
