// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "model/learn/twin_session.h"
#include "model/policy/recording_file.h"

namespace ballast::learn {

struct TwinSettings {
  double span_s = 600;              ///< of the past that a twin is built from
  double every_s = 300;             ///< between two times of learning, at least
  double share = 0.1;               ///< of one core that learning may take
  std::size_t most_rows = 200'000;  ///< pods times ticks kept, some 40 MB
  TwinOptions learning;
};

/// Keeps what the agent recorded and learns gains in its services' twins every now and then, in a thread of
/// its own that gives way to all others. Without traffic being touched: what comes out are files of gains.
class TwinWorker {
 public:
  explicit TwinWorker(TwinSettings settings);
  /// Ends within a simulation or two.
  ~TwinWorker();
  TwinWorker(const TwinWorker&) = delete;
  TwinWorker& operator=(const TwinWorker&) = delete;

  /// What was recorded since the call before: text with its headers.
  void take(const std::vector<std::string>& texts);
  /// The forecast that acts on the node; empty: none.
  void hold(std::vector<float> forecast);
  /// A file of gains that the agent does not have yet. The first is empty and comes with the first recording:
  /// gains that a learner before this one gave are not known to be good any more.
  std::optional<std::string> take_gains();
  /// What is said of the busiest service that was learned from, and in how many learned gains act.
  struct Summary {
    spec::TwinWord busiest;
    std::size_t gains = 0;
  };
  Summary summary() const;

 private:
  void run();
  void learn(std::unique_lock<std::mutex>& lock);  // REQUIRES lock held; releases it while it computes

  const TwinSettings settings_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;
  bool stopping_ = false;
  bool recording_ = false;  ///< something was recorded
  std::deque<spec::RecordedTick> ticks_;
  std::size_t rows_ = 0;
  std::string policy_;
  std::vector<std::string> notes_;
  std::vector<float> forecast_;
  policy::GainsFile acting_;
  spec::TwinWord busiest_;
  std::optional<std::string> offered_;
  std::thread thread_;
};

}  // namespace ballast::learn
