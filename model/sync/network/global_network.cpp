// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/global_network.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <utility>

#include "model/policy/forecast_file.h"

namespace ballast::sync {

namespace {

// Fewer values make no median to judge others by.
constexpr std::size_t kEnough = 16;
constexpr double kClipMedians = 4;  // a gradient longer than so many medians is shortened
// One longer than these and than a thousand clip norms is no gradient. Honest ones have a heavy tail (an
// episode that ends where the critic saw a long one coming), and the clip makes each as short as the rest.
constexpr double kRefuseMedians = 1e6;
constexpr double kStaleMedians = 4;  // tau beyond so many medians is dropped
constexpr double kStaleFloor = 8;    // but never where nearly all are fresh

double seconds_since(GlobalNetwork::Time then) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - then).count();
}

// What the worker did wrong, and not merely late.
bool blames(Verdict verdict) {
  return verdict != Verdict::kAccepted && verdict != Verdict::kEpoch && verdict != Verdict::kStale &&
         verdict != Verdict::kQuarantined && verdict != Verdict::kRate;
}

Status check_state(const GlobalState& state, const GlobalOptions& options) {
  if (options.parameters == spec::kParameters) {
    if (auto checked = policy::check(state.parameters); !checked) {
      return checked.error().in("global network");
    }
  }
  const auto finite = [](float x) { return std::isfinite(x); };
  if (state.parameters.theta.size() != options.parameters ||
      !std::all_of(state.parameters.theta.begin(), state.parameters.theta.end(), finite)) {
    return Error::failed("global network: the state does not hold " + std::to_string(options.parameters) +
                         " finite parameters");
  }
  if (state.mean_square.size() != options.parameters ||
      !std::all_of(state.mean_square.begin(), state.mean_square.end(),
                   [](float x) { return std::isfinite(x) && x >= 0; })) {
    return Error::failed("global network: RMSProp's state does not hold one mean square a parameter");
  }
  return ok();
}

}  // namespace

const char* to_string(Verdict verdict) {
  static constexpr std::array<const char*, kVerdicts> kNames = {
      "accepted", "shape",  "not_finite",  "norm", "epoch", "version",
      "stale",    "replay", "quarantined", "rate", "type"};
  const auto at = static_cast<std::size_t>(verdict);
  return at < kNames.size() ? kNames[at] : "unknown";
}

Result<std::unique_ptr<GlobalNetwork>> GlobalNetwork::create(GlobalState state,
                                                             const GlobalOptions& options) {
  if (auto checked = check_state(state, options); !checked) {
    return checked.error();
  }
  return std::unique_ptr<GlobalNetwork>(new GlobalNetwork(std::move(state), options));
}

GlobalNetwork::GlobalNetwork(GlobalState state, const GlobalOptions& options)
    : options_(options),
      state_(std::move(state)),
      version_made_(std::chrono::steady_clock::now()),
      workers_(options.workers) {}

GlobalNetwork::Look GlobalNetwork::look(const std::vector<float>& values) {
  // A NaN or an infinity makes the sum one too; sums of float squares cannot overflow a double.
  Look out;
  double sum = 0;
  std::uint64_t print = 0;
  for (const float x : values) {
    sum += static_cast<double>(x) * static_cast<double>(x);
    print = print * 0x9E3779B97F4A7C15ULL + std::bit_cast<std::uint32_t>(x);
  }
  out.finite = std::isfinite(sum);
  out.norm = std::sqrt(sum);
  out.fingerprint = sum > 0 ? print : 0;
  return out;
}

Verdict GlobalNetwork::admit(const std::string& worker, Time now, std::string* why) {
  if (worker.empty() || !options_.robust) {
    return Verdict::kAccepted;
  }
  switch (workers_.admit(worker, now)) {
    case WorkerTable::Admission::kQuarantined:
      *why = "quarantined: see `last_bad` of this worker in the server's status";
      return Verdict::kQuarantined;
    case WorkerTable::Admission::kTooFast:
      *why = fmt::format("rate: more than {} pushes a second", options_.workers.pushes_per_s);
      return Verdict::kRate;
    case WorkerTable::Admission::kFine:
      break;
  }
  return Verdict::kAccepted;
}

