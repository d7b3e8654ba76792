// SPDX-License-Identifier: Apache-2.0
#include "model/learn/forecast_worker.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>

#include "core/base/file.h"

namespace ballast::learn {
namespace {

constexpr double kJudgedS = 120;  // time constant of the errors told

}  // namespace

ForecastSettings ForecastWorker::settings_of(ForecastSettings base, std::string_view worker_id) {
  const double place = static_cast<double>(crc32(worker_id)) / 4294967295.0;
  base.span_s *= std::exp2(2 * place - 1);
  return base;
}

void ForecastWorker::take(const std::vector<spec::ForecastSample>& samples, double now) {
  if (!samples.empty() && held_ && stopped_.empty()) {
    const std::vector<float> said = net::forecasts(held_->theta, samples);
    const double fade = std::exp(-(now - judged_s_) / kJudgedS);
    double error = 0;
    double as_now = 0;
    for (std::size_t i = 0; i < samples.size(); ++i) {
      const auto came = static_cast<double>(samples[i].came);
      error += std::pow(static_cast<double>(said[i]) - came, 2);
      as_now += std::pow(static_cast<double>(samples[i].input.now) - came, 2);
    }
    judged_s_ = now;
    weight_ = weight_ * fade + static_cast<double>(samples.size());
    error_ = error_ * fade + error;
    as_now_ = as_now_ * fade + as_now;
    fresh_ = -error / std::max(as_now, 1e-3 * static_cast<double>(samples.size()));
    fresh_known_ = true;
  }
  for (const spec::ForecastSample& sample : samples) {
    kept_.push_back({sample, now});
  }
  credit_ = std::min(credit_ + settings_.reuse * static_cast<double>(samples.size()),
                     settings_.reuse * static_cast<double>(settings_.most));
  while (!kept_.empty() && (kept_.size() > settings_.most || now - kept_.front().came_s > settings_.span_s)) {
    kept_.pop_front();
  }
}

std::optional<sync::Gradient> ForecastWorker::stop(const std::string& why) {
  stopped_ = fmt::format("gradient {} at version {}: {}; the last good version is {}", gradients_ + 1,
                         held_->version, why, good_ ? std::to_string(good_->version) : "none");
  return std::nullopt;
}

std::optional<sync::Gradient> ForecastWorker::learn(double now) {
  const auto batch = static_cast<double>(settings_.batch);
  if (!stopped_.empty() || !held_ || kept_.size() < settings_.least || credit_ < batch ||
      now - pushed_s_ < 1 / settings_.pushes_per_s) {
    return std::nullopt;
  }
  pushed_s_ = now;
  credit_ -= batch;
  std::vector<spec::ForecastSample> drawn;
  for (std::size_t i = 0; i < settings_.batch; ++i) {
    drawn.push_back(kept_[random_() % kept_.size()].sample);
  }
  auto gradient = net::forecast_gradient(held_->theta, drawn);
  if (!gradient) {
    return stop(gradient.error().message);
  }
  if (gradient->loss.loss > kExploded * std::max(gradient->loss.as_now, kLeastLoss)) {
    return stop(fmt::format("the loss is {:.3g}, that of \"as now\" {:.3g}", gradient->loss.loss,
                            gradient->loss.as_now));
  }
  good_ = held_;
  ++gradients_;
  double squares = 0;
  for (const float each : gradient->flat) {
    squares += static_cast<double>(each) * static_cast<double>(each);
  }
  sync::Gradient out{{held_->epoch, held_->version},
                     static_cast<std::uint32_t>(settings_.batch),
                     std::sqrt(squares),
                     std::move(gradient->flat),
                     std::exchange(fresh_known_, false) ? fresh_ : std::numeric_limits<double>::quiet_NaN(),
                     learned_from()};
  return out;
}

sync::LearnedFrom ForecastWorker::learned_from() const {
  const double n = std::max(weight_, 1e-9);
  return {kept_.size(), kept_.empty() ? 0 : static_cast<float>(kept_.back().came_s - kept_.front().came_s),
          static_cast<float>(error_ / n), static_cast<float>(as_now_ / n)};
}

}  // namespace ballast::learn
