// SPDX-License-Identifier: Apache-2.0
#include "model/learn/a3c_worker.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <map>
#include <utility>

namespace ballast::learn {

void A3cWorker::hold(policy::Parameters parameters) {
  std::erase_if(held_, [&](const policy::Parameters& held) {
    return held.epoch != parameters.epoch || held.version == parameters.version;
  });
  held_.push_back(std::move(parameters));
  if (held_.size() > kKept) {
    held_.pop_front();
  }
}

const policy::Parameters* A3cWorker::find(const sync::Version& version) const {
  const auto found = std::find_if(held_.begin(), held_.end(), [&](const policy::Parameters& held) {
    return held.epoch == version.epoch && held.version == version.version;
  });
  return found == held_.end() ? nullptr : &*found;
}

std::vector<sync::Gradient> A3cWorker::learn(std::vector<spec::Rollout> rollouts) {
  std::map<sync::Version, std::vector<spec::Rollout>> by_version;
  for (auto& rollout : rollouts) {
    const sync::Version version{rollout.epoch, rollout.version};
    if (find(version) == nullptr) {
      ++counters_.unknown_theta;
    } else if (auto checked = net::check(rollout); !checked) {
      ++counters_.invalid;
      spdlog::warn("rollout dropped error=\"{}\"", checked.error().message);
    } else {
      by_version[version].push_back(std::move(rollout));
    }
  }
  std::vector<sync::Gradient> gradients;
  for (const auto& [version, group] : by_version) {
    const Status loaded = network_.load(find(version)->theta);
    auto gradient = loaded ? network_.gradient(group, hyper_) : Result<net::Gradient>(loaded.error());
    if (!gradient) {
      counters_.invalid += group.size();
      spdlog::warn("rollouts dropped error=\"{}\"", gradient.error().message);
      continue;
    }
    counters_.rollouts += group.size();
    note(gradient->statistics);
    gradients.push_back({version, static_cast<std::uint32_t>(gradient->statistics.steps),
                         gradient->statistics.norm, std::move(gradient->flat), gradient->statistics.reward});
  }
  return gradients;
}

void A3cWorker::note(const net::Statistics& statistics) {
  auto& mean = progress_.mean;
  const double before = static_cast<double>(mean.steps);
  const double now = static_cast<double>(statistics.steps);
  const auto blend = [&](double& into, double value) {
    into = (into * before + value * now) / (before + now);
  };
  blend(mean.policy_loss, statistics.policy_loss);
  blend(mean.value_loss, statistics.value_loss);
  blend(mean.entropy, statistics.entropy);
  blend(mean.reward, statistics.reward);
  blend(mean.value, statistics.value);
  blend(mean.importance_weight, statistics.importance_weight);
  blend(mean.norm, statistics.norm);
  mean.steps += statistics.steps;
  mean.rollouts += statistics.rollouts;
  ++progress_.gradients;
}

std::optional<Progress> A3cWorker::take_progress() {
  if (progress_.gradients == 0) {
    return std::nullopt;
  }
  return std::exchange(progress_, {});
}

}  // namespace ballast::learn
