// SPDX-License-Identifier: Apache-2.0
#include "model/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/base/file.h"
#include "model/env/registry.h"
#include "model/policy/parameters.h"
#include "model/train/checkpoint.h"
#include "model/train/imitate.h"
#include "model/train/progress.h"

namespace ballast::train {
namespace {

namespace fs = std::filesystem;

constexpr std::uint64_t kEvaluationSeed = 0x5EED0001;
constexpr std::uint64_t kFinalSeed = 0x5EED0002;

/// Acts by what it is given, so that best and last parameters can be judged alike.
double judged(const TrainOptions& options, Learner& learner, const std::vector<float>& theta,
              env::Environment& environment) {
  LearnerState state = learner.state();
  const LearnerState kept = state;
  state.theta = theta;
  if (!learner.restore(std::move(state))) {
    return std::numeric_limits<double>::quiet_NaN();
  }
  const double mean = evaluate(learner, environment, options.final_episodes, kFinalSeed);
  return learner.restore(kept) ? mean : std::numeric_limits<double>::quiet_NaN();
}

std::string csv_line(const CurvePoint& point) {
  return fmt::format("{},{},{:.6g},{:.6g},{},{:.6g},{:.6g},{:.6g},{:.6g},{:.6g}\n", point.steps,
                     point.episodes, point.training_return, point.evaluation_return, point.progress.updates,
                     point.progress.policy_loss, point.progress.value_loss, point.progress.entropy,
                     point.progress.learning_rate, point.progress.entropy_bonus);
}

constexpr const char* kCsvHead =
    "steps,episodes,training_return,evaluation_return,updates,policy_loss,value_loss,entropy,"
    "learning_rate,exploration\n";

/// One run with all that it holds.
class Run {
 public:
  Run(const TrainOptions& options, std::string learner, MakeEnvironment make,
      std::unique_ptr<env::Environment> judge)
      : options_(options), name_(std::move(learner)), make_(std::move(make)), judge_(std::move(judge)) {
    Job job;
    job.make_environment = make_;
    job.seed = options.seed;
    job.steps = options.steps;
    job.hyper = options.hyper ? *options.hyper : tuned(name_, judge_->spec().name);
    job.hyper.workers = options.workers > 0 ? options.workers : job.hyper.workers;
    if (options.learning_rate > 0) {
      job.hyper.final_learning_rate *= options.learning_rate / job.hyper.learning_rate;
      job.hyper.learning_rate = options.learning_rate;
    }
    job.hyper.horizon = options.horizon > 0 ? options.horizon : job.hyper.horizon;
    job.hyper.gamma = options.gamma > 0 ? options.gamma : job.hyper.gamma;
    job.hyper.one_exploration = job.hyper.one_exploration || options.one_exploration;
    learner_ = make_learner(name_, job);
  }

  Status prepare() {
    if (!options_.initial.empty()) {
      if (Status status = begin_with(options_.initial); !status.ok()) {
        return status;
      }
    }
    if (options_.imitate_steps > 0) {
      if (Status status = begin_by_imitation(); !status.ok()) {
        return status;
      }
    }
    if (options_.out.empty()) {
      return ok();
    }
    std::error_code error;
    fs::create_directories(options_.out, error);
    if (error) {
      return Error::failed("making " + options_.out.string() + ": " + error.message());
    }
    csv_ = kCsvHead;
    if (options_.resume && fs::exists(options_.out / "checkpoint.bin")) {
      return go_on();
    }
    return ok();
  }

  Result<TrainResult> learn(const std::function<void(const CurvePoint&)>& report) {
    const std::uint64_t every = options_.evaluate_every > 0 ? options_.evaluate_every
                                                            : std::max<std::uint64_t>(1, options_.steps / 50);
    while (learner_->steps() < options_.steps) {
      const auto begin = std::chrono::steady_clock::now();
      const std::uint64_t before = learner_->steps();
      const Status status = learner_->advance(std::min(options_.steps, before / every * every + every));
      seconds_ += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
      counted_ += learner_->steps() - before;
      if (!status.ok()) {
        return stopped(status.error());
      }
      const std::vector<float> theta = learner_->state().theta;
      if (!std::all_of(theta.begin(), theta.end(), [](float value) { return std::isfinite(value); })) {
        return stopped(not_finite(learner_->steps(), 0));
      }
      if (Status looked = look(); !looked.ok()) {
        return looked.error();
      }
      if (report) {
        report(result_.curve.back());
      }
    }
    return finish();
  }

