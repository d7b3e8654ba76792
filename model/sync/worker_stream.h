// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_set>

#include "ballast_sync.grpc.pb.h"
#include "model/sync/global_server.h"

/// For this room only.
namespace ballast::sync {

class WorkerStream;

/// What all streams of a server share.
class Hub {
 public:
  Hub(GlobalNetwork& of, const ServerOptions& given) : network(of), options(given) {}

  GlobalNetwork& network;
  const ServerOptions options;

  /// Bytes of the numbers, and room for everything else in a message.
  std::size_t longest_message() const { return network.size() * sizeof(float) + 4096; }
  /// False when there are too many already, or the server drains.
  bool join(WorkerStream* stream, Ended* why);
  void leave(WorkerStream* stream);
  void count(Ended reason);
  void count_answer(std::size_t in, std::size_t out, bool unchanged);
  /// Ends the streams whose worker lets us wait for too long.
  void end_overdue();
  /// Ends all, and refuses new ones.
  void drain();
  bool draining() const;
  ServerStats stats() const;
  /// The parameters field of an answer, in one piece that all answers share.
  grpc::Slice parameters(Version* current);

 private:
  mutable std::mutex mutex_;  // before a stream's own
  std::unordered_set<WorkerStream*> streams_;
  std::atomic<bool> draining_{false};
  ServerStats stats_;                                       // but for `ended`:
  std::array<std::atomic<std::uint64_t>, kEnded> ended_{};  // counted with the mutex held, and without
  std::mutex slice_mutex_;
  std::shared_ptr<const Snapshot> snapshot_;  // what slice_ was made of
  grpc::Slice slice_;
};

/// Deletes itself when the stream is over.
grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* open_stream(
    Hub& hub, grpc::CallbackServerContext* context);

}  // namespace ballast::sync
