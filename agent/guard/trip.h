// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <optional>
#include <string>

#include "core/base/clock.h"

namespace ballast::guard {

struct TripOptions {
  double ratio = 1.5;          ///< p99 against the reference that is too much
  double error_margin = 0.02;  ///< error rate above the reference's that is too much
  int windows = 3;             ///< consecutive bad windows that trip
  double window_s = 5.0;
  double hold_s = 30.0;       ///< neutral for so long after the first trip, doubled by each further one
  double max_hold_s = 600.0;  ///< ... up to this; also the healthy time that resets the doubling
};

/// Watches whether weights do harm: compares p99 and errors with what the service had while it
/// was neutral. Armed from the first weighted second on:
///
/// - However short the neutral past was, it is a reference, with the error that so short a time has. Errors
///   trip against it; p99 does only where it covers a whole window.
/// - Windows that look bad although the reference cannot settle it (it is short, old, or missing: then the
///   first one does) switch the service back to neutral for a block of three windows at most, of which
///   the second and third renew the reference: where the weights did harm the trip follows from there. Blocks
///   are rare (kBlockGapS): a healthy service pays a hundredth of its time at most.
/// - No block for a p99 that is not the weights': where endpoints above their fair share are no slower than
///   those below it, equal weights would only bring the slow ones more.
///
/// The reference is the running mean over neutral windows, of p99 in logs, with its spread. The weights
/// trip when `windows` windows in a row are bad (one with a fifth of errors more counts for two) and their
/// mean lies above the reference by more than the ratio and kErrors standard errors of both. The first
/// window after each change between neutral and weighted is left out, because the telemetry's longer window
/// still holds the other state.
class TripWatch {
 public:
  static constexpr double kErrors = 2.5;
  static constexpr double kUsualSpread = 0.25;  ///< of log p99 between windows, until there are some
  static constexpr double kUsualWindows = 3;    ///< that it counts for
  static constexpr double kBlockGapS = 1000;
  static constexpr double kFirstBlockGapS = 200;  ///< a young reference is renewed sooner, once

  static constexpr double kFreshS = 120;  ///< an older reference is renewed before it condemns

  /// One tick: what the service had, and whether its weights in force are neutral. True while
  /// tripped: the service has to be neutral. Values that are not finite are left out. `excused`: those that
  /// have more than their fair share are no slower than those that have less.
  bool update(double p99_ns, double error_rate, double qps, bool neutral, MonotonicNs now,
              const TripOptions& options, bool excused = false);
  /// The service has to be neutral for a moment, to be compared with.
  bool measuring() const { return measuring_; }
  /// One sentence for people; empty when neither tripped nor measuring.
  const std::string& why() const { return why_; }

 private:
  struct Window {
    MonotonicNs begin = 0;
    double p99_sum = 0;
    double error_sum = 0;
    int samples = 0;
    int excused = 0;  ///< of them
    double log_p99() const;
    double error_rate() const;
  };
  struct Reference {
    double log_p99 = 0;
    double variance = 0;
    double error_rate = 0;
    double windows = 0;
    MonotonicNs renewed = 0;
  };

  struct Harm {
    bool p99 = false;
    bool errors = false;
    bool any() const { return p99 || errors; }
  };

  void close(const Window& window, const TripOptions& options);
  void learn(const Window& window, double windows);
  /// A weighted window that is not under suspicion any more.
  void remember(const Window& window);
  static void follow(Reference& mean, const Window& window, double gain);
  void judge(const TripOptions& options);
  void measure(double seconds);
  Harm harm(const TripOptions& options) const;
  bool excused() const;
  void trip(const TripOptions& options);

  MonotonicNs now_ = 0;
  bool neutral_ = true;
  bool settling_ = false;  ///< the window is the first of its state
  Window window_;
  std::optional<Reference> reference_;
  std::deque<Window> weighted_;  ///< the last ones
  Reference usual_;              ///< running mean and spread of weighted windows
  int bad_ = 0;
  bool measuring_ = false;
  int to_measure_ = 0;  ///< windows of the block that are left
  double block_gap_s_ = kFirstBlockGapS;
  MonotonicNs next_block_ = 0;
  double hold_s_ = 0;  ///< of the last trip; 0: none lately
  MonotonicNs hold_until_ = 0;
  MonotonicNs healthy_since_ = 0;
  std::string why_;
};

}  // namespace ballast::guard