 private:
  std::string identity() const {
    return name_ + " " + judge_->spec().name + " seed " + std::to_string(options_.seed) + " steps " +
           std::to_string(options_.steps);
  }

  Status begin_with(const fs::path& path) {
    const auto bytes = read_file(path);
    if (!bytes) {
      return bytes.error();
    }
    const auto parsed = policy::parse(*bytes);
    if (!parsed) {
      return parsed.error().in(path.string());
    }
    const Network* network = learner_->network();
    if (network == nullptr || !network->shape().shared || network->parameters() != parsed->theta.size()) {
      return Error::usage("--initial: " + name_ + " in " + judge_->spec().name +
                          " does not learn a network that an agent can load");
    }
    LearnerState state = learner_->state();
    state.theta = network->from_spec(parsed->theta);
    return learner_->restore(std::move(state));
  }

  Status begin_by_imitation() {
    if (learner_->network() == nullptr) {
      return Error::usage("--imitate: " + name_ + " has no network");
    }
    ImitateOptions imitation;
    imitation.steps = options_.imitate_steps;
    imitation.seed = options_.seed;
    LearnerState state = learner_->state();
    auto theta = imitate(*learner_->network(), state.theta, make_, imitation);
    if (!theta) {
      return theta.error();
    }
    state.theta = std::move(*theta);
    if (Status status = learner_->restore(std::move(state)); !status.ok()) {
      return status;
    }
    best_ = evaluate(*learner_, *judge_, options_.evaluation_episodes, kEvaluationSeed);
    result_.best_theta = learner_->state().theta;
    return ok();
  }

  Status go_on() {
    const auto checkpoint = load(options_.out / "checkpoint.bin");
    if (!checkpoint) {
      return checkpoint.error();
    }
    if (checkpoint->identity != identity()) {
      return Error::usage((options_.out / "checkpoint.bin").string() + " is of '" + checkpoint->identity +
                          "', this run is '" + identity() + "'");
    }
    if (Status status = learner_->restore(checkpoint->state); !status.ok()) {
      return status.error().in((options_.out / "checkpoint.bin").string());
    }
    result_.best_theta = checkpoint->best_theta;
    best_ = checkpoint->best_return;
    if (const auto written = read_file(options_.out / "curve.csv")) {
      csv_ = *written;
    }
    return ok();
  }

  Status look() {
    CurvePoint point;
    point.steps = learner_->steps();
    point.progress = learner_->take_progress();
    episodes_ += point.progress.returns.size();
    point.episodes = episodes_;
    if (!point.progress.returns.empty()) {
      double sum = 0;
      for (const double value : point.progress.returns) {
        sum += value;
      }
      training_return_ = sum / static_cast<double>(point.progress.returns.size());
    }
    point.training_return = training_return_;
    point.evaluation_return = evaluate(*learner_, *judge_, options_.evaluation_episodes, kEvaluationSeed);
    const LearnerState state = learner_->state();
    if (result_.best_theta.empty() || point.evaluation_return >= best_) {
      best_ = point.evaluation_return;
      result_.best_theta = state.theta;
    }
    csv_ += csv_line(point);
    point.progress.returns.clear();
    result_.curve.push_back(std::move(point));
    if (options_.out.empty()) {
      return ok();
    }
    if (Status status = save(options_.out / "checkpoint.bin", {identity(), state, result_.best_theta, best_});
        !status.ok()) {
      return status.error().in("writing a checkpoint (the one before is whole)");
    }
    return write_file_atomic(options_.out / "curve.csv", csv_);
  }

  Error stopped(const Error& error) const {
    const bool kept = !options_.out.empty() && fs::exists(options_.out / "checkpoint.bin");
    return {error.kind, name_ + ": " + error.message + "; last good checkpoint: " +
                            (kept ? (options_.out / "checkpoint.bin").string() : "none")};
  }

