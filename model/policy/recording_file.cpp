// SPDX-License-Identifier: Apache-2.0
#include "model/policy/recording_file.h"

#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/spec/service_name.h"

namespace ballast::policy {
namespace {

using nlohmann::json;

/// A number that may be one: finite, not negative, of no broken counter.
double number(const json& value) {
  const double read = value.get<double>();
  if (!std::isfinite(read) || read < 0 || read > 1e15) {
    throw std::domain_error("not a measured number");
  }
  return read;
}

std::optional<spec::RecordedTick> tick_of(std::string_view line) {
  const json row = json::parse(line, nullptr, false);
  if (!row.is_array()) {
    return std::nullopt;
  }
  try {
    spec::RecordedTick tick;
    tick.at_s = number(row.at(0));
    const auto service = spec::parse_service(row.at(1).get<std::string>());
    if (!service) {
      return std::nullopt;
    }
    tick.service = *service;
    tick.tick_s = number(row.at(2));
    tick.delay_s = number(row.at(3));
    tick.proxies = row.at(4);
    tick.p50_ms = number(row.at(5));
    tick.p99_ms = number(row.at(6));
    for (const json& pod : row.at(7)) {
      tick.pods.push_back({pod.at(0), number(pod.at(1)), number(pod.at(2)), number(pod.at(3)),
                           number(pod.at(4)), number(pod.at(5)), number(pod.at(6)), number(pod.at(7)),
                           number(pod.at(8))});
    }
    return tick.tick_s > 0 ? std::optional(tick) : std::nullopt;
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

}  // namespace

std::string recording_header(std::string_view policy) {
  return fmt::format("{{\"recording\": {}, \"policy\": \"{}\"}}\n", spec::kRecordingVersion, policy);
}

std::string recording_line(const spec::RecordedTick& tick) {
  json pods = json::array();
  for (const auto& pod : tick.pods) {
    pods.push_back({pod.pod, pod.requests, pod.in_flight, pod.qps, pod.cpu_cores, pod.limit_cores, pod.speed,
                    pod.running_share, pod.p50_ms});
  }
  return json{tick.at_s,    to_string(tick.service),
              tick.tick_s,  tick.delay_s,
              tick.proxies, tick.p50_ms,
              tick.p99_ms,  pods}
             .dump() +
         "\n";
}

Recording parse_recording(std::string_view text) {
  Recording recording;
  std::size_t broken = 0;
  bool header = false;
  while (!text.empty()) {
    const auto end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
    if (const json top = json::parse(line, nullptr, false); top.is_object() && top.contains("recording")) {
      header = true;
      recording.policy =
          top.contains("policy") && top["policy"].is_string() ? top["policy"].get<std::string>() : "";
      if (top["recording"] != spec::kRecordingVersion) {
        recording.notes.push_back(
            fmt::format("made by version {}, this program knows {}: used where a line reads the same",
                        top["recording"].dump(), spec::kRecordingVersion));
      }
    } else if (auto tick = tick_of(line)) {
      recording.ticks.push_back(std::move(*tick));
    } else if (!line.empty()) {
      ++broken;
    }
  }
  if (!header) {
    recording.notes.emplace_back("no header says its version");
  }
  if (broken > 0) {
    recording.notes.push_back(fmt::format("{} lines were not understood and are left out", broken));
  }
  return recording;
}

}  // namespace ballast::policy
