// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "core/base/options.h"
#include "core/base/result.h"
#include "core/spec/telemetry.h"

namespace ballast::guard {

enum class Mode : std::uint32_t { kOff = 0, kShadow = 1, kActive = 2 };

/// Why a weight is not what the policy asked for. A bit set, shown by `ballastctl explain`.
enum GuardReason : std::uint32_t {
  kFloor = 1U << 0,       ///< raised to the floor
  kCap = 1U << 1,         ///< cut to the cap
  kStep = 1U << 2,        ///< the step of this tick was bounded
  kDeadband = 1U << 3,    ///< the change was too small to push
  kStale = 1U << 4,       ///< telemetry too old: prior, then neutral
  kGarbage = 1U << 5,     ///< NaN, infinite, negative or all-zero proposal: neutral
  kTripped = 1U << 6,     ///< p99 or errors worse than under neutral for three windows
  kBlend = 1U << 7,       ///< only a part of the change is let through (1, 10, 50, 100 %)
  kKillSwitch = 1U << 8,  ///< an operator took the service back by hand (`ballastctl release`)
  kNeutral = 1U << 9,     ///< the policy itself asked for equal weights
  kShutdown = 1U << 10,   ///< the agent ends, and leaves equal weights behind
  kUnproven = 1U << 11,   ///< cut: it counted more requests than its weight can have brought it
};

/// What an operator said about one Service itself, beside the options, which hold for all.
struct Word {
  std::optional<Mode> mode;  ///< the lesser of this and the options' is in force
  bool released = false;     ///< taken back by hand: equal weights
  std::string why;           ///< where it was said, for people; empty: nothing was
};

/// What became of a service's weights at the sink that they were handed to.
enum class Outcome : std::uint32_t {
  kNone = 0,          ///< not handed to a sink
  kWritten = 1,       ///< in force as far as the sink can tell
  kAcknowledged = 2,  ///< and seen to be: by every proxy that asked (EDS), or in what istiod gives (Istio)
  kHeldBack = 3,      ///< waits, or is not meant to be written; those before stay in force
  kNotLeader = 4,     ///< another process writes
  kRefused = 5,       ///< by what they were written to; those before stay in force
};
/// "none", "written", "acknowledged", "held_back", "not_leader", "refused".
const char* to_string(Outcome outcome);
struct Answer {
  Outcome outcome = Outcome::kNone;
  std::string detail;  ///< why, in the words of who said it; empty: nothing to add
  bool in_force() const { return outcome == Outcome::kWritten || outcome == Outcome::kAcknowledged; }
};

struct GuardOptions {
  Mode mode = Mode::kActive;
  double floor = 0.1;
  double cap = 4.0;
  double max_step = 0.7;
  double deadband = 0.05;
  double stale_after_s = 2.0;
  double neutral_after_s = 10.0;
  double blend = 1.0;
  double trip_ratio = 1.5;
  int trip_windows = 3;
  double window_s = 5.0;
  bool hold_claims = true;  ///< see ShareWatch
  bool operator==(const GuardOptions&) const = default;

