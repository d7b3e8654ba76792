// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <vector>

#include "model/sim/random.h"

namespace ballast::sim {

/// How much work a request brings, in seconds on a server of speed 1.
struct LawSpec {
  enum class Kind { kConstant, kExponential, kLognormal, kPareto, kBimodal, kTrace };
  Kind kind = Kind::kLognormal;
  double mean_s = 0.010;
  double cv = 1.0;              ///< lognormal: deviation / mean
  double shape = 1.5;           ///< Pareto: tail index, > 1
  double long_share = 0.05;     ///< bimodal: share of long requests
  double long_factor = 20;      ///< bimodal: a long request over a short one
  std::vector<double> trace_s;  ///< trace: works in order, begun anew at its end
};

/// Draws works by a law. The mean is exact by construction; a trace has its own.
class Law {
 public:
  /// REQUIRES a spec that the scenario reader accepts (positive mean, shape > 1, trace not empty).
  explicit Law(const LawSpec& spec);
  double sample(Rng& rng);

 private:
  LawSpec spec_;
  double mu_ = 0;       ///< lognormal
  double sigma_ = 0;    ///< lognormal
  double minimum_ = 0;  ///< Pareto
  double short_s_ = 0;  ///< bimodal
  std::size_t next_ = 0;
};

/// Mean work in seconds; for a trace the mean of its values.
double mean_work(const LawSpec& spec);

}  // namespace ballast::sim
