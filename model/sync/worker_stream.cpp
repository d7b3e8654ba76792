// SPDX-License-Identifier: Apache-2.0
#include "model/sync/worker_stream.h"

#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <array>
#include <optional>
#include <utility>
#include <vector>

#include "model/sync/wire.h"

namespace ballast::sync {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kLongestId = 256;
constexpr char kParametersTag = (v1::ServerMessage::kParametersFieldNumber << 3) | 2;

std::int64_t after(std::chrono::milliseconds wait) {
  return (Clock::now() + wait).time_since_epoch().count();
}

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

Ended reason_of(grpc::StatusCode code) {
  return code == grpc::PERMISSION_DENIED    ? Ended::kIdentity
         : code == grpc::RESOURCE_EXHAUSTED ? Ended::kTooLarge
                                            : Ended::kMalformed;
}

std::string varint(std::size_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>((value & 0x7F) | 0x80));
  }
  out.push_back(static_cast<char>(value));
  return out;
}

bool printable(const std::string& id) {
  return std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

// The names that the worker's certificate carries, a SPIFFE id before the rest.
std::vector<std::string> identities(const grpc::CallbackServerContext& context) {
  std::vector<std::string> names;
  const auto auth = context.auth_context();
  for (const char* property : {"peer_spiffe_id", "peer_uri", "peer_dns", GRPC_X509_SAN_PROPERTY_NAME}) {
    for (const auto& value : auth->FindPropertyValues(property)) {
      names.emplace_back(value.data(), value.size());
    }
  }
  return names;
}

}  // namespace

