// SPDX-License-Identifier: Apache-2.0
#include "model/policy/gains_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "core/spec/service_name.h"

namespace ballast::policy {

using nlohmann::ordered_json;

namespace {

double number(const ordered_json& entry, const char* name) {
  const double value = entry.value(name, 0.0);
  return std::isfinite(value) ? std::clamp(value, 0.0, 1e9) : 0;
}

}  // namespace

std::string serialize_gains(const GainsFile& file) {
  ordered_json services = ordered_json::object();
  for (const auto& [service, values] : file.gains) {
    ordered_json& entry = services[to_string(service)];
    for (std::size_t i = 0; i < spec::kGains; ++i) {
      entry[std::string(spec::kGainNames[i])] = values[i];
    }
  }
  ordered_json twins = ordered_json::object();
  for (const auto& [service, word] : file.twins) {
    twins[to_string(service)] = {{"recorded_s", word.recorded_s},
                                 {"gaps", word.gaps},
                                 {"foreseen_p99_ms", word.foreseen_p99_ms},
                                 {"came_p99_ms", word.came_p99_ms},
                                 {"ratio", word.ratio},
                                 {"low", word.low},
                                 {"high", word.high},
                                 {"note", word.note}};
  }
  return ordered_json{{"gains", spec::kGainsVersion}, {"services", services}, {"twins", twins}}.dump(
             1, ' ', false, ordered_json::error_handler_t::replace) +
         "\n";
}

Result<GainsFile> parse_gains(std::string_view text) {
  const auto json = ordered_json::parse(text, nullptr, false);
  if (!json.is_object() || !json.contains("gains") || !json.contains("services") ||
      !json["services"].is_object()) {
    return Error::usage("no gains: a JSON object with gains and services is wanted");
  }
  if (json["gains"] != spec::kGainsVersion) {
    return Error::usage(fmt::format("gains of version {}, this program has {}: learn them anew",
                                    json["gains"].dump(), spec::kGainsVersion));
  }
  GainsFile all;
  for (const auto& [service, entry] : json["services"].items()) {
    const auto id = spec::parse_service(service);
    if (!id || !entry.is_object()) {
      return Error::usage("gains of '" + service + "': NAMESPACE/NAME and an object of gains are wanted");
    }
    spec::Gains& gains = all.gains[*id];
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
  try {
    const auto twins = json.value("twins", ordered_json::object());
    for (const auto& [service, entry] : twins.items()) {
      const auto id = spec::parse_service(service);
      if (!id) {
        return Error::usage("a twin of '" + service + "': NAMESPACE/NAME is wanted");
      }
      all.twins[*id] = {number(entry, "recorded_s"),
                        static_cast<std::size_t>(number(entry, "gaps")),
                        number(entry, "foreseen_p99_ms"),
                        number(entry, "came_p99_ms"),
                        number(entry, "ratio"),
                        number(entry, "low"),
                        number(entry, "high"),
                        all.gains.contains(*id),
                        entry.value("note", "")};
    }
  } catch (const ordered_json::exception& e) {
    return Error::usage(std::string("what is said of the twins is not understood: ") + e.what());
  }
  return all;
}

}  // namespace ballast::policy
