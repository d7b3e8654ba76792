// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <chrono>
#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/backoff.h"
#include "model/sync/transport/tls.h"

namespace ballast::sync {

/// Where a client calls, and how long it waits between its calls.
struct CallerOptions {
  std::string what;  ///< for the log: "global network", "fleet"
  std::string address;
  std::chrono::milliseconds first_wait;
  std::chrono::milliseconds longest_wait;
  TlsFiles tls;
  std::string token_file;  ///< its content is shown as a bearer token, over TLS alone; empty: none
  std::string server_name;
};

/// The thread of a client that keeps one stream to a server: opens it, and when it ends opens it again with
/// jittered exponential back-off, with the certificates as they are then, until it is stopped. That the
/// server is away is told once until it was reached again.
class Caller {
 public:
  /// Talks on a new connection until the stream ends; how it ended. The context is cancelled by stop().
  using Talk = std::function<grpc::Status(const std::shared_ptr<grpc::Channel>&, grpc::ClientContext*)>;

  explicit Caller(CallerOptions options);
  /// REQUIRES stop() before.
  ~Caller();
  Caller(const Caller&) = delete;
  Caller& operator=(const Caller&) = delete;

  /// `ended` is called with mutex() held after each stream, and after each time that none could be opened.
  void start(Talk talk, std::function<void()> ended);
  /// Cuts the stream and waits for the thread.
  void stop();

  /// The client's state between its thread and its callers is under this as well.
  std::mutex& mutex() const { return mutex_; }
  /// To be told of what the thread may wait for.
  std::condition_variable& changed() { return changed_; }
  bool stopping() const { return stopping_; }  ///< REQUIRES mutex()

  /// From the thread: the server answered.
  void reached(const std::string& more = {});

 private:
  void run();
  grpc::Status call();

  const CallerOptions options_;
  Talk talk_;
  std::function<void()> ended_;
  Backoff backoff_;        // of the thread alone, as
  bool told_ = false;      // this is: that the server is away
  bool answered_ = false;  // and this: in this call

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  grpc::ClientContext* context_ = nullptr;  // of the open stream
  std::thread thread_;
};

}  // namespace ballast::sync
