// SPDX-License-Identifier: Apache-2.0
#pragma once

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
/// was neutral.
///
/// The reference is the running mean over neutral windows. Without one nothing trips. The first
/// window after each change between neutral and weighted is left out, because the telemetry's
/// longer window still holds the other state. A reference that has aged (the load grew) may trip
/// without fault of the weights: that costs one hold-off, in which the reference is renewed.
class TripWatch {
 public:
  /// One tick: what the service had, and whether its weights in force are neutral. True while
  /// tripped: the service has to be neutral. Values that are not finite are left out.
  bool update(double p99_ns, double error_rate, double qps, bool neutral, MonotonicNs now,
              const TripOptions& options);
  /// One sentence for people; empty when not tripped.
  const std::string& why() const { return why_; }

 private:
  struct Window {
    MonotonicNs begin = 0;
    double p99_sum = 0;
    double error_sum = 0;
    int samples = 0;
  };
  struct Reference {
    double p99_ns = 0;
    double error_rate = 0;
  };

  void close(const Window& window, const TripOptions& options);
  void trip(const Reference& seen, const TripOptions& options);

  MonotonicNs now_ = 0;
  bool neutral_ = true;
  bool settling_ = true;  ///< the window is the first of its state
  Window window_;
  std::optional<Reference> reference_;
  int bad_ = 0;
  double hold_s_ = 0;  ///< of the last trip; 0: none lately
  MonotonicNs hold_until_ = 0;
  MonotonicNs healthy_since_ = 0;
  std::string why_;
};

}  // namespace ballast::guard
