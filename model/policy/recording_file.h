// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/spec/recording.h"

namespace ballast::policy {

/// A recording is text, a JSON list a line, so that it can be appended to and a broken end costs one line:
///   {"recording": spec::kRecordingVersion, "policy": "NAME"}
///   [at_s, "NAMESPACE/NAME", tick_s, delay_s, proxies, p50_ms, p99_ms, [["POD", requests, ...], ...]]
std::string recording_header(std::string_view policy);
std::string recording_line(const spec::RecordedTick& tick);

struct Recording {
  std::vector<spec::RecordedTick> ticks;
  std::string policy;              ///< that acted; empty: not told
  std::vector<std::string> notes;  ///< what could not be used, in words
};

/// As far as it goes: lines that are not what they should be are left out and counted in the notes, and so
/// is a header of another version. Total.
Recording parse_recording(std::string_view text);

}  // namespace ballast::policy
