// SPDX-License-Identifier: Apache-2.0
#include "model/net/actor_critic.h"

#include <ATen/Parallel.h>
#include <torch/types.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <mutex>
#include <string>
#include <utility>

namespace ballast::net {

namespace {

constexpr auto kObs = static_cast<std::int64_t>(spec::kObservation);
constexpr auto kHidden = static_cast<std::int64_t>(spec::kHidden);
constexpr auto kActions = static_cast<std::int64_t>(spec::kActions);

void use_one_thread() {
  static std::once_flag once;
  // The node belongs to the pods: the learner may use one core, and small matrices gain nothing from more.
  std::call_once(once, [] {
    at::set_num_threads(1);
    at::set_num_interop_threads(1);
  });
}

at::Tensor tensor_of(std::span<const spec::Observation> observations) {
  auto tensor = torch::empty({static_cast<std::int64_t>(observations.size()), kObs}, torch::kFloat32);
  static_assert(sizeof(spec::Observation) == spec::kObservation * sizeof(float));
  if (!observations.empty()) {
    std::memcpy(tensor.data_ptr<float>(), observations.data(), observations.size_bytes());
  }
  return tensor;
}

template <typename T>
at::Tensor column(const std::vector<T>& values, at::ScalarType type) {
  auto tensor = torch::empty({static_cast<std::int64_t>(values.size())}, type);
  std::memcpy(tensor.data_ptr<T>(), values.data(), values.size() * sizeof(T));
  return tensor;
}

// Views into the flat vector, so that autograd's gradient is flat and in spec.h's order too.
struct Layers {
  explicit Layers(const at::Tensor& theta) {
    std::int64_t at = 0;
    const auto take = [&](std::int64_t n) {
      const auto part = theta.slice(0, at, at + n);
      at += n;
      return part;
    };
    w1 = take(kHidden * kObs).view({kHidden, kObs});
    b1 = take(kHidden);
    w2 = take(kHidden * kHidden).view({kHidden, kHidden});
    b2 = take(kHidden);
    w_pi = take(kActions * kHidden).view({kActions, kHidden});
    b_pi = take(kActions);
    w_v = take(kHidden).view({1, kHidden});
    b_v = take(1);
  }

  at::Tensor encode(const at::Tensor& x) const {
    return at::relu(at::linear(at::relu(at::linear(x, w1, b1)), w2, b2));
  }
  at::Tensor actor(const at::Tensor& observations) const {
    return at::linear(encode(observations), w_pi, b_pi);
  }
  at::Tensor critic(const at::Tensor& contexts) const {
    return at::linear(encode(contexts), w_v, b_v).squeeze(1);
  }

  at::Tensor w1, b1, w2, b2, w_pi, b_pi, w_v, b_v;
};

bool finite(const spec::Observation& observation) {
  return std::all_of(observation.begin(), observation.end(), [](float x) { return std::isfinite(x); });
}

// All steps of all rollouts, one after the other.
struct Batch {
  explicit Batch(std::span<const spec::Rollout> rollouts) {
    for (const auto& rollout : rollouts) {
      for (const auto& step : rollout.steps) {
        observations.push_back(step.observation);
        contexts.push_back(step.context);
        actions.push_back(step.action);
        behaviour.push_back(step.behaviour_probability);
      }
    }
  }

