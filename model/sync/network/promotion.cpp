// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/promotion.h"

#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/spec/spec.h"
#include "core/spec/verdict.h"

namespace ballast::sync {

namespace {
constexpr std::chrono::seconds kAlive{60};  // a worker that was not heard of for longer is in no trial
constexpr int kLongest = 5;                 // windows without a proof; then the trial is given up
constexpr std::chrono::milliseconds kApart{200};
constexpr std::size_t kNamed = 20;  // canaries that are told by name
}  // namespace

void Promotion::Side::add(double value) {
  ++count;
  const double delta = value - mean;
  mean += delta / static_cast<double>(count);
  squares += delta * (value - mean);
}

double Promotion::Side::error() const {
  const auto n = static_cast<double>(count);
  return count < 2 ? 0 : squares / (n - 1) / n;
}

Promotion::Promotion(PromotionOptions options, std::shared_ptr<const Snapshot> first)
    : options_(options), released_(std::move(first)) {}

std::shared_ptr<const Snapshot> Promotion::parameters_for(const std::string& worker,
                                                          const std::shared_ptr<const Snapshot>& newest,
                                                          Time now) {
  if (!on()) {
    return newest;
  }
  workers_[worker].seen = now;
  return trial_ && canaries_.contains(worker) ? newest : released_;
}

void Promotion::report(const std::string& worker, Version acted, double objective, Time now) {
  if (!on() || !std::isfinite(objective)) {
    return;
  }
  Worker& from = workers_[worker];
  from.seen = now;
  if (!trial_ || now - from.reported < kApart) {
    return;
  }
  from.reported = now;
  const double bound = static_cast<double>(spec::kRewardBound);
  const double value = std::clamp(objective, -bound, bound);
  if (canaries_.contains(worker)) {
    if (acted >= began_) {
      canary_.add(value);
    }
  } else if (acted == released_->version) {
    rest_.add(value);
  }
}

void Promotion::begin(const std::shared_ptr<const Snapshot>& newest, Time now) {
  std::erase_if(workers_, [&](const auto& worker) { return now - worker.second.seen > kAlive; });
  if (workers_.size() < 2) {
    return;  // nobody to compare with
  }
  // The same workers every time, whoever comes first and whoever leads.
  std::vector<std::pair<std::uint32_t, std::string>> order;
  for (const auto& [worker, when] : workers_) {
    order.emplace_back(crc32(worker), worker);
  }
  std::sort(order.begin(), order.end());
  const auto wanted = static_cast<std::size_t>(options_.share * static_cast<double>(order.size()));
  const std::size_t count = std::clamp<std::size_t>(wanted, 1, order.size() - 1);
  canaries_.clear();
  for (std::size_t i = 0; i < count; ++i) {
    canaries_.insert(order[i].second);
  }
  canary_ = rest_ = {};
  trial_ = true;
  began_ = newest->version;
  since_ = now;
}

Promotion::Step Promotion::tick(const std::shared_ptr<const Snapshot>& newest, Time now) {
  if (!on()) {
    return Step::kNone;
  }
  if (!trial_) {
    begin(newest, now);
    return Step::kNone;
  }
  const bool enough = canary_.count >= options_.reports && rest_.count >= options_.reports;
  const double gain = canary_.mean - rest_.mean;
  const bool over = now - since_ >= options_.window;
  const double bound = (over ? 1.0 : 2.0) * options_.errors * std::sqrt(canary_.error() + rest_.error());
  const spec::Standing standing =
      enough ? spec::standing({gain, gain - bound, gain + bound}) : spec::Standing::kUnproven;
  if (over && standing == spec::Standing::kBetter) {
    trial_ = false;
    released_ = newest;
    ++promoted_;
    return Step::kPromoted;
  }
  const bool hopeless = now - since_ >= kLongest * options_.window;
  if (standing == spec::Standing::kWorse || hopeless) {
    trial_ = false;
    ++returned_;
    return Step::kReturned;
  }
  return Step::kNone;
}

PromotionStats Promotion::stats() const {
  std::vector<std::string> named;
  if (trial_) {
    const auto end =
        std::next(canaries_.begin(), static_cast<std::ptrdiff_t>(std::min(kNamed, canaries_.size())));
    named.assign(canaries_.begin(), end);
  }
  return {.on = on(),
          .released = released_->version,
          .trial = trial_,
          .canaries = trial_ ? canaries_.size() : 0,
          .canary_nodes = std::move(named),
          .promoted = promoted_,
          .returned = returned_,
          .canary_objective = canary_.mean,
          .rest_objective = rest_.mean,
          .canary_reports = canary_.count,
          .rest_reports = rest_.count};
}

}  // namespace ballast::sync
