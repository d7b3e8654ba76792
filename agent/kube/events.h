// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "agent/kube/client.h"

namespace ballast::kube {

/// What an Event speaks of.
struct ObjectRef {
  std::string api_version = "v1";
  std::string kind = "Service";
  std::string ns;
  std::string name;
  std::string uid;
};

/// Writes one Event, as `kubectl describe` shows it at the object. `reason` is UpperCamelCase;
/// `message` says what is wrong and what to do (cut at 1024 bytes, the API's limit).
Status post_event(Client& client, const ObjectRef& object, bool warning, const std::string& reason,
                  const std::string& message);

}  // namespace ballast::kube