Verdict GlobalNetwork::judge(const std::string& worker, const Gradient& gradient, const Look& look, Time now,
                             std::string* why) {
  const auto& current = state_.parameters;
  const auto refuse = [&](Verdict verdict, const std::string& detail) {
    *why = fmt::format("{}: {}; taken at epoch {} version {}, current is epoch {} version {}",
                       to_string(verdict), detail, gradient.acted.epoch, gradient.acted.version,
                       current.epoch, current.version);
    return verdict;
  };
  if (gradient.values.size() != options_.parameters) {
    return refuse(Verdict::kShape,
                  fmt::format("{} values where {} are wanted", gradient.values.size(), options_.parameters));
  }
  if (!look.finite || !std::isfinite(gradient.norm)) {
    return refuse(Verdict::kNotFinite, "a NaN or an infinity");
  }
  if (std::abs(look.norm - gradient.norm) > 1e-3 * std::max(1.0, look.norm)) {
    return refuse(Verdict::kNorm, fmt::format("norm {} where {} is told", look.norm, gradient.norm));
  }
  if (gradient.acted.epoch != current.epoch) {
    return refuse(Verdict::kEpoch, "another leader's parameters");
  }
  if (gradient.acted.version > current.version) {
    return refuse(Verdict::kVersion, "a version that does not exist yet");
  }
  const std::uint64_t tau = current.version - gradient.acted.version;
  if (tau > options_.staleness_limit ||
      (options_.robust && taus_.count() >= kEnough &&
       static_cast<double>(tau) > std::max(kStaleFloor, kStaleMedians * taus_.median()))) {
    return refuse(Verdict::kStale, fmt::format("{} versions ago, median {}", tau, taus_.median()));
  }
  if (!options_.robust) {
    return Verdict::kAccepted;
  }
  // Before there is a median the clip norm stands in for it: a network that has just begun is not moved
  // either.
  const bool enough = norms_.count() >= kEnough;
  const double median = enough ? norms_.median() : options_.clip_norm;
  if (look.norm > kRefuseMedians * median && look.norm > 1000 * options_.clip_norm) {
    return refuse(Verdict::kNorm, fmt::format("norm {} where {} {}", look.norm,
                                              enough ? "the median is" : "gradients are clipped at", median));
  }
  if (!worker.empty() && workers_.replayed(worker, look.fingerprint, gradient.acted.version, now)) {
    return refuse(Verdict::kReplay, "the very same numbers as at another version");
  }
  return Verdict::kAccepted;
}

void GlobalNetwork::count_bad(const std::string& worker, Verdict verdict, const std::string& why, Time now) {
  ++counts_.verdicts[static_cast<std::size_t>(verdict)];
  if (worker.empty() || !options_.robust || verdict == Verdict::kQuarantined || verdict == Verdict::kRate) {
    return;
  }
  if (workers_.bad(worker, blames(verdict), why, now)) {
    ++counts_.quarantines;
    spdlog::warn("worker quarantined worker=\"{}\" last=\"{}\"", worker, why);
  }
}

void GlobalNetwork::refuse(const std::string& worker, Verdict verdict, const std::string& why) {
  const std::lock_guard lock(mutex_);
  count_bad(worker, verdict, why, std::chrono::steady_clock::now());
}

// REQUIRES a gradient that was judged and found good.
void GlobalNetwork::take_in(Gradient gradient, double norm, Time now) {
  const std::uint64_t tau = state_.parameters.version - gradient.acted.version;
  double most = options_.clip_norm;
  double weight = 1;
  if (options_.robust && norms_.count() >= kEnough) {
    most = std::min(most, std::max(kClipMedians * norms_.median(), 1e-12));
    weight = std::min(1.0, (taus_.median() + 1) / (static_cast<double>(tau) + 1));
  }
  if (norm > most) {
    weight *= most / norm;
    ++counts_.clipped;
  }
  if (weight < 1) {
    for (float& x : gradient.values) {
      x = static_cast<float>(weight * static_cast<double>(x));
    }
  }
  norms_.add(norm);
  taus_.add(static_cast<double>(tau));
  counts_.tau_sum += tau;
  const auto bound = std::lower_bound(kTauBounds.begin(), kTauBounds.end(), tau);
  ++counts_.tau[static_cast<std::size_t>(bound - kTauBounds.begin())];
  if (batch_.empty()) {
    batch_began_ = now;
    batch_size_ =
        options_.robust ? std::clamp<std::size_t>(workers_.alive(now) / 16, 1, options_.batch_most) : 1;
  }
  batch_.push_back(std::move(gradient.values));
}

Verdict GlobalNetwork::push(const std::string& worker, Gradient gradient, std::string* why) {
  std::string reason;
  const Look looked = look(gradient.values);  // needs no lock
  const auto now = std::chrono::steady_clock::now();
  Batch full;
  {
    const std::lock_guard lock(mutex_);
    Verdict verdict = admit(worker, now, &reason);
    if (verdict == Verdict::kAccepted) {
      verdict = judge(worker, gradient, looked, now, &reason);
    }
    if (verdict != Verdict::kAccepted) {
      count_bad(worker, verdict, reason, now);
      if (why != nullptr) {
        *why = std::move(reason);
      }
      return verdict;
    }
    ++counts_.verdicts[0];
    if (!worker.empty() && options_.robust) {
      workers_.good(worker, gradient.acted.version, gradient.learned_from, now);
    }
    take_in(std::move(gradient), looked.norm, now);
    if (batch_.size() >= batch_size_) {
      full.swap(batch_);
    }
  }
  apply(std::move(full));
  return Verdict::kAccepted;
}

