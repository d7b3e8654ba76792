// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "agent/decide/neutral_gate.h"
#include "agent/decide/policy.h"
#include "agent/decide/service_memory.h"
#include "core/base/options.h"
#include "core/base/result.h"

namespace ballast::decide {

/// How the capacity prior follows what is measured. Small changes are mostly noise of the
/// measurement and pass a low-pass filter; large ones (a quota halved) must not wait.
struct PriorFilterOptions {
  double time_constant_s = 2.0;
  double confirm_step = 0.15;
  double immediate_step = 0.25;
  bool operator==(const PriorFilterOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("prior");
    s.number("time_constant_s", time_constant_s, 0, 3600, "s", "of the low-pass filter; 0: no filter");
    s.number("confirm_step", confirm_step, 0.001, 10, "",
             "a change of the log prior beyond it passes in the second tick in a row that shows it");
    s.number("immediate_step", immediate_step, 0.001, 10, "", "a change beyond it passes at once");
    s.ordered("confirm_step", confirm_step, "immediate_step", immediate_step);
  }
};

/// Smooths the log priors of one service's endpoints over time.
///
/// What comes with another CPU limit of the endpoint's is no noise: it passes at once, into the means too.
///
/// A change that all endpoints share (their median change) is not filtered: only differences
/// reach the weights, and when one pod loses capacity the mean moves, hence everyone's log prior.
class PriorFilter {
 public:
  /// One tick of dt seconds: the filtered log prior of each endpoint, in order. New endpoints begin
  /// at their measured value; unknown ones pass as they are
  /// and are forgotten, as are those not listed.
  std::vector<double> update(const std::vector<spec::EndpointObservation>& endpoints, double dt_s,
                             const PriorFilterOptions& options);
  /// Standard deviation over the known endpoints of each one's mean log prior of the last seconds
  /// (exponential, 5 s): what is left of their differences when the noise of single ticks, a tenth
  /// and more, is averaged out.
  double lasting_spread() const;
  /// These means, in the order of the last update(); of an unknown endpoint what it passed.
  const std::vector<double>& lasting() const { return lasting_; }

 private:
  struct Track {
    double value = 0;
    double mean = 0;
    int beyond = 0;    ///< consecutive ticks beyond confirm_step, signed by their direction
    double limit = 0;  ///< CPUs, the last that was known
  };
  std::map<spec::EndpointId, Track> tracks_;
  std::vector<double> lasting_;
};

/// Lifts the first endpoint's log prior kEpsilonTilt above the others when a proposal that is not
/// neutral would give weights that are equal in whole units (GuardedWeights counts in thousandths of a fair
/// share), because Envoy reads equal weights as "no weights" and would keep P2C. The first in
/// order of id, so that the tilt does not wander.
void tilt_if_equal(ServiceProposal& proposal);
inline constexpr double kEpsilonTilt = 0.002;

/// What the square-root rule adds to the log capacities: log(l_i / (rho c_i)), where
/// l_i = c_i - sqrt(c_i) (C - rho C) / sum sqrt(c) is the split of least mean time over processor-
/// sharing servers (M/G/1-PS; Tantawi, Towsley 1985). A fast pod has more left at the same
/// utilisation than a slow one, so the less the load, the more of it belongs on the fast ones; at full load
/// the split is by capacity. `log_capacities` may have any common offset. `load` is the service's
/// utilisation, which does not depend on the weights, so nothing chases itself; below kLeastLoad it
/// counts as kLeastLoad, and no pod is left with less than kLeastTilt of its share by capacity.
/// Zeros where the load is not known (not above 0) or 1 and more.
std::vector<double> square_root_tilt(const std::vector<double>& log_capacities, double load);
inline constexpr double kLeastLoad = 0.3;
inline constexpr double kLeastTilt = 0.2;

struct PriorOptions {
  GateOptions gate;
  PriorFilterOptions filter;
  double square_root = 0;
  bool operator==(const PriorOptions&) const = default;

  void declare(options::Schema& s) {
    gate.declare(s);
    filter.declare(s);
    s.number("square_root", square_root, 0, 1, "",
             "share of the square-root rule's tilt; 0: by capacity alone");
  }
};

/// Exactly equal weights, always: Envoy as if Ballast were not there. The control arm.
class NeutralPolicy final : public Policy {
 public:
  std::string name() const override { return "neutral"; }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override;
};

/// Weights by measured capacity (gRFC A58's qps / utilisation times the scheduler's speed), tilted by
/// the square-root rule where the options say so, where the gate finds that they are worth it. What a learned
/// policy starts from.
class PriorPolicy final : public Policy {
 public:
  explicit PriorPolicy(const options::Checked<PriorOptions>& options = PriorOptions{}) : options_(*options) {}
  std::string name() const override { return "prior"; }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override;

  /// decide() before the tilt, for a policy that adds offsets and tilts at last.
  ServiceProposal propose(const spec::ServiceObservation& observation, const LoopContext& loop);

 private:
  struct ServiceState {
    NeutralGate gate;
    PriorFilter filter;
    MonotonicNs last = 0;
  };
  PriorOptions options_;
  ServiceMemory<ServiceState> services_;
};

}  // namespace ballast::decide
