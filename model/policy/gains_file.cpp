// SPDX-License-Identifier: Apache-2.0
#include "model/policy/gains_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace ballast::policy {

using nlohmann::ordered_json;

std::string serialize_gains(const GainsByService& gains) {
  ordered_json services = ordered_json::object();
  for (const auto& [service, values] : gains) {
    ordered_json& entry = services[service.ns + "/" + service.name];
    for (std::size_t i = 0; i < spec::kGains; ++i) {
      entry[std::string(spec::kGainNames[i])] = values[i];
    }
  }
  return ordered_json{{"gains", spec::kGainsVersion}, {"services", services}}.dump(1) + "\n";
}

Result<GainsByService> parse_gains(std::string_view text) {
  const auto json = ordered_json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("gains") || !json.contains("services") ||
      !json["services"].is_object()) {
    return Error::usage("no gains: a JSON object with gains and services is wanted");
  }
  if (json["gains"] != spec::kGainsVersion) {
    return Error::usage(fmt::format("gains of version {}, this program has {}: learn them anew",
                                    json["gains"].dump(), spec::kGainsVersion));
  }
  GainsByService all;
  for (const auto& [service, entry] : json["services"].items()) {
    const auto slash = service.find('/');
    if (slash == std::string::npos || !entry.is_object()) {
      return Error::usage("gains of '" + service + "': NAMESPACE/NAME and an object of gains are wanted");
    }
    spec::Gains& gains = all[{service.substr(0, slash), service.substr(slash + 1)}];
    gains.fill(0);
    for (const auto& [name, value] : entry.items()) {
      const auto at = std::find(spec::kGainNames.begin(), spec::kGainNames.end(), name);
      if (at == spec::kGainNames.end() || !value.is_number() || !(std::abs(value.get<double>()) <= 1)) {
        return Error::usage(
            fmt::format("gains of {}: {} = {} is no gain within [-1, 1]", service, name, value.dump()));
      }
      gains[static_cast<std::size_t>(at - spec::kGainNames.begin())] = value;
    }
  }
  return all;
}

}  // namespace ballast::policy
