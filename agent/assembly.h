// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <memory>
#include <string>

#include "agent/actuate/sink.h"
#include "agent/config/config.h"
#include "agent/fleet/fleet.h"
#include "agent/identity/identity.h"
#include "agent/kube/installation.h"
#include "agent/loop/acting_policy.h"
#include "agent/loop/loop.h"
#include "agent/loop/span_export.h"
#include "core/base/clock.h"
#include "core/base/result.h"

/// From the configuration to ballastd's objects. Errors name the key that is wrong.
namespace ballast::assembly {

/// Of Kubernetes; empty outside.
std::string node_of(const config::Config& c);

loop::LoopOptions loop_options(const config::Config& c);

Result<loop::ActingPolicy> make_policy(const config::Config& c);

/// `clock` outlives what is returned.
Result<std::unique_ptr<identity::IdentitySource>> make_identity(const config::Config& c,
                                                                const std::filesystem::path& cgroup_root,
                                                                const Clock& clock);

/// `identity` has to outlive what is returned.
Result<std::unique_ptr<actuate::WeightSink>> make_sink(const config::Config& c,
                                                       const identity::IdentitySource& identity);

/// Null: this node is all there is.
std::unique_ptr<fleet::Fleet> make_fleet(const config::Config& c);

/// Null: spans are not exported. The probes are loaded.
Result<std::unique_ptr<loop::SpanExport>> make_span_export(const config::Config& c);

/// Null: not an agent in a pod (POD_NAMESPACE).
std::unique_ptr<kube::Installation> follow_installation(const config::Config& c);

/// Says at this pod, where it is one (POD_NAME, POD_NAMESPACE, POD_UID), why ballastd ended: an Event stays
/// where a container's log has gone.
void tell_pod(const config::Config& c, const Error& why);

/// Bad files that the configuration names, told as if they were part of it.
Status check_files(const config::Config& c);

}  // namespace ballast::assembly