  std::vector<spec::Observation> observations;
  std::vector<spec::Observation> contexts;
  std::vector<std::int64_t> actions;
  std::vector<float> behaviour;
};

// n-step returns in the order of Batch; `values` are the critic's of every step, `bootstraps` of every
// rollout.
std::vector<float> returns_of(std::span<const spec::Rollout> rollouts, const float* values,
                              const float* bootstraps, const Hyperparameters& hyper) {
  std::vector<float> returns;
  for (std::size_t r = 0, first = 0; r < rollouts.size(); ++r) {
    const auto& steps = rollouts[r].steps;
    returns.resize(first + steps.size());
    double ahead = rollouts[r].terminal ? 0.0 : static_cast<double>(bootstraps[r]);
    for (std::size_t t = steps.size(); t-- > 0;) {
      if (t + 1 < steps.size() && (t + 1) % hyper.t_max == 0) {
        ahead = static_cast<double>(values[first + t + 1]);
      }
      ahead = static_cast<double>(steps[t].reward) + hyper.gamma * ahead;
      returns[first + t] = static_cast<float>(ahead);
    }
    first += steps.size();
  }
  return returns;
}

double mean_reward(std::span<const spec::Rollout> rollouts, std::size_t steps) {
  double sum = 0;
  for (const auto& rollout : rollouts) {
    for (const auto& step : rollout.steps) {
      sum += static_cast<double>(step.reward);
    }
  }
  return sum / static_cast<double>(steps);
}

double scalar(const at::Tensor& tensor) {
  return tensor.item<double>();
}

}  // namespace

Status check(const spec::Rollout& rollout) {
  const auto refuse = [&](const std::string& why) {
    return Error::failed("rollout of " + rollout.endpoint + ": " + why);
  };
  if (rollout.steps.empty()) {
    return refuse("it has no step");
  }
  if (!finite(rollout.bootstrap_context)) {
    return refuse("its bootstrap context is not finite");
  }
  for (const auto& step : rollout.steps) {
    if (step.action >= spec::kActions) {
      return refuse("action " + std::to_string(step.action) + " is not one of " + std::to_string(kActions));
    }
    if (!(step.behaviour_probability > 0.0F && step.behaviour_probability <= 1.0F)) {
      return refuse("behaviour probability " + std::to_string(step.behaviour_probability) +
                    " is not in (0, 1]");
    }
    if (!finite(step.observation) || !finite(step.context) || !std::isfinite(step.reward)) {
      return refuse("an observation or a reward is not finite");
    }
  }
  return ok();
}

struct ActorCritic::Impl {
  at::Tensor theta = torch::zeros({static_cast<std::int64_t>(spec::kParameters)}, torch::kFloat32);
};

ActorCritic::ActorCritic() {
  use_one_thread();
  impl_ = std::make_unique<Impl>();
}
ActorCritic::ActorCritic(ActorCritic&&) noexcept = default;
ActorCritic& ActorCritic::operator=(ActorCritic&&) noexcept = default;
ActorCritic::~ActorCritic() = default;

Status ActorCritic::load(std::span<const float> theta) {
  if (theta.size() != spec::kParameters) {
    return Error::failed("loading parameters: " + std::to_string(theta.size()) +
                         " numbers where the network has " + std::to_string(spec::kParameters));
  }
  std::memcpy(impl_->theta.data_ptr<float>(), theta.data(), theta.size_bytes());
  return ok();
}

std::vector<float> ActorCritic::store() const {
  const float* first = impl_->theta.data_ptr<float>();
  return {first, first + spec::kParameters};
}

std::vector<std::array<float, spec::kActions>> ActorCritic::logits(
    std::span<const spec::Observation> observations) const {
  const at::NoGradGuard no_grad;
  const auto out = Layers(impl_->theta).actor(tensor_of(observations)).contiguous();
  std::vector<std::array<float, spec::kActions>> logits(observations.size());
  if (!logits.empty()) {
    std::memcpy(logits.data(), out.data_ptr<float>(), logits.size() * sizeof(logits[0]));
  }
  return logits;
}

std::vector<float> ActorCritic::values(std::span<const spec::Observation> contexts) const {
  const at::NoGradGuard no_grad;
  const auto out = Layers(impl_->theta).critic(tensor_of(contexts)).contiguous();
  return {out.data_ptr<float>(), out.data_ptr<float>() + contexts.size()};
}

Result<Gradient> ActorCritic::gradient(std::span<const spec::Rollout> rollouts,
                                       const Hyperparameters& hyper) const {
  if (rollouts.empty() || hyper.t_max == 0) {
    return Error::failed("computing a gradient: there is no rollout, or t_max is 0");
  }
  std::vector<spec::Observation> ends;
  for (const auto& rollout : rollouts) {
    if (auto checked = check(rollout); !checked) {
      return checked.error().in("computing a gradient");
    }
    ends.push_back(rollout.bootstrap_context);
  }
  const Batch batch(rollouts);
  const std::size_t steps = batch.actions.size();

  const auto theta = impl_->theta.detach().clone().set_requires_grad(true);
  const Layers layers(theta);
  const auto values = layers.critic(tensor_of(batch.contexts));
  const auto bootstraps = this->values(ends);
  const auto baseline = values.detach().contiguous();
  const auto returns =
      column(returns_of(rollouts, baseline.data_ptr<float>(), bootstraps.data(), hyper), torch::kFloat32);
  const auto advantage = returns - baseline;

  const auto log_pi = at::log_softmax(layers.actor(tensor_of(batch.observations)), 1);
  const auto log_pi_a = log_pi.gather(1, column(batch.actions, torch::kInt64).unsqueeze(1)).squeeze(1);
  const auto weight = (log_pi_a.detach().exp() / column(batch.behaviour, torch::kFloat32)).clamp_max(1.0);

  const auto policy_loss = -(weight * log_pi_a * advantage).sum();
  const auto value_loss = 0.5 * (returns - values).square().sum();
  const auto entropy = -(log_pi.exp() * log_pi).sum();
  const auto loss =
      (policy_loss + value_loss - hyper.entropy_bonus * entropy) / static_cast<double>(rollouts.size());
  loss.backward();

  const auto slope = theta.grad().contiguous();
  Gradient gradient;
  gradient.flat.assign(slope.data_ptr<float>(), slope.data_ptr<float>() + spec::kParameters);
  const auto n = static_cast<double>(steps);
  gradient.statistics = {.rollouts = rollouts.size(),
                         .steps = steps,
                         .policy_loss = scalar(policy_loss) / n,
                         .value_loss = scalar(value_loss) / n,
                         .entropy = scalar(entropy) / n,
                         .reward = mean_reward(rollouts, steps),
                         .value = scalar(baseline.mean()),
                         .importance_weight = scalar(weight.mean()),
                         .norm = scalar(slope.to(torch::kFloat64).norm())};
  return gradient;
}

}  // namespace ballast::net
