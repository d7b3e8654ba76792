// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::loop {

/// The loop's pace and its way out: an absolute timer, so that the work of a tick does not delay
/// the next one, and the signals that a daemon is told things with.
class Ticker {
 public:
  enum class Event {
    kTick,
    kStop,    ///< SIGTERM or SIGINT
    kReload,  ///< SIGHUP
  };

  /// Blocks those signals in this thread and all that it starts later; call before any thread.
  static Result<Ticker> create(std::chrono::milliseconds period);

  /// From now on ticks are due, the first at once.
  Status start();
  /// REQUIRES start(). A signal comes before a tick that is due too.
  Result<Event> wait();
  /// Ticks that were due but not taken, because one took longer than a period.
  std::uint64_t missed() const { return missed_; }

 private:
  Ticker(UniqueFd timer, UniqueFd signals, std::chrono::milliseconds period)
      : timer_(std::move(timer)), signals_(std::move(signals)), period_(period) {}
  UniqueFd timer_;
  UniqueFd signals_;
  std::chrono::milliseconds period_;
  std::uint64_t missed_ = 0;
};

}  // namespace ballast::loop
