// SPDX-License-Identifier: Apache-2.0
#include "model/train/loss.h"

#include <algorithm>
#include <cmath>

namespace ballast::train {
namespace {

/// log softmax of one row, in place of what it is given.
double log_softmax(std::span<const float> logits, std::vector<double>& out) {
  const float highest = *std::max_element(logits.begin(), logits.end());
  double sum = 0;
  for (const float logit : logits) {
    sum += std::exp(static_cast<double>(logit - highest));
  }
  const double log_sum = std::log(sum);
  out.clear();
  double entropy = 0;
  for (const float logit : logits) {
    out.push_back(static_cast<double>(logit - highest) - log_sum);
    entropy -= std::exp(out.back()) * out.back();
  }
  return entropy;
}

struct PolicyTerm {
  double loss = 0;
  double slope = 0;  ///< of the loss to log pi(a|s)
};

PolicyTerm policy_term(double log_pi, double log_mu, double advantage, double clip) {
  const double ratio = std::exp(log_pi - log_mu);
  if (clip <= 0) {
    const double weight = std::min(1.0, ratio);
    return {-weight * log_pi * advantage, -weight * advantage};
  }
  const double bounded = std::clamp(ratio, 1 - clip, 1 + clip);
  if (ratio * advantage <= bounded * advantage) {
    return {-ratio * advantage, -ratio * advantage};
  }
  return {-bounded * advantage, 0};
}

double value_loss(const Network& network, std::span<const float> theta, const Batch& batch,
                  double coefficient, LossScratch& scratch, std::span<float> gradient) {
  network.critic(theta, batch.contexts, scratch.critic);
  const auto n = static_cast<double>(batch.steps());
  scratch.slope.resize(batch.steps());
  double sum = 0;
  for (std::size_t i = 0; i < batch.steps(); ++i) {
    const double error = static_cast<double>(scratch.critic.out[i]) - static_cast<double>(batch.returns[i]);
    sum += error * error;
    scratch.slope[i] = static_cast<float>(2 * coefficient * error / n);
  }
  if (!gradient.empty()) {
    network.critic_back(theta, scratch.critic, scratch.slope, gradient);
  }
  return sum / n;
}

}  // namespace

LossStatistics actor_critic_loss(const Network& network, std::span<const float> theta, const Batch& batch,
                                 const LossOptions& options, LossScratch& scratch,
                                 std::span<float> gradient) {
  LossStatistics statistics;
  statistics.value = value_loss(network, theta, batch, options.value_coefficient, scratch, gradient);
  statistics.loss = options.value_coefficient * statistics.value;
  if (batch.rows() == 0) {
    return statistics;
  }
  const std::size_t outputs = network.shape().outputs;
  network.actor(theta, batch.observations, scratch.actor);
  scratch.slope.resize(batch.rows() * outputs);
  const auto n = static_cast<double>(batch.rows());
  std::vector<double> log_pi;
  for (std::size_t row = 0; row < batch.rows(); ++row) {
    const double entropy =
        log_softmax(std::span<const float>(scratch.actor.out).subspan(row * outputs, outputs), log_pi);
    const std::size_t action = batch.actions[row];
    const auto log_mu = static_cast<double>(batch.log_probability[row]);
    const PolicyTerm term = policy_term(log_pi[action], log_mu,
                                        static_cast<double>(batch.advantages[batch.step[row]]), options.clip);
    statistics.policy += term.loss / n;
    statistics.entropy += entropy / n;
    for (std::size_t a = 0; a < outputs; ++a) {
      const double pi = std::exp(log_pi[a]);
      const double policy_slope = term.slope * ((a == action ? 1.0 : 0.0) - pi);
      const double entropy_slope = -pi * (log_pi[a] + entropy);
      scratch.slope[row * outputs + a] =
          static_cast<float>((policy_slope - options.entropy_bonus * entropy_slope) / n);
    }
  }
  if (!gradient.empty()) {
    network.actor_back(theta, scratch.actor, scratch.slope, gradient);
  }
  statistics.loss += statistics.policy - options.entropy_bonus * statistics.entropy;
  return statistics;
}

double q_loss(const Network& network, std::span<const float> theta, std::span<const float> inputs,
              std::span<const std::uint8_t> actions, std::span<const float> targets, LossScratch& scratch,
              std::span<float> gradient) {
  network.actor(theta, inputs, scratch.actor);
  const std::size_t outputs = network.shape().outputs;
  const auto n = static_cast<double>(actions.size());
  scratch.slope.assign(actions.size() * outputs, 0.0F);
  double loss = 0;
  for (std::size_t row = 0; row < actions.size(); ++row) {
    const std::size_t at = row * outputs + actions[row];
    const double error = static_cast<double>(scratch.actor.out[at]) - static_cast<double>(targets[row]);
    const double size = std::abs(error);
    loss += size <= 1 ? 0.5 * error * error : size - 0.5;
    scratch.slope[at] = static_cast<float>((size <= 1 ? error : error / size) / n);
  }
  if (!gradient.empty()) {
    network.actor_back(theta, scratch.actor, scratch.slope, gradient);
  }
  return loss / n;
}

double divergence(const Network& network, std::span<const float> before, std::span<const float> after,
                  const Batch& batch, Cache& cache) {
  if (batch.rows() == 0) {
    return 0;
  }
  network.actor(before, batch.observations, cache);
  const std::vector<float> logits = cache.out;
  network.actor(after, batch.observations, cache);
  const std::size_t outputs = network.shape().outputs;
  std::vector<double> log_before;
  std::vector<double> log_after;
  double sum = 0;
  for (std::size_t row = 0; row < batch.rows(); ++row) {
    log_softmax(std::span<const float>(logits).subspan(row * outputs, outputs), log_before);
    log_softmax(std::span<const float>(cache.out).subspan(row * outputs, outputs), log_after);
    for (std::size_t a = 0; a < outputs; ++a) {
      sum += std::exp(log_before[a]) * (log_before[a] - log_after[a]);
    }
  }
  return sum / static_cast<double>(batch.rows());
}

}  // namespace ballast::train
