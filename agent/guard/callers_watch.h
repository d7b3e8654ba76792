// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

namespace ballast::guard {

/// Holds what one endpoint says it answered against what its callers were seen to have had of it, where peers
/// cannot be (ShareWatch: they fail, hang, have just joined). Callers are seen on some nodes only, so it is
/// what changed since the peers were well that tells: answers that came to be counted and that nobody was
/// seen to have had.
///
/// No honest endpoint is to lose by it, so an endpoint is believed where either explains what it counts:
/// - the part that is seen fell as it did at its peers: somebody calls them all whom nobody sees;
/// - what is not seen is no more than it was, or grew only as what is seen: a caller left, or all ask for
/// more.
class CallersWatch {
 public:
  static constexpr double kCalmS = 12;  ///< memory of how it was while peers were well

  explicit CallersWatch(double memory_s) : memory_s_(memory_s) {}

  /// One tick; rates a second. `calm`: its peers are well and bear out what it counts.
  void learn(double answers, double seen, double elapsed_s, bool calm);

  /// How far the part of its answers that is seen fell since the calm, at least 1. None: nothing is known.
  std::optional<double> fell() const;
  /// How many times more it counts than can be explained, at least 1, where its peers' part fell as
  /// `peers_fell`.
  double over(double peers_fell) const;
  /// What chance does to it, relative.
  double chance() const;

 private:
  struct Means {  // that began at 0; `known` is that of ones
    double answers = 0;
    double seen = 0;
    double known = 0;
    void learn(double answered, double had, double alpha);
  };
  double memory_s_;
  Means now_;
  Means calm_;
  double grown_ = 1;  // what is seen, since the calm, at most
};

}  // namespace ballast::guard