// Strictly one read, one write: no two reactions of one stream run at the same time. Only the hub's
// watcher calls in between.
class WorkerStream final : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  WorkerStream(Hub& hub, grpc::CallbackServerContext* context) : hub_(hub), context_(context) {
    Ended why{};
    if (!hub_.join(this, &why)) {
      end(why, why == Ended::kTooMany
                   ? grpc::Status(grpc::RESOURCE_EXHAUSTED, "too many workers: the server takes " +
                                                                std::to_string(hub_.options.most_workers))
                   : grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
      return;
    }
    if (!hub_.options.tls.empty()) {
      identities_ = identities(*context);
    }
    read(hub_.options.hello);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      // gRPC ends the call itself where a message is larger than it may be.
      end(std::nullopt, grpc::Status::OK);
      return;
    }
    if (auto status = answer(); !status.ok()) {
      end(reason_of(status.error_code()), status);
      return;
    }
    const std::lock_guard lock(mutex_);
    if (!finished_) {
      writing_ = true;
      deadline_ = after(hub_.options.write);
      StartWrite(&out_);
    }
  }
  void OnWriteDone(bool ok) override {
    out_.Clear();
    {
      const std::lock_guard lock(mutex_);
      writing_ = false;
    }
    if (!ok) {
      end(std::nullopt, grpc::Status::OK);
      return;
    }
    if (hub_.draining()) {
      end(Ended::kDraining, grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
      return;
    }
    read(hub_.options.idle);
  }
  void OnDone() override {
    hub_.leave(this);
    delete this;
  }

  // From the watcher. A write that the worker does not read can only be cut.
  void end_if_overdue(std::int64_t now) {
    const std::lock_guard lock(mutex_);
    if (now < deadline_) {
      return;
    }
    if (writing_) {
      deadline_ = INT64_MAX;
      hub_.count(Ended::kNeverReads);
      context_->TryCancel();
    } else {
      finish(Ended::kSilent, grpc::Status(grpc::DEADLINE_EXCEEDED, "no whole message in time"));
    }
  }
  void end_for_drain() {
    const std::lock_guard lock(mutex_);
    if (!writing_) {
      finish(Ended::kDraining, grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
    }
  }

 private:
  void read(std::chrono::milliseconds wait) {
    const std::lock_guard lock(mutex_);
    if (!finished_) {
      deadline_ = after(wait);
      StartRead(&in_);
    }
  }
  void end(std::optional<Ended> reason, const grpc::Status& status) {
    const std::lock_guard lock(mutex_);
    finish(reason, status);
  }
  // REQUIRES mutex_.
  void finish(std::optional<Ended> reason, const grpc::Status& status) {
    if (!std::exchange(finished_, true)) {
      deadline_ = INT64_MAX;
      if (reason) {
        hub_.count(*reason);
      }
      Finish(status);
    }
  }

  grpc::Status answer();
  grpc::Status check_worker(const std::string& id);
  Verdict push(const v1::Gradient& gradient, std::string* why);

  Hub& hub_;
  grpc::CallbackServerContext* context_;
  grpc::ByteBuffer in_;
  grpc::ByteBuffer out_;
  std::string worker_;
  std::vector<std::string> identities_;
  // Held while a write, a read or the end is started, which gRPC allows: no reaction runs inside.
  std::mutex mutex_;
  bool finished_ = false;
  bool writing_ = false;
  std::int64_t deadline_ = INT64_MAX;  // steady, in ticks
};

grpc::Status WorkerStream::check_worker(const std::string& id) {
  if (!worker_.empty()) {
    return id == worker_ ? grpc::Status::OK
                         : grpc::Status(grpc::INVALID_ARGUMENT, "worker_id changed within the stream");
  }
  if (id.empty() || id.size() > kLongestId || !printable(id)) {
    return {grpc::INVALID_ARGUMENT, "worker_id has to be 1 to 256 printable characters"};
  }
  if (!hub_.options.tls.empty()) {
    const auto fits = [&](const std::string& name) {
      return name.starts_with(hub_.options.identity_prefix) &&
             (id == name || (id.starts_with(name) && id[name.size()] == '/'));
    };
    if (std::none_of(identities_.begin(), identities_.end(), fits)) {
      return {grpc::PERMISSION_DENIED,
              "worker_id '" + id + "' is not the certificate's: it carries " +
                  (identities_.empty() ? "no name" : "'" + identities_.front() + "'")};
    }
  }
  worker_ = id;
  return grpc::Status::OK;
}

Verdict WorkerStream::push(const v1::Gradient& message, std::string* why) {
  Verdict refused = Verdict::kAccepted;
  if (message.type() != v1::Gradient::FLOAT32) {
    refused = Verdict::kType;
    *why = "type: " + std::to_string(message.type()) + " is not float32";
  } else if (message.values().size() != hub_.network.size() * sizeof(float)) {
    refused = Verdict::kShape;
    *why = "shape: " + std::to_string(message.values().size()) + " bytes where " +
           std::to_string(hub_.network.size()) + " values are wanted";
  }
  if (refused != Verdict::kAccepted) {
    hub_.network.refuse(worker_, refused, *why);
    return refused;
  }
  return hub_.network.push(worker_, from_wire(message), why);
}

grpc::Status WorkerStream::answer() {
  thread_local v1::WorkerMessage message;  // keeps its capacity: no allocation of the numbers
  const std::size_t in = in_.Length();
  if (in > hub_.longest_message()) {
    in_.Clear();
    return {grpc::RESOURCE_EXHAUSTED, "a message of " + std::to_string(in) + " bytes where " +
                                          std::to_string(hub_.longest_message()) + " are the most"};
  }
  bool parsed = false;
  {
    grpc::ProtoBufferReader reader(&in_);
    parsed = message.ParseFromZeroCopyStream(&reader);
  }
  in_.Clear();
  if (!parsed) {
    return {grpc::INVALID_ARGUMENT, "not a ballast.sync.v1.WorkerMessage"};
  }
  if (auto status = check_worker(message.worker_id()); !status.ok()) {
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
  const grpc::Slice parameters = hub_.parameters(&current);
  *head.mutable_current() = to_wire(current);
  const bool unchanged = message.has_held() && from_wire(message.held()) == current;
  std::string bytes = head.SerializeAsString();
  if (unchanged) {
    const grpc::Slice slice(bytes);
    out_ = grpc::ByteBuffer(&slice, 1);
  } else {
    bytes += kParametersTag + varint(parameters.size());
    const std::array<grpc::Slice, 2> slices = {grpc::Slice(bytes), parameters};
    out_ = grpc::ByteBuffer(slices.data(), slices.size());
  }
  hub_.count_answer(in, out_.Length(), unchanged);
  return grpc::Status::OK;
}

grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* open_stream(
    Hub& hub, grpc::CallbackServerContext* context) {
  return new WorkerStream(hub, context);
}

bool Hub::join(WorkerStream* stream, Ended* why) {
  const std::lock_guard lock(mutex_);
  ++stats_.streams;
  if (draining_ || streams_.size() >= options.most_workers) {
    *why = draining_ ? Ended::kDraining : Ended::kTooMany;
    return false;
  }
  streams_.insert(stream);
  return true;
}

void Hub::leave(WorkerStream* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(stream);
}

void Hub::count(Ended reason) {
  ended_[static_cast<std::size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
}

void Hub::count_answer(std::size_t in, std::size_t out, bool unchanged) {
  const std::lock_guard lock(mutex_);
  ++stats_.messages;
  stats_.unchanged += unchanged ? 1 : 0;
  stats_.bytes_in += in;
  stats_.bytes_out += out;
}

void Hub::end_overdue() {
  const auto now = Clock::now().time_since_epoch().count();
  const std::lock_guard lock(mutex_);  // keeps every stream alive: OnDone has to leave() first
  for (WorkerStream* stream : streams_) {
    stream->end_if_overdue(now);
  }
}

void Hub::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  for (WorkerStream* stream : streams_) {
    stream->end_for_drain();
  }
}

bool Hub::draining() const {
  return draining_;
}

ServerStats Hub::stats() const {
  const std::lock_guard lock(mutex_);
  ServerStats out = stats_;
  out.workers = streams_.size();
  for (std::size_t i = 0; i < kEnded; ++i) {
    out.ended[i] = ended_[i].load(std::memory_order_relaxed);
  }
  return out;
}

grpc::Slice Hub::parameters(Version* current) {
  auto latest = network.snapshot();
  const std::lock_guard lock(slice_mutex_);
  if (snapshot_ == nullptr || snapshot_->version < latest->version) {
    snapshot_ = std::move(latest);
    slice_ = grpc::Slice(snapshot_->bytes);
  }
  *current = snapshot_->version;
  return slice_;
}

}  // namespace ballast::sync
