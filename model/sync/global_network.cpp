// SPDX-License-Identifier: Apache-2.0
#include "model/sync/global_network.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

namespace ballast::sync {

namespace {

bool all_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

double l2(std::span<const float> values) {
  double sum = 0;
  for (const float x : values) {
    sum += static_cast<double>(x) * static_cast<double>(x);
  }
  return std::sqrt(sum);
}

}  // namespace

const char* to_string(Verdict verdict) {
  switch (verdict) {
    case Verdict::kAccepted:
      return "accepted";
    case Verdict::kShape:
      return "shape";
    case Verdict::kNotFinite:
      return "not_finite";
    case Verdict::kNorm:
      return "norm";
    case Verdict::kEpoch:
      return "epoch";
    case Verdict::kVersion:
      return "version";
    case Verdict::kStale:
      return "stale";
  }
  return "unknown";
}

Result<std::unique_ptr<GlobalNetwork>> GlobalNetwork::create(GlobalState state,
                                                             const GlobalOptions& options) {
  if (auto checked = policy::check(state.parameters); !checked) {
    return checked.error().in("global network");
  }
  if (state.mean_square.size() != spec::kParameters ||
      !std::all_of(state.mean_square.begin(), state.mean_square.end(),
                   [](float x) { return std::isfinite(x) && x >= 0; })) {
    return Error::failed("global network: RMSProp's state does not hold one mean square a parameter");
  }
  return std::unique_ptr<GlobalNetwork>(new GlobalNetwork(std::move(state), options));
}

GlobalNetwork::GlobalNetwork(GlobalState state, const GlobalOptions& options)
    : options_(options), state_(std::move(state)) {}

Verdict GlobalNetwork::judge(const Gradient& gradient, double norm) const {
  if (std::abs(norm - gradient.norm) > 1e-3 * std::max(1.0, norm)) {
    return Verdict::kNorm;
  }
  if (gradient.acted.epoch != state_.parameters.epoch) {
    return Verdict::kEpoch;
  }
  if (gradient.acted.version > state_.parameters.version) {
    return Verdict::kVersion;
  }
  if (state_.parameters.version - gradient.acted.version > options_.staleness_limit) {
    return Verdict::kStale;
  }
  return Verdict::kAccepted;
}

Verdict GlobalNetwork::push(const Gradient& gradient) {
  // Looking at 8,000 numbers needs no lock.
  Verdict verdict = Verdict::kAccepted;
  double norm = 0;
  if (gradient.values.size() != spec::kParameters) {
    verdict = Verdict::kShape;
  } else if (!all_finite(gradient.values) || !std::isfinite(gradient.norm)) {
    verdict = Verdict::kNotFinite;
  } else {
    norm = l2(gradient.values);
  }

  const std::lock_guard lock(mutex_);
  if (verdict == Verdict::kAccepted) {
    verdict = judge(gradient, norm);
  }
  ++verdicts_[static_cast<std::size_t>(verdict)];
  if (verdict != Verdict::kAccepted) {
    return verdict;
  }
  const double scale = norm > options_.clip_norm ? options_.clip_norm / norm : 1.0;
  const auto& [learning_rate, alpha, epsilon] = options_.rms_prop;
  for (std::size_t i = 0; i < spec::kParameters; ++i) {
    const double g = scale * static_cast<double>(gradient.values[i]);
    const double mean_square = alpha * static_cast<double>(state_.mean_square[i]) + (1 - alpha) * g * g;
    state_.mean_square[i] = static_cast<float>(mean_square);
    state_.parameters.theta[i] -= static_cast<float>(learning_rate * g / std::sqrt(mean_square + epsilon));
  }
  ++state_.parameters.version;
  serialized_.clear();
  return verdict;
}

Version GlobalNetwork::version() const {
  const std::lock_guard lock(mutex_);
  return {state_.parameters.epoch, state_.parameters.version};
}

GlobalState GlobalNetwork::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

std::pair<Version, std::string> GlobalNetwork::parameters() const {
  const std::lock_guard lock(mutex_);
  if (serialized_.empty()) {
    serialized_ = policy::serialize(state_.parameters);
  }
  return {{state_.parameters.epoch, state_.parameters.version}, serialized_};
}

std::array<std::uint64_t, kVerdicts> GlobalNetwork::verdicts() const {
  const std::lock_guard lock(mutex_);
  return verdicts_;
}

}  // namespace ballast::sync
