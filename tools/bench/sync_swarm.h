// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast::bench {

/// Simulated workers or nodes in bulk: each has a stream and a connection of its own to a ballast-global
/// and sends a message once an interval, whether the last answer was quick or not. A few threads drive
/// all of them.
struct SwarmOptions {
  std::string address;
  std::size_t workers = 100;
  double interval_s = 5;  ///< between the syncs of one worker; the first ones are spread over it
  double warm_up_s = 5;   ///< not measured, at least one interval
  double seconds = 10;    ///< measured
  unsigned threads = 1;
};

struct SwarmResult {
  std::uint64_t syncs = 0;   ///< pushes answered, of those that were due in the measured time
  std::uint64_t lost = 0;    ///< pushes that were never answered
  std::uint64_t broken = 0;  ///< streams that ended
  std::string broken_why;    ///< of one of them
  std::map<std::string, std::uint64_t> verdicts;
  std::vector<float> latency_ms;                      ///< from when the sync was due to its answer; sorted
  std::uint64_t first_version = 0, last_version = 0;  ///< of the parameters
  std::uint64_t sent_bytes = 0, received_bytes = 0;   ///< of messages
};

/// What the workers of one thread say.
class Script {
 public:
  virtual ~Script() = default;
  /// The gRPC method.
  virtual const char* method() const = 0;
  /// The next message of a worker. False in `counts`: only a greeting, which cannot be lost.
  virtual grpc::ByteBuffer message(std::size_t worker, bool& counts) = 0;
  /// The verdict that the answer gives. What the result shall hold besides is put there if `result`.
  virtual std::string answered(std::size_t worker, grpc::ByteBuffer& answer, SwarmResult* result) = 0;
};

/// GlobalNetwork.Sync: pulls once, then pushes a gradient of `parameters` numbers and pulls.
std::unique_ptr<Script> sync_script(std::size_t parameters);
/// Fleet.Report: `pods` endpoints a node, each of another service, whose other endpoints are spread over
/// as many nodes as there are.
std::unique_ptr<Script> fleet_script(std::size_t nodes, std::size_t pods);

/// `script` is called once a thread. `measuring(true)` is called when the measured time begins,
/// `measuring(false)` when it ends.
SwarmResult run_swarm(const SwarmOptions& options, const std::function<std::unique_ptr<Script>()>& script,
                      void (*measuring)(bool begins, void* context), void* context);

}  // namespace ballast::bench
