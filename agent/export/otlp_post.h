// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/base/result.h"

namespace ballast::telemetry {

/// `endpoint` with `path` behind it where it has none of its own. kUsage: it is no http:// or https:// URL.
Result<std::string> otlp_url(const std::string& endpoint, const std::string& path);

enum class OtlpAnswer { kTaken, kTryAgain, kRefused };

/// One OTLP/HTTP export request in JSON. What fails is logged once, and once more when it works again:
/// `complaint` is what was logged last.
OtlpAnswer otlp_post(const std::string& url, const std::string& body, std::chrono::milliseconds timeout,
                     const char* what, std::string& complaint);

}  // namespace ballast::telemetry