void GlobalNetwork::apply(Batch batch) {
  if (batch.empty()) {
    return;
  }
  const std::vector<float> step =
      batch.size() == 1 ? std::move(batch.front()) : trimmed_mean(batch, options_.trim);
  const std::lock_guard lock(mutex_);
  const auto& [learning_rate, alpha, epsilon] = options_.rms_prop;
  for (std::size_t i = 0; i < step.size(); ++i) {
    const auto g = static_cast<double>(step[i]);
    const double mean_square = alpha * static_cast<double>(state_.mean_square[i]) + (1 - alpha) * g * g;
    state_.mean_square[i] = static_cast<float>(mean_square);
    const double moved = static_cast<double>(state_.parameters.theta[i]) -
                         learning_rate * g / std::sqrt(mean_square + epsilon);
    state_.parameters.theta[i] = static_cast<float>(std::clamp(moved, -options_.bound, options_.bound));
  }
  ++state_.parameters.version;
  snapshot_.reset();
  version_made_ = std::chrono::steady_clock::now();
}

void GlobalNetwork::apply_older_than(std::chrono::milliseconds age) {
  Batch batch;
  {
    const std::lock_guard lock(mutex_);
    if (!batch_.empty() && std::chrono::steady_clock::now() - batch_began_ >= age) {
      batch.swap(batch_);
    }
  }
  apply(std::move(batch));
}

void GlobalNetwork::tick() {
  apply_older_than(options_.batch_age);
}

void GlobalNetwork::flush() {
  apply_older_than(std::chrono::milliseconds(0));
}

Status GlobalNetwork::give_back(const std::vector<float>& theta) {
  const std::lock_guard lock(mutex_);
  if (theta.size() != options_.parameters) {
    return Error::failed(fmt::format("{} parameters cannot be given back to a network of {}", theta.size(),
                                     options_.parameters));
  }
  state_.parameters.theta = theta;
  ++state_.parameters.version;
  batch_.clear();
  snapshot_.reset();
  version_made_ = std::chrono::steady_clock::now();
  return ok();
}

Version GlobalNetwork::version() const {
  const std::lock_guard lock(mutex_);
  return {state_.parameters.epoch, state_.parameters.version};
}

void GlobalNetwork::keep(std::shared_ptr<const Snapshot> released) {
  const std::lock_guard lock(mutex_);
  kept_ = std::move(released);
}

GlobalState GlobalNetwork::state() const {
  const std::lock_guard lock(mutex_);
  GlobalState out = state_;
  if (kept_ != nullptr) {
    out.parameters.theta = kept_->theta;
  }
  return out;
}

std::shared_ptr<const Snapshot> GlobalNetwork::snapshot() const {
  const std::lock_guard lock(mutex_);
  if (snapshot_ == nullptr) {
    snapshot_ =
        std::make_shared<const Snapshot>(Snapshot{{state_.parameters.epoch, state_.parameters.version},
                                                  policy::file_of(state_.parameters),
                                                  state_.parameters.theta});
  }
  return snapshot_;
}

std::pair<Version, std::string> GlobalNetwork::parameters() const {
  const auto latest = snapshot();
  return {latest->version, latest->bytes};
}

std::array<std::uint64_t, kVerdicts> GlobalNetwork::verdicts() const {
  const std::lock_guard lock(mutex_);
  return counts_.verdicts;
}

GlobalStats GlobalNetwork::stats() const {
  const std::lock_guard lock(mutex_);
  const auto now = std::chrono::steady_clock::now();
  GlobalStats out = counts_;
  out.version = {state_.parameters.epoch, state_.parameters.version};
  out.tau_median = taus_.median();
  out.norm_median = norms_.median();
  out.batch = batch_size_;
  out.buffered = batch_.size();
  out.batch_age_s = batch_.empty() ? 0 : seconds_since(batch_began_);
  out.version_age_s = seconds_since(version_made_);
  out.workers = workers_.alive(now);
  out.quarantined = workers_.quarantined(now);
  return out;
}

std::vector<WorkerRecord> GlobalNetwork::worst_workers(std::size_t most) const {
  const std::lock_guard lock(mutex_);
  return workers_.worst(most, std::chrono::steady_clock::now());
}

}  // namespace ballast::sync
