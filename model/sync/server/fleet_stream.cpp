// SPDX-License-Identifier: Apache-2.0
#include <grpcpp/support/proto_buffer_reader.h>

#include "ballast_sync.pb.h"
#include "model/sync/server/worker_stream.h"
#include "model/sync/wire/fleet_wire.h"

namespace ballast::sync {

namespace {

class FleetStream final : public StreamHandler {
 public:
  FleetStream(ServerState& of, grpc::CallbackServerContext* context) : StreamHandler(of, context) { begin(); }

 private:
  grpc::Status answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) override;
};

grpc::Status FleetStream::answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) {
  thread_local v1::NodeReport message;
  const std::size_t length = in.Length();
  if (length > ServerState::kLongestReport) {
    return too_large(length, ServerState::kLongestReport);
  }
  bool parsed = false;
  {
    grpc::ProtoBufferReader reader(&in);
    parsed = message.ParseFromZeroCopyStream(&reader);
  }
  in.Clear();
  if (!parsed) {
    return {grpc::INVALID_ARGUMENT, "not a ballast.sync.v1.NodeReport"};
  }
  if (auto status = check_identity(message.node_id(), "node_id"); !status.ok()) {
    return status;
  }
  const MonotonicNs now = SystemClock().now();
  std::string why;
  const auto verdict =
      state().registry.report(from_wire(message, state().registry.most_endpoints()), now, &why);
  v1::FleetAnswer reply;
  reply.set_verdict(static_cast<v1::FleetAnswer::Verdict>(verdict));
  reply.set_reason(why);
  to_wire(state().registry.view(id(), message.whole(), now), now, &reply);
  const grpc::Slice bytes(reply.SerializeAsString());
  out = grpc::ByteBuffer(&bytes, 1);
  state().count_answer(length, out.Length(), false);
  return grpc::Status::OK;
}

}  // namespace

Reactor* open_fleet_stream(ServerState& state, grpc::CallbackServerContext* context) {
  return new FleetStream(state, context);
}

}  // namespace ballast::sync