  Result<TrainResult> finish() {
    result_.theta = learner_->state().theta;
    if (result_.best_theta.empty()) {
      result_.best_theta = result_.theta;
    }
    result_.final_return = judged(options_, *learner_, result_.best_theta, *judge_);
    result_.last_return = judged(options_, *learner_, result_.theta, *judge_);
    result_.steps_per_s = seconds_ > 0 ? static_cast<double>(counted_) / seconds_ : 0;
    if (options_.out.empty()) {
      return result_;
    }
    const nlohmann::ordered_json summary = {{"learner", name_},
                                            {"environment", judge_->spec().name},
                                            {"seed", options_.seed},
                                            {"steps", learner_->steps()},
                                            {"final_episodes", options_.final_episodes},
                                            {"final_return", result_.final_return},
                                            {"last_return", result_.last_return},
                                            {"solved_at", judge_->spec().solved},
                                            {"steps_per_s", result_.steps_per_s}};
    if (Status status = write_file_atomic(options_.out / "summary.json", summary.dump(1) + "\n");
        !status.ok()) {
      return status.error();
    }
    const Network* network = learner_->network();
    if (network != nullptr && network->shape().shared && network->parameters() == spec::kParameters) {
      const policy::Parameters parameters{1, learner_->steps(), network->to_spec(result_.best_theta)};
      if (Status status = write_file_atomic(options_.out / "parameters.bin", policy::serialize(parameters));
          !status.ok()) {
        return status.error();
      }
    }
    return result_;
  }

  const TrainOptions& options_;
  std::string name_;
  MakeEnvironment make_;
  std::unique_ptr<env::Environment> judge_;
  std::unique_ptr<Learner> learner_;
  TrainResult result_;
  std::string csv_;
  double best_ = 0;
  double training_return_ = 0;
  double seconds_ = 0;
  std::uint64_t counted_ = 0;
  std::uint64_t episodes_ = 0;
};

}  // namespace

namespace {

template <typename Act>
double mean_return(const Act& act, env::Environment& environment, std::size_t episodes, std::uint64_t seed) {
  double sum = 0;
  std::vector<std::size_t> actions;
  for (std::size_t episode = 0; episode < episodes; ++episode) {
    environment.reset(env::Random::derive(seed, episode));
    for (bool done = environment.agents() == 0; !done;) {
      actions.clear();
      for (std::size_t agent = 0; agent < environment.agents(); ++agent) {
        actions.push_back(act(environment.observation(agent)));
      }
      const env::Outcome outcome = environment.step(actions);
      sum += outcome.reward;
      done = outcome.done();
    }
  }
  return episodes > 0 ? sum / static_cast<double>(episodes) : 0;
}

}  // namespace

double evaluate(const Learner& learner, env::Environment& environment, std::size_t episodes,
                std::uint64_t seed) {
  const auto act = [&](std::span<const float> observation) { return learner.act(observation); };
  return mean_return(act, environment, episodes, seed);
}

Result<double> evaluate_technique(const std::string& technique, const std::vector<std::string>& scenarios,
                                  std::size_t episodes) {
  env::EnvironmentOptions options;
  options.scenarios = scenarios;
  options.steered_by = technique;
  const auto make = env::find_environment("queue", options);
  if (!make) {
    return make.error();
  }
  const auto environment = (*make)();
  const auto passed_over = [](std::span<const float>) { return spec::kKeep; };
  return mean_return(passed_over, *environment, episodes, kEvaluationSeed);
}

Result<TrainResult> run(const TrainOptions& options, const std::function<void(const CurvePoint&)>& report) {
  auto learner = canonical_learner(options.learner);
  if (!learner) {
    return learner.error();
  }
  auto make =
      env::find_environment(options.environment, {options.scenarios, options.without, options.p50_weight});
  if (!make) {
    return make.error();
  }
  // What is learned without is learned from; what it is worth is judged by the whole reward.
  env::EnvironmentOptions whole{options.scenarios, options.without, options.p50_weight};
  std::erase(whole.without, "churn");
  const auto judge = env::find_environment(options.environment, whole);
  if (!judge) {
    return judge.error();
  }
  Run one(options, *learner, *make, (*judge)());
  if (Status status = one.prepare(); !status.ok()) {
    return status.error();
  }
  return one.learn(report);
}

}  // namespace ballast::train
