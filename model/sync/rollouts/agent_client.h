// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/spec/forecast.h"
#include "core/spec/rollout.h"
#include "model/sync/network/global_network.h"

namespace ballast::sync {

/// The learner's end of Agent.Learn. Threads of its own talk; while the agent is away they try
/// again with jittered back-off. An agent that returns is handed the last parameters first.
class AgentClient {
 public:
  /// Rollouts that may wait to be learned from; the oldest are dropped.
  static constexpr std::size_t kQueue = 1024;

  /// `address` is a gRPC target, "unix:PATH".
  static std::unique_ptr<AgentClient> start(const std::string& address);
  ~AgentClient();
  AgentClient(const AgentClient&) = delete;
  AgentClient& operator=(const AgentClient&) = delete;

  /// Bytes of a parameters file. Returns at once; only the newest are ever sent.
  void offer_parameters(std::string bytes);
  /// The same of a forecast's file, whose version is told beside it.
  void offer_forecast(std::string bytes, Version version);
  /// All rollouts that wait, after at most `timeout` for the first.
  std::vector<spec::Rollout> take_rollouts(std::chrono::milliseconds timeout);
  /// Pairs to learn the forecast from that came since the call before, at most kSamples; the newest stay.
  static constexpr std::size_t kSamples = 65'536;
  std::vector<spec::ForecastSample> take_samples();
  /// Bytes of a file of gains; as parameters are.
  void offer_gains(std::string bytes);
  /// What was recorded since the call before, as text whose headers are its messages'; of more than
  /// kRecording bytes nothing, which is a gap.
  static constexpr std::size_t kRecording = 64 << 20;
  std::vector<std::string> take_recording();
  std::uint64_t dropped() const;  ///< the queue was full
  std::uint64_t refused() const;  ///< rollouts and samples of another spec or shape

 private:
  struct Impl;
  explicit AgentClient(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
