// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "core/spec/telemetry.h"

namespace ballast::spec {

/// NAMESPACE/NAME, as files, logs and resources name a service.
inline std::string to_string(const ServiceId& service) {
  return service.ns + "/" + service.name;
}

/// Back; nullopt where either part is missing. Neither may hold a slash (Kubernetes allows none).
inline std::optional<ServiceId> parse_service(std::string_view text) {
  const auto slash = text.find('/');
  if (slash == std::string_view::npos || slash == 0 || slash + 1 == text.size() ||
      text.find('/', slash + 1) != std::string_view::npos) {
    return std::nullopt;
  }
  return ServiceId{std::string(text.substr(0, slash)), std::string(text.substr(slash + 1))};
}

}  // namespace ballast::spec
