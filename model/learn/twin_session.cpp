// SPDX-License-Identifier: Apache-2.0
#include "model/learn/twin_session.h"

#include <fmt/format.h>

#include <memory>
#include <utility>

#include "core/spec/service_name.h"
#include "model/net/forecast_net.h"
#include "model/twin/gain_learner.h"
#include "model/twin/twin.h"

namespace ballast::learn {
namespace {

constexpr std::size_t kBatch = 64;
constexpr double kFitRate = 5e-4;
constexpr std::uint64_t kJudged = 900'001;  ///< first of the seeds that are judged by
constexpr std::size_t kPairs = 8;

twin::Theta shared(std::vector<float> theta) {
  return theta.empty() ? nullptr : std::make_shared<const std::vector<float>>(std::move(theta));
}

twin::Judgement judged(const twin::Twin& in, const twin::Acting& before, const twin::Acting& after,
                       const TwinOptions& options) {
  return twin::judge(twin::compare(in, before, after, kJudged, kPairs, options.stopping));
}

std::string words_of(const spec::Gains& gains) {
  std::string out;
  for (std::size_t i = 0; i < spec::kGains; ++i) {
    out += fmt::format(" {} {:+.2f}", spec::kGainNames[i], gains[i]);
  }
  return out;
}

/// Goes on fitting; empty, and said, where that is no improvement in the twin.
std::vector<float> fit(const twin::Twin& held_out, const std::vector<spec::ForecastSample>& samples,
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
  const auto judgement =
      judged(held_out, twin::Acting{shared(before)}, twin::Acting{shared(*theta)}, options);
  options.say(fmt::format("forecast: error over its {} samples {:.4f}, before {:.4f}; {}: {}", samples.size(),
                          error(*theta), error(before), judgement.why,
                          judgement.improved ? "taken" : "as before"));
  return judgement.improved ? *theta : std::vector<float>{};
}

/// The gains that act from now on; zeros: the rule's own. Writes its judgement into `word`.
spec::Gains learn_gains(const std::string& name, const spec::ServiceId& service,
                        const twin::Twin& learned_from, const twin::Twin& held_out, const twin::Theta& theta,
                        const spec::Gains& in_force, const TwinOptions& options, spec::TwinWord* word) {
  twin::GainOptions learning;
  learning.seed = options.seed;
  learning.updates = options.updates;
  learning.baseline = options.baseline;
  learning.most_s = options.most_s;
  learning.stopping = options.stopping;
  learning.deviation *= options.exploration;
  if (options.sharing) {
    learning.sharing = options.sharing(service);
  }
  const spec::Gains own{};
  spec::Gains acting = in_force;
  if (const auto learned = twin::learn_gains(learned_from, theta, learning)) {
    options.say(
        fmt::format("{}: {} updates over {:.0f} s of the twin in {:.0f} s; return {:+.3f} to {:+.3f};{}",
                    name, learned->updates, learned->simulated_s, learned->computing_s, learned->first_return,
                    learned->last_return, words_of(learned->gains)));
    if (learned->epoch > 0) {
      options.say(fmt::format("{}: these are version {} of epoch {} of the global network's", name,
                              learned->version, learned->epoch));
    }
    if (in_force == own || judged(held_out, {theta, in_force}, {theta, learned->gains}, options).improved) {
      acting = learned->gains;
    }
  } else {
    word->note = learned.error().message;
    options.say(name + ": " + word->note);
  }
  if (acting == own) {
    return own;
  }
  const auto judgement = judged(held_out, {theta, own}, {theta, acting}, options);
  word->ratio = judgement.p99.mean;
  word->low = judgement.p99.low;
  word->high = judgement.p99.high;
  word->in_force = judgement.improved;
  options.say(fmt::format("{}: {}, by what nothing was learned from: {}", name, judgement.why,
                          judgement.improved ? "taken" : "the rule's own gains"));
  return judgement.improved ? acting : own;
}

}  // namespace

TwinResult learn_in_twin(const policy::Recording& recording, std::vector<float> forecast,
                         const TwinOptions& options) {
  for (const auto& note : recording.notes) {
    options.say("recording: " + note);
  }
  TwinResult result;
  result.forecast = std::move(forecast);
  result.nothing = "the recording holds no service";
  bool any = false;
  std::size_t left = options.services;
  for (const auto& service : twin::services_of(recording.ticks)) {
    if (options.stopping() || left-- == 0) {
      break;
    }
    const std::string name = to_string(service);
    const auto known = options.in_force.find(service);
    const spec::Gains in_force = known != options.in_force.end() ? known->second : spec::Gains{};
    const twin::Acting acted{shared(result.forecast), in_force};
    const auto parts = twin::parts_of(recording.ticks, service);
    const auto learned_from = twin::build(parts.learned, service, acted);
    const auto held_out =
        learned_from ? twin::build(parts.held_out, service, acted, &*learned_from) : learned_from.error();
    spec::TwinWord& word = result.file.twins[service];
    if (!recording.notes.empty()) {
      word.note = recording.notes.front();
    }
    if (!held_out) {
      word.note = learned_from ? "to judge by: " + held_out.error().message : held_out.error().message;
      result.nothing = any ? "" : word.note;
      options.say(word.note);
      continue;
    }
    const bool busiest = !std::exchange(any, true);
    result.nothing.clear();
    result.busiest = busiest ? service : result.busiest;
    word.recorded_s = learned_from->recorded_s + held_out->recorded_s;
    word.gaps = learned_from->gaps + held_out->gaps;
    word.foreseen_p99_ms = held_out->predicted_p99_ms;
    word.came_p99_ms = held_out->happened_p99_ms;
    for (const auto* part : {&*learned_from, &*held_out}) {
      for (const auto& note : part->notes) {
        word.note = note;
        options.say(fmt::format("{}: {}", name, note));
      }
    }
    options.say(fmt::format(
        "{}: twin of {:.0f} s: of the last {:.0f} s p50 predicted {:.1f} ms, happened {:.1f}; p99 "
        "predicted {:.1f} ms, happened {:.1f}",
        name, word.recorded_s, held_out->recorded_s, held_out->predicted_p50_ms, held_out->happened_p50_ms,
        held_out->predicted_p99_ms, held_out->happened_p99_ms));
    if (busiest && options.forecast) {
      std::vector<spec::ForecastSample> samples;
      for (const auto& each : twin::services_of(recording.ticks)) {
        const auto more = twin::samples_of(twin::parts_of(recording.ticks, each).learned, each);
        samples.insert(samples.end(), more.begin(), more.end());
      }
      if (auto theta = fit(*held_out, samples, result.forecast, options); !theta.empty()) {
        result.forecast = std::move(theta);
        result.forecast_learned = true;
      }
    }
    if (!options.gains) {
      continue;
    }
    if (const auto gains = learn_gains(name, service, *learned_from, *held_out, shared(result.forecast),
                                       in_force, options, &word);
        word.in_force) {
      result.file.gains[service] = gains;
    }
  }
  return result;
}

}  // namespace ballast::learn
