// SPDX-License-Identifier: Apache-2.0
#include "model/sim/law.h"

#include <cmath>
#include <numeric>

namespace ballast::sim {

Law::Law(const LawSpec& spec) : spec_(spec) {
  const double variance = std::log1p(spec.cv * spec.cv);
  mu_ = std::log(spec.mean_s) - variance / 2;
  sigma_ = std::sqrt(variance);
  minimum_ = spec.mean_s * (spec.shape - 1) / spec.shape;
  short_s_ = spec.mean_s / (1 + spec.long_share * (spec.long_factor - 1));
}

double Law::sample(Rng& rng) {
  switch (spec_.kind) {
    case LawSpec::Kind::kConstant:
      return spec_.mean_s;
    case LawSpec::Kind::kExponential:
      return spec_.mean_s * rng.exponential();
    case LawSpec::Kind::kLognormal:
      return std::exp(mu_ + sigma_ * rng.normal());
    case LawSpec::Kind::kPareto:
      return minimum_ * std::pow(1 - rng.uniform(), -1 / spec_.shape);
    case LawSpec::Kind::kBimodal:
      return rng.uniform() < spec_.long_share ? short_s_ * spec_.long_factor : short_s_;
    case LawSpec::Kind::kTrace:
      break;
  }
  const double work = spec_.trace_s[next_];
  next_ = (next_ + 1) % spec_.trace_s.size();
  return work;
}

double mean_work(const LawSpec& spec) {
  if (spec.kind != LawSpec::Kind::kTrace || spec.trace_s.empty()) {
    return spec.mean_s;
  }
  return std::accumulate(spec.trace_s.begin(), spec.trace_s.end(), 0.0) /
         static_cast<double>(spec.trace_s.size());
}

}  // namespace ballast::sim
