// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "model/sync/server/stream_handler.h"

/// For this room only.
namespace ballast::sync {

using Reactor = grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>;

/// GlobalNetwork.Sync: a worker's gradients and its parameters.
Reactor* open_worker_stream(ServerState& state, grpc::CallbackServerContext* context);

/// Fleet.Report: a node's endpoints and its services.
Reactor* open_fleet_stream(ServerState& state, grpc::CallbackServerContext* context);

}  // namespace ballast::sync
