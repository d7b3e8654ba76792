// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/acting_policy.h"

#include <utility>

#include "agent/decide/forecast_rule.h"
#include "agent/decide/prior.h"
#include "agent/decide/queue_rule.h"
#include "core/base/file.h"
#include "model/policy/forecast_file.h"
#include "model/policy/forward.h"
#include "model/policy/parameters.h"
#include "model/policy/shipped.h"

namespace ballast::loop {

Result<ActingPolicy> ActingPolicy::create(PolicyKind kind, const decide::LearnedOptions& options,
                                          const std::optional<std::string>& parameters) {
  ActingPolicy acting(kind);
  switch (kind) {
    case PolicyKind::kNeutral:
      acting.policy_ = std::make_unique<decide::NeutralPolicy>();
      return acting;
    case PolicyKind::kPrior:
      acting.policy_ = std::make_unique<decide::PriorPolicy>(options.prior);
      return acting;
    case PolicyKind::kQueueRule:
    case PolicyKind::kForecastRule: {
      decide::QueueRuleOptions rule;
      rule.gate = options.prior.gate;
      rule.filter = options.prior.filter;
      if (kind == PolicyKind::kQueueRule) {
        acting.policy_ = std::make_unique<decide::QueueRule>(rule);
        return acting;
      }
      auto theta = policy::parse_forecast(parameters ? *parameters : policy::shipped_forecast());
      if (!theta) {
        return Error::usage(theta.error().message);
      }
      acting.policy_ = std::make_unique<decide::ForecastRule>(
          std::make_shared<const std::vector<float>>(std::move(*theta)), rule);
      return acting;
    }
    case PolicyKind::kLearned:
      break;
  }
  auto learned = std::make_unique<decide::LearnedPolicy>(nullptr, options);
  acting.learned_ = learned.get();
  acting.policy_ = std::move(learned);
  if (Status status = acting.install(parameters ? *parameters : policy::shipped(), 0); !status) {
    return Error::usage(status.error().message);
  }
  return acting;
}

const char* ActingPolicy::name() const {
  switch (kind_) {
    case PolicyKind::kNeutral:
      return "neutral";
    case PolicyKind::kQueueRule:
      return "queue_rule";
    case PolicyKind::kForecastRule:
      return "forecast_rule";
    case PolicyKind::kLearned:
      return "learned";
    case PolicyKind::kPrior:
      break;
  }
  return "prior";
}

Status ActingPolicy::replace(std::string_view bytes) {
  Status status = install(bytes, 0);
  (status ? replaced_ : refused_) += 1;
  return status;
}

Status ActingPolicy::replace_from_learner(std::string_view bytes) {
  Status status = install(bytes, learner_epoch_);
  (status ? replaced_ : refused_) += 1;
  if (status) {
    learner_epoch_ = epoch_;
  }
  return status;
}

Status ActingPolicy::install(std::string_view bytes, std::uint64_t least_epoch) {
  if (learned_ == nullptr) {
    return Error::failed(std::string("policy ") + name() + " has no parameters");
  }
  const auto parameters = policy::parse(bytes);
  if (!parameters) {
    return parameters.error();
  }
  if (parameters->epoch < least_epoch) {
    return Error::failed("epoch " + std::to_string(parameters->epoch) + " is older than epoch " +
                         std::to_string(least_epoch) + ", which acted before: a deposed leader's");
  }
  auto network = policy::ForwardNetwork::create(*parameters);
  if (!network) {
    return network.error();
  }
  learned_->set_network(*network);
  epoch_ = parameters->epoch;
  version_ = parameters->version;
  crc32_ = policy::fingerprint(bytes);
  return ok();
}

}  // namespace ballast::loop
