// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <utility>

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

std::size_t count(grpc::ByteBuffer& in) {
  grpc::ProtoBufferReader reader(&in);
  return endpoints_in(reader);
}

grpc::Status FleetStream::answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) {
  thread_local v1::NodeReport message;
  fleet::FleetRegistry& registry = state().registry;
  const std::size_t length = in.Length();
  if (length > ServerState::kLongestReport) {
    return too_large(length, ServerState::kLongestReport);
  }
  v1::FleetAnswer reply;
  const auto refuse = [&](fleet::ReportVerdict verdict, const std::string& why) {
    reply.set_verdict(static_cast<v1::FleetAnswer::Verdict>(registry.refuse(verdict)));
    reply.set_reason(why);
  };
  // An empty endpoint is two bytes on the wire and some 200 in memory, so they are counted before they are
  // made.
  if (const std::size_t endpoints = count(in); endpoints > registry.most_endpoints()) {
    refuse(fleet::ReportVerdict::kTooMany,
           fmt::format("too_many: {} endpoints where {} are the most", endpoints, registry.most_endpoints()));
  } else {
    bool parsed = false;
    {
      grpc::ProtoBufferReader reader(&in);
      parsed = message.ParseFromZeroCopyStream(&reader);
    }
    if (!parsed) {
      return {grpc::INVALID_ARGUMENT, "not a ballast.sync.v1.NodeReport"};
    }
    if (auto status = check_identity(message.node_id(), "node_id"); !status.ok()) {
      return status;
    }
    const MonotonicNs now = SystemClock().now();
    const std::string& writers = state().options.writer_prefix;
    const bool writer = !writers.empty() && id().starts_with(writers);
    if (writer) {
      reply.set_verdict(v1::FleetAnswer::ACCEPTED);
    } else if (auto report = from_wire(message)) {
      report->node = id();
      if (const auto& owns = state().options.owns) {
        state().count_foreign(std::erase_if(
            report->endpoints, [&](const fleet::EndpointReport& e) { return !owns(id(), e.telemetry); }));
      }
      std::string why;
      const auto verdict = registry.report(std::move(*report), now, &why);
      reply.set_verdict(static_cast<v1::FleetAnswer::Verdict>(verdict));
      reply.set_reason(why);
    } else {
      refuse(fleet::ReportVerdict::kMalformed, report.error().message);
    }
    const bool whole = message.whole() && (writer || writers.empty());
    to_wire(registry.view(id(), whole, now), now, &reply);
  }
  in.Clear();
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
