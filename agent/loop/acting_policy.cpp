// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/acting_policy.h"

#include <fmt/format.h>

#include <utility>

#include "agent/decide/prior.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "model/policy/forecast_file.h"
#include "model/policy/forward.h"
#include "model/policy/gains_file.h"
#include "model/policy/parameters.h"
#include "model/policy/shipped.h"

namespace ballast::loop {
namespace {

decide::QueueRuleOptions rule_options(const decide::LearnedOptions& options) {
  decide::QueueRuleOptions rule;
  rule.gate = options.prior.gate;
  rule.filter = options.prior.filter;
  return rule;
}

std::string refused_by_version(const Status& status) {
  return "parameters of another version, the strong rule acts: " + status.error().message;
}

Error older_epoch(std::uint64_t epoch, std::uint64_t least) {
  return Error::failed("epoch " + std::to_string(epoch) + " is older than epoch " + std::to_string(least) +
                       ", which acted before: a deposed leader's");
}

}  // namespace

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
      const decide::QueueRuleOptions rule = rule_options(options);
      if (kind == PolicyKind::kQueueRule) {
        auto own = std::make_unique<decide::QueueRule>(rule);
        acting.rule_ = own.get();
        acting.policy_ = std::move(own);
        return acting;
      }
      const std::string_view bytes = parameters ? *parameters : policy::shipped_forecast();
      auto forecast = std::make_unique<decide::ForecastRule>(nullptr, rule);
      acting.forecast_ = forecast.get();
      acting.rule_ = &forecast->rule();
      acting.policy_ = std::move(forecast);
      const Status status = acting.install_forecast(bytes);
      const auto version = policy::forecast_version_of(bytes);
      if (!status && (!version || *version == spec::kForecastVersion)) {
        return Error::usage(status.error().message);
      }
      if (!status) {
        acting.trouble_ = refused_by_version(status);
        acting.forecast_->explain_absence(fmt::format("parameters of version {} refused", *version));
      }
      return acting;
    }
    case PolicyKind::kLearned:
      break;
  }
  auto learned = std::make_unique<decide::LearnedPolicy>(nullptr, options);
  acting.learned_ = learned.get();
  acting.policy_ = std::move(learned);
  const std::string_view bytes = parameters ? *parameters : policy::shipped();
  if (Status status = acting.install(bytes, 0); !status) {
    if (!policy::of_another_version(bytes)) {
      return Error::usage(status.error().message);
    }
    acting.stand_in_ = std::make_unique<decide::QueueRule>(rule_options(options));
    acting.trouble_ = refused_by_version(status);
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
      return stand_in_ != nullptr ? "queue_rule" : "learned";
    case PolicyKind::kPrior:
      break;
  }
  return "prior";
}

Status ActingPolicy::count(Status status) {
  (status ? replaced_ : refused_) += 1;
  return status;
}

Status ActingPolicy::replace(std::string_view bytes) {
  return count(forecast_ != nullptr ? install_forecast(bytes) : install(bytes, 0));
}

Status ActingPolicy::replace_forecast(std::string_view bytes, std::uint64_t epoch, std::uint64_t version) {
  if (forecast_ == nullptr) {
    return count(Error::failed(std::string("policy ") + name() + " has no forecast"));
  }
  if (epoch < learner_epoch_) {
    return count(older_epoch(epoch, learner_epoch_));
  }
  Status status = count(install_forecast(bytes));
  if (status) {
    learner_epoch_ = epoch_ = epoch;
    version_ = version;
  }
  return status;
}

Status ActingPolicy::replace_gains(std::string_view bytes) {
  if (rule_ == nullptr) {
    return count(Error::failed(std::string("policy ") + name() + " has no gains"));
  }
  auto file = policy::parse_gains(bytes);
  if (!file) {
    return count(file.error());
  }
  rule_->set_gains(std::move(file->gains), std::move(file->twins));
  return count(ok());
}

Status ActingPolicy::install_forecast(std::string_view bytes) {
  auto theta = policy::parse_forecast(bytes);
  if (!theta) {
    return theta.error();
  }
  forecast_->set_parameters(std::make_shared<const std::vector<float>>(std::move(*theta)));
  trouble_.clear();
  epoch_ = version_ = 0;
  crc32_ = policy::fingerprint(bytes);
  return ok();
}

Status ActingPolicy::replace_from_learner(std::string_view bytes) {
  Status status = count(install(bytes, learner_epoch_));
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
    return older_epoch(parameters->epoch, least_epoch);
  }
  auto network = policy::ForwardNetwork::create(*parameters);
  if (!network) {
    return network.error();
  }
  learned_->set_network(*network);
  stand_in_.reset();
  trouble_.clear();
  epoch_ = parameters->epoch;
  version_ = parameters->version;
  crc32_ = policy::fingerprint(bytes);
  return ok();
}

}  // namespace ballast::loop
