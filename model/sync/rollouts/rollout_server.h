// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/result.h"
#include "core/spec/forecast.h"
#include "core/spec/recording.h"
#include "core/spec/rollout.h"

namespace ballast::sync {

/// As a learner hands it over.
struct ForecastFile {
  std::string bytes;
  std::uint64_t epoch = 0;
  std::uint64_t version = 0;
};

/// The acting agent's end of Agent.Learn: hands rollouts to the learner beside it and takes new
/// parameters from it. A learner may come, die and come again; the newest one is served. Every
/// call returns at once.
class RolloutServer {
 public:
  /// Rollouts that may wait for the learner; of 20 steps each they take some 8 MB.
  static constexpr std::size_t kQueue = 1024;

  /// Serves the unix socket `path`, readable and writable for the owner alone, in place of one
  /// that nobody serves any more. Fails when somebody does, or the path cannot be bound.
  static Result<std::unique_ptr<RolloutServer>> start(const std::string& path);
  /// Ends the learner's stream, half a second at most before it is cut; removes the socket.
  ~RolloutServer();
  RolloutServer(const RolloutServer&) = delete;
  RolloutServer& operator=(const RolloutServer&) = delete;

  /// Without a learner all are dropped; with a slow one the oldest that wait.
  void offer(const std::vector<spec::Rollout>& rollouts);
  /// The same of pairs to learn the forecast from: one message.
  void offer_samples(const std::vector<spec::ForecastSample>& samples);
  /// The same of what was recorded while `policy` acted, of all services in a tick.
  void offer_recording(std::string_view policy, const std::vector<spec::RecordedTick>& ticks);
  /// Bytes of the newest parameters file since the last call, as they came: parse() judges them.
  std::optional<std::string> take_parameters();
  /// The newest forecast's file since the last call: parse_forecast() judges it.
  std::optional<ForecastFile> take_forecast();
  /// The newest file of gains since the last call: parse_gains() judges it.
  std::optional<std::string> take_gains();
  bool learner_connected() const;
  std::uint64_t sent() const;
  std::uint64_t dropped() const;

 private:
  struct Impl;
  explicit RolloutServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
