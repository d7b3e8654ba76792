// SPDX-License-Identifier: Apache-2.0
#include "model/sync/server/worker_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <array>
#include <utility>

#include "model/sync/wire/wire.h"

namespace ballast::sync {

namespace {

constexpr char kParametersTag = (v1::ServerMessage::kParametersFieldNumber << 3) | 2;

grpc::StatusCode status_of(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAccepted:
      return grpc::OK;
    case Verdict::kEpoch:
      return grpc::FAILED_PRECONDITION;
    case Verdict::kVersion:
    case Verdict::kStale:
      return grpc::OUT_OF_RANGE;
    case Verdict::kReplay:
      return grpc::ALREADY_EXISTS;
    case Verdict::kQuarantined:
      return grpc::PERMISSION_DENIED;
    case Verdict::kRate:
      return grpc::RESOURCE_EXHAUSTED;
    default:
      return grpc::INVALID_ARGUMENT;
  }
}

std::string varint(std::size_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>((value & 0x7F) | 0x80));
  }
  out.push_back(static_cast<char>(value));
  return out;
}

class WorkerStream final : public StreamHandler {
 public:
  WorkerStream(ServerState& of, grpc::CallbackServerContext* context) : StreamHandler(of, context) {
    begin();
  }

 private:
  grpc::Status answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) override;
  grpc::Status check_plane(const v1::WorkerMessage& message);
  Verdict push(const v1::Gradient& gradient, std::string* why);

  // Of all messages of the stream.
  Network network_{};
  std::string service_;
  Plane* plane_ = nullptr;
};

Verdict WorkerStream::push(const v1::Gradient& message, std::string* why) {
  GlobalNetwork& network = plane_->network;
  Verdict refused = Verdict::kAccepted;
  if (message.type() != v1::Gradient::FLOAT32) {
    refused = Verdict::kType;
    *why = "type: " + std::to_string(message.type()) + " is not float32";
  } else if (message.values().size() != network.size() * sizeof(float)) {
    refused = Verdict::kShape;
    *why = "shape: " + std::to_string(message.values().size()) + " bytes where " +
           std::to_string(network.size()) + " values are wanted";
  }
  if (refused != Verdict::kAccepted) {
    network.refuse(id(), refused, *why);
    return refused;
  }
  Gradient gradient = from_wire(message);
  const Version acted = gradient.acted;
  const double objective = gradient.objective;
  const Verdict verdict = network.push(id(), std::move(gradient), why);
  // While a trial runs the others' gradients are too stale; what they were paid counts all the same.
  if (verdict == Verdict::kAccepted || verdict == Verdict::kStale) {
    plane_->report(id(), acted, objective);
  }
  return verdict;
}

/// Which network it is about: told in the first message, never changed after.
grpc::Status WorkerStream::check_plane(const v1::WorkerMessage& message) {
  if (!v1::WorkerMessage::Network_IsValid(message.network())) {
    return {grpc::INVALID_ARGUMENT, "network: this build does not know it"};
  }
  const auto network = static_cast<Network>(message.network());
  if (plane_ != nullptr) {
    return network == network_ && message.service() == service_
               ? grpc::Status::OK
               : grpc::Status(grpc::INVALID_ARGUMENT, "network or service changed within the stream");
  }
  grpc::Status why;
  plane_ = state().plane(network, message.service(), id(), &why);
  network_ = network;
  service_ = message.service();
  return why;
}

grpc::Status WorkerStream::answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) {
  thread_local v1::WorkerMessage message;  // keeps its capacity: no allocation of the numbers
  const std::size_t length = in.Length();
  if (length > state().longest_message()) {
    return too_large(length, state().longest_message());
  }
  bool parsed = false;
  {
    grpc::ProtoBufferReader reader(&in);
    parsed = message.ParseFromZeroCopyStream(&reader);
  }
  in.Clear();
  if (!parsed) {
    return {grpc::INVALID_ARGUMENT, "not a ballast.sync.v1.WorkerMessage"};
  }
  if (auto status = check_identity(message.worker_id(), "worker_id"); !status.ok()) {
    return status;
  }
  if (auto status = check_plane(message); !status.ok()) {
    return status;
  }
  v1::ServerMessage head;
  if (message.has_gradient()) {
    std::string why;
    const Verdict verdict = push(message.gradient(), &why);
    head.set_verdict(to_wire(verdict));
    head.set_reason(why);
    head.set_status(static_cast<std::uint32_t>(status_of(verdict)));
  }
  Version current;
  const grpc::Slice parameters = plane_->parameters(id(), &current);
  *head.mutable_current() = to_wire(current);
  const bool unchanged = message.has_held() && from_wire(message.held()) == current;
  std::string bytes = head.SerializeAsString();
  if (unchanged) {
    const grpc::Slice slice(bytes);
    out = grpc::ByteBuffer(&slice, 1);
  } else {
    bytes += kParametersTag + varint(parameters.size());
    const std::array<grpc::Slice, 2> slices = {grpc::Slice(bytes), parameters};
    out = grpc::ByteBuffer(slices.data(), slices.size());
  }
  state().count_answer(length, out.Length(), unchanged);
  return grpc::Status::OK;
}

}  // namespace

Reactor* open_worker_stream(ServerState& state, grpc::CallbackServerContext* context) {
  return new WorkerStream(state, context);
}

}  // namespace ballast::sync