  /// All but the mode, which is the whole agent's.
  void declare(options::Schema& s) {
    s.section("guard");
    // A floor below one unit of weight could not be written, and a cap beyond 1000 would not be a bound.
    s.number("floor", floor, 0.001, 1, "", "least weight, relative to fair share");
    s.number("cap", cap, 1, 1000, "", "greatest weight, relative to fair share");
    s.number("max_step", max_step, 0.01, 20, "", "most that a log-weight moves in one tick");
    s.number("deadband", deadband, 0, 1, "", "least change of a log-weight that is worth a push");
    s.number("stale_after_s", stale_after_s, 0.1, 3600, "s", "older telemetry: the endpoint's prior alone");
    s.number("neutral_after_s", neutral_after_s, 0.1, 3600, "s", "older still: the whole service neutral");
    s.number("blend", blend, 0, 1, "", "share of the way from neutral to the proposal");
    s.number("trip_ratio", trip_ratio, 1.01, 1000, "", "p99 against the neutral control's that trips");
    s.number("trip_windows", trip_windows, 1, 1000, "", "bad windows in a row that trip");
    s.number("window_s", window_s, 0.1, 3600, "s", "length of a trip window");
    s.flag("hold_claims", hold_claims, "cut who counts more requests than its weight can have brought");
    s.ordered("stale_after_s", stale_after_s, "neutral_after_s", neutral_after_s);
    s.rule({"deadband", "max_step"}, [this]() -> options::Wrong {
      return deadband <= max_step / 2
                 ? std::nullopt
                 : options::Wrong(
                       "the deadband has to be at most half of guard.max_step, or weights stand still");
    });
  }
};

/// What the trip adds to GuardOptions: error rate above the neutral control's that counts as worse,
/// and how long a tripped service stays neutral (doubled by each further trip up to the maximum).
inline constexpr double kTripErrorMargin = 0.02;
inline constexpr double kTripHoldS = 30;
inline constexpr double kTripMaxHoldS = 600;

/// One endpoint as the guard is asked about it: where it is, what its weight should be.
struct EndpointView {
  spec::EndpointId id;
  std::string address;
  std::uint16_t port = 0;
  bool known = false;   ///< measured by an agent
  double age_s = 0;     ///< of its telemetry
  double requests = 0;  ///< that it counted in the last tick; see ShareWatch
  double success = 1;   ///< part of its last requests that went well
  double in_flight = 0;
  bool answered = true;  ///< a request ended in the last tick
  /// Answers that it counted lately, and those that its callers had of it in the same time (0: none of them
  /// is measured); see CallersWatch.
  double answers_per_s = 0;
  double seen_per_s = 0;
  double share = 0;        ///< wanted share of the service's traffic; the shares sum to 1
  double offset = 0;       ///< the policy's part of the share's logarithm
  double p99_ns = 0;       ///< of its requests in the longer window; 0: not known
  double seen_p99_ns = 0;  ///< the same as its callers saw it
};

struct ServiceView {
  spec::ServiceId service;
  bool neutral = true;
  std::string why;
  double p99_ns = 0;  ///< of the whole service in the longer window
  double error_rate = 0;
  double qps = 0;
  Word word;
  std::vector<EndpointView> endpoints;
};

struct WeightedEndpoint {
  spec::EndpointId id;
  std::string address;
  std::uint16_t port = 0;
  std::uint32_t weight = 1;   ///< never 0
  std::uint32_t reasons = 0;  ///< GuardReason bits
  double proposed_share = 0;  ///< the policy's, as it came (0 for NaN and infinities); for explain
  /// After floor, cap, staleness and blend, before mode, trip and step: what mode active would go towards.
  double guarded_share = 0;
};

class Guard;

/// One service's weights, checked, and the record of how they came about. Only Guard can make one, and a
/// sink accepts nothing else, so there is no way from a policy to a proxy around the guard.
///
/// Invariants: every weight is in [1, kWeightScale * cap + 1]; the weights of a neutral service
/// are all equal (Envoy then balances by P2C as if Ballast were not there); the weights sum to
/// kWeightScale * N within N.
class GuardedWeights {
 public:
  static constexpr std::uint32_t kWeightScale = 1000;  ///< weight of a fair share

  const spec::ServiceId& service() const { return service_; }
  const std::vector<WeightedEndpoint>& endpoints() const { return endpoints_; }
  bool neutral() const { return neutral_; }
  /// false: nothing worth a push has changed since the last weights of this service.
  bool changed() const { return changed_; }
  const std::string& why() const { return why_; }
  /// In force for this service: the options', unless its own word is less.
  Mode mode() const { return mode_; }
  double blend() const { return blend_; }
  /// The policy itself asked for equal weights; what else made them so is in the reasons and in why().
  bool asked_neutral() const { return asked_neutral_; }

 private:
  friend class Guard;
  GuardedWeights() = default;
  spec::ServiceId service_;
  std::vector<WeightedEndpoint> endpoints_;
  bool neutral_ = true;
  bool changed_ = false;
  std::string why_;
  Mode mode_ = Mode::kOff;
  double blend_ = 1;
  bool asked_neutral_ = false;
};

/// Holds against a garbage model and a garbage node. Keeps the weights in force by service.
class Guard {
 public:
  explicit Guard(const options::Checked<GuardOptions>& options);
  ~Guard();
  Guard(const Guard&) = delete;
  Guard& operator=(const Guard&) = delete;

  /// Total: any view gives weights that hold the invariants. Endpoints that left are forgotten,
  /// new ones begin at fair share. Membership changes are always `changed`. Of endpoints that agree
  /// in pod, address and port only the first is kept.
  ///
  /// The step is bounded against the weights in force, also on the way to a neutral that the policy
  /// asked for. Neutral for cause (mode, release by hand, trip, garbage, stale telemetry) is reached in
  /// one tick. Weights that are not neutral differ by a unit at least, since Envoy reads equal
  /// weights as none.
  GuardedWeights apply(const ServiceView& view, MonotonicNs now);
  /// Equal weights for what is in force, at shutdown.
  GuardedWeights release(const spec::ServiceId& service);
  std::vector<spec::ServiceId> services() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace ballast::guard
