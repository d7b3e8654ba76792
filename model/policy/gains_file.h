// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "core/base/result.h"
#include "core/spec/gains.h"
#include "core/spec/telemetry.h"

namespace ballast::policy {

using GainsByService = std::map<spec::ServiceId, spec::Gains>;

struct GainsFile {
  GainsByService gains;                             ///< that act
  std::map<spec::ServiceId, spec::TwinWord> twins;  ///< what is said of each service that was recorded
};

/// JSON: {"gains": spec::kGainsVersion, "services": {"NAMESPACE/NAME": {"horizon": 0.1, ...}},
/// "twins": {"NAMESPACE/NAME": {"recorded_s": 600, ...}}}; a gain that is not named is 0, and "twins" may be
/// missing. Refused, saying why: another version, an unknown gain, a number outside [-1, 1].
std::string serialize_gains(const GainsFile& file);
Result<GainsFile> parse_gains(std::string_view text);

}  // namespace ballast::policy
