// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_set>
#include <vector>

#include "model/sync/fleet/fleet_registry.h"
#include "model/sync/server/global_server.h"

/// For this room only.
namespace ballast::sync {

class StreamHandler;

/// The node that the caller's token proved, in gRPC's context of the call.
inline constexpr const char* kNodeProperty = "ballast_node";

/// One global network, and which of its versions act. Thread-safe.
class Plane {
 public:
  Plane(GlobalNetwork& of, const PromotionOptions& given) : network(of), promotion_(given, of.snapshot()) {
    if (promotion_.on()) {
      network.keep(promotion_.released());  // the next leader begins with what all act with
    }
  }
  /// What the worker shall act with, in one piece that all answers share.
  grpc::Slice parameters(const std::string& worker, Version* current);
  void report(const std::string& worker, Version acted, double objective);
  /// Promotes parameters, or gives them up; to be called often.
  void promote();
  PromotionStats stats() const;

  GlobalNetwork& network;

 private:
  struct Piece {
    std::shared_ptr<const Snapshot> snapshot;  // what the slice was made of
    grpc::Slice slice;
  };
  mutable std::mutex mutex_;  // with these:
  Promotion promotion_;
  Piece newest_, released_;
};

/// What all streams of a server share.
class ServerState {
 public:
  ServerState(GlobalNetwork& of, const ServerOptions& given) : options(given) {
    planes_.push_back(std::make_unique<Plane>(of, given.promotion));
    if (given.forecast != nullptr) {
      planes_.push_back(std::make_unique<Plane>(*given.forecast, given.promotion));
    }
  }

  const ServerOptions options;
  fleet::FleetRegistry registry;

  /// Bytes of a node's report at most.
  static constexpr std::size_t kLongestReport = 512UL << 10;
  /// Bytes of the numbers, and room for everything else in a message.
  std::size_t longest_message() const {
    std::size_t most = 0;
    for (const auto& plane : planes_) {
      most = std::max(most, plane->network.size());
    }
    return most * sizeof(float) + 4096;
  }
  /// Of the actor-critic, the forecast or a service's gains, for as long as the server lives; or why `worker`
  /// has none.
  Plane* plane(Network which, const std::string& service, const std::string& worker, grpc::Status* why);
  std::optional<Version> released_gains(const std::string& service) const;
  /// False when there are too many already, or the server drains.
  bool join(StreamHandler* stream, Ended* why);
  void leave(StreamHandler* stream);
  void count(Ended reason);
  void count_answer(std::size_t in, std::size_t out, bool unchanged);
  void count_foreign(std::size_t endpoints) { foreign_.fetch_add(endpoints, std::memory_order_relaxed); }
  /// Ends the streams whose other side lets us wait for too long.
  void end_overdue();
  /// Ends all, and refuses new ones.
  void drain();
  bool draining() const;
  ServerStats stats() const;
  /// Of all planes.
  void promote();

 private:
  mutable std::mutex mutex_;  // before a stream's own
  std::unordered_set<StreamHandler*> streams_;
  std::atomic<bool> draining_{false};
  std::atomic<std::uint64_t> foreign_{0};
  ServerStats stats_;                                       // but for `ended`:
  std::array<std::atomic<std::uint64_t>, kEnded> ended_{};  // counted with the mutex held, and without
  std::vector<std::unique_ptr<Plane>> planes_;           ///< of the actor-critic and the forecast, by Network
  mutable std::mutex gains_mutex_;                       // with these:
  std::map<std::string, std::unique_ptr<Plane>> gains_;  ///< by service
};

/// One stream: strictly one message read, one answer written. No two reactions of one stream run at the
/// same time; only the server's watcher calls in between. Deletes itself when the stream is over.
class StreamHandler : public grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer> {
 public:
  StreamHandler(ServerState& state, grpc::CallbackServerContext* context);

  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnDone() override;

  // From the watcher. A write that the other side does not read can only be cut.
  void end_if_overdue(std::int64_t now);
  void end_for_drain();

 protected:
  /// Begins to listen; the last line of the most derived class's constructor.
  void begin();
  /// The answer to a message, whose bytes it clears when they are no longer needed; or why the stream
  /// ends here.
  virtual grpc::Status answer(grpc::ByteBuffer& in, grpc::ByteBuffer& out) = 0;
  /// Who speaks: told in the first message, never changed after, and with TLS proved by its certificate or
  /// token. `field` names it in errors.
  grpc::Status check_identity(const std::string& id, const char* field);
  static grpc::Status too_large(std::size_t bytes, std::size_t most);
  ServerState& state() { return state_; }
  /// What is proved of it, else what it says.
  const std::string& id() const { return id_; }

 private:
  void read(std::chrono::milliseconds wait);
  void end(std::optional<Ended> reason, const grpc::Status& status);
  void finish(std::optional<Ended> reason, const grpc::Status& status);  // REQUIRES mutex_

  ServerState& state_;
  grpc::CallbackServerContext* context_;
  grpc::ByteBuffer in_;
  grpc::ByteBuffer out_;
  std::string id_, claimed_;
  std::vector<std::string> identities_;
  // Held while a write, a read or the end is started, which gRPC allows: no reaction runs inside.
  std::mutex mutex_;
  bool finished_ = false;
  bool writing_ = false;
  std::int64_t deadline_ = INT64_MAX;  // steady, in ticks
};

}  // namespace ballast::sync
