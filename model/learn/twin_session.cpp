// SPDX-License-Identifier: Apache-2.0
#include "model/learn/twin_session.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "model/net/forecast_net.h"
#include "model/twin/gain_learner.h"
#include "model/twin/twin.h"

namespace ballast::learn {
namespace {

constexpr std::size_t kBatch = 64;
constexpr double kFitRate = 5e-4;
constexpr std::uint64_t kJudged = 900'001;  ///< seeds of traces that nothing is learned from
constexpr std::size_t kPairs = 8;

twin::Theta shared(std::vector<float> theta) {
  return std::make_shared<const std::vector<float>>(std::move(theta));
}

/// Goes on fitting; nullopt, and said, where that is no improvement in the twin.
std::vector<float> fit(const twin::Twin& of_busiest, const std::vector<spec::ForecastSample>& samples,
                       const std::vector<float>& before, const TwinOptions& options) {
  net::FitOptions fitting;
  fitting.seed = options.seed;
  fitting.steps = options.fit_steps;
  fitting.batch = kBatch;
  fitting.learning_rate = kFitRate;
  fitting.initial = before;
  const auto theta = net::fit_forecast(samples, fitting);
  if (!theta) {
    options.say("forecast: as before: " + theta.error().message);
    return {};
  }
  const auto error = [&](const std::vector<float>& parameters) {
    const auto gradient = net::forecast_gradient(parameters, samples);
    return gradient ? gradient->loss.loss : 0.0;
  };
  std::string why;
  const bool better = twin::improved(
      twin::compare(of_busiest, twin::Acting{shared(before)}, twin::Acting{shared(*theta)}, kJudged, kPairs),
      &why);
  options.say(fmt::format("forecast: error over its {} samples {:.4f}, before {:.4f}; {}: {}", samples.size(),
                          error(*theta), error(before), why, better ? "taken" : "as before"));
  return better ? *theta : std::vector<float>{};
}

}  // namespace

Result<TwinResult> learn_in_twin(const policy::Recording& recording, std::vector<float> forecast,
                                 const TwinOptions& options) {
  for (const auto& note : recording.notes) {
    options.say("recording: " + note);
  }
  TwinResult result{.forecast = std::move(forecast), .gains = {}, .forecast_learned = false};
  std::string last = "the recording holds no service";
  bool busiest = true;
  bool any = false;
  for (const auto& service : twin::services_of(recording.ticks)) {
    const std::string name = service.ns + "/" + service.name;
    const auto built = twin::build(recording.ticks, service, twin::Acting{shared(result.forecast)});
    if (!built) {
      last = built.error().message;
      options.say(last);
      continue;
    }
    any = true;
    for (const auto& note : built->notes) {
      options.say(name + ": " + note);
    }
    options.say(
        fmt::format("{}: twin of {:.0f} s: p50 predicted {:.1f} ms, happened {:.1f}; p99 predicted {:.1f} "
                    "ms, happened {:.1f}",
                    name, built->recorded_s, built->predicted_p50_ms, built->happened_p50_ms,
                    built->predicted_p99_ms, built->happened_p99_ms));
    if (busiest && options.forecast) {
      std::vector<spec::ForecastSample> samples;
      for (const auto& each : twin::services_of(recording.ticks)) {
        const auto more = twin::samples_of(recording.ticks, each);
        samples.insert(samples.end(), more.begin(), more.end());
      }
      if (auto theta = fit(*built, samples, result.forecast, options); !theta.empty()) {
        result.forecast = std::move(theta);
        result.forecast_learned = true;
      }
    }
    busiest = false;
    if (!options.gains) {
      continue;
    }
    twin::GainOptions learning;
    learning.seed = options.seed;
    learning.updates = options.updates;
    learning.most_s = options.most_s;
    const twin::Theta theta = shared(result.forecast);
    const auto learned = twin::learn_gains(*built, theta, learning);
    if (!learned) {
      options.say(name + ": " + learned.error().message);
      continue;
    }
    std::string why;
    const bool better = twin::improved(
        twin::compare(*built, twin::Acting{theta}, twin::Acting{theta, learned->gains}, kJudged, kPairs),
        &why);
    std::string gains;
    for (std::size_t i = 0; i < spec::kGains; ++i) {
      gains += fmt::format(" {} {:+.2f}", spec::kGainNames[i], learned->gains[i]);
    }
    options.say(
        fmt::format("{}: {} updates over {:.0f} s of the twin in {:.0f} s; return {:+.3f} to {:+.3f};{}; "
                    "{}: {}",
                    name, learned->updates, learned->simulated_s, learned->computing_s, learned->first_return,
                    learned->last_return, gains, why, better ? "taken" : "as before"));
    if (better) {
      result.gains[service] = learned->gains;
    }
  }
  return any ? Result<TwinResult>(std::move(result)) : Result<TwinResult>(Error::failed(last));
}

}  // namespace ballast::learn
