// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "ballast_sync.pb.h"
#include "core/base/result.h"
#include "core/spec/rollout.h"
#include "model/sync/network/global_network.h"

/// Between the protocol's messages and ours.
namespace ballast::sync {

v1::Version to_wire(const Version& version);
Version from_wire(const v1::Version& version);

v1::Gradient to_wire(const Gradient& gradient);
/// Any number of values; bytes that are no whole number of floats give none, which the global network
/// refuses.
Gradient from_wire(const v1::Gradient& gradient);

v1::ServerMessage::Verdict to_wire(Verdict verdict);
v1::WorkerMessage::Network to_wire(Network network);

v1::Rollout to_wire(const spec::Rollout& rollout);
/// Refuses another spec version, observations of another length and an action that does not fit.
Result<spec::Rollout> from_wire(const v1::Rollout& rollout);

}  // namespace ballast::sync
