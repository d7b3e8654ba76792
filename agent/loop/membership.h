// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <vector>

#include "agent/identity/identity.h"
#include "core/spec/telemetry.h"

namespace ballast::loop {

/// The endpoints that proxies shall have, in their order: a pod of this node whose cgroups are all
/// gone is left out. Fails open: a service that would have no endpoint left keeps all of them,
/// because a wrong identity must not empty it.
std::vector<spec::EndpointTelemetry> members(const std::vector<spec::EndpointTelemetry>& endpoints,
                                             const std::vector<identity::Pod>& pods);

}  // namespace ballast::loop
