// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/actuate/xds_stream.h"
#include "agent/guard/guard.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"

namespace ballast::actuate {

using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;

class StreamRegistry;

/// One gRPC stream of a proxy. Deletes itself when gRPC is done with it. All state is guarded by
/// the registry's mutex except request_ and node_ (only between OnReadDone and the next StartRead) and
/// response_ (only the pusher, while no write is under way).
class StreamReactor final : public grpc::ServerBidiReactor<DiscoveryRequest, DiscoveryResponse> {
 public:
  StreamReactor(std::shared_ptr<StreamRegistry> registry, std::string peer);
  void OnReadDone(bool ok) override;
  void OnWriteDone(bool ok) override;
  void OnCancel() override;
  void OnDone() override;

 private:
  friend class StreamRegistry;
  const std::shared_ptr<StreamRegistry> registry_;
  const std::string peer_;
  std::string node_;  ///< proxies may tell it in their first message alone
  XdsStream state_;
  DiscoveryRequest request_;
  DiscoveryResponse response_;
  bool reading_ = true;
  bool writing_ = false;
  bool closing_ = false;
  bool finished_ = false;
  bool refused_ = false;
};

/// What the streams share: the resources in force, and one thread that writes to the streams that
/// are owed something. Publishing only marks and wakes, so it never waits for a proxy.
class StreamRegistry : public std::enable_shared_from_this<StreamRegistry> {
 public:
  /// Streams beyond it are refused with RESOURCE_EXHAUSTED.
  static constexpr std::size_t kMaxStreams = 1024;

  explicit StreamRegistry(std::chrono::milliseconds patience);
  ~StreamRegistry();
  StreamRegistry(const StreamRegistry&) = delete;
  StreamRegistry& operator=(const StreamRegistry&) = delete;

  /// Makes `bytes` the resource `name` and owes it to every stream that named it.
  void publish(const std::string& name, std::string bytes);
  /// Not given to new subscribers any more. What is owed already is still sent.
  void forget(const std::string& name);
  /// Waits until no stream is owed anything or has an answer outstanding; false: time ran out.
  bool settle(std::chrono::milliseconds timeout);
  /// Stops writing; the server then may be shut down.
  void stop();

  /// Of these resources' last publications, over the streams that named them.
  guard::Answer answer(const std::vector<std::string>& names) const;
  /// Proxies that asked for anything: a proxy has a stream for each of its clusters, all of one connection
  /// and node. Streams that cannot be told apart so count as one each.
  std::size_t subscribers() const;
  double acknowledgement_delay_s() const;

 private:
  friend class StreamReactor;
  bool add(StreamReactor* stream);
  void remove(StreamReactor* stream);
  /// REQUIRES: mutex_ is held. True once: the caller then finishes the stream without the lock.
  static bool may_finish(StreamReactor* stream);
  void push_loop();

  const MonotonicNs patience_;
  const SystemClock clock_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;     ///< the pusher: something is owed, or stop
  std::condition_variable settled_;  ///< settle(): a stream answered or left
  ResourceTable resources_;
  std::set<StreamReactor*> streams_;
  std::deque<double> delays_;  ///< the last acknowledgement delays
  std::uint64_t version_ = 0;
  bool stopping_ = false;
  std::thread pusher_;
};

}  // namespace ballast::actuate
