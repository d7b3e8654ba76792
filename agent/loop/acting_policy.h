// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "agent/decide/forecast_rule.h"
#include "agent/decide/learned.h"
#include "agent/decide/policy.h"
#include "agent/decide/queue_rule.h"
#include "core/base/result.h"

namespace ballast::loop {

enum class PolicyKind { kNeutral, kPrior, kQueueRule, kForecastRule, kLearned };

/// The policy that acts, and which parameters it acts with.
class ActingPolicy {
 public:
  /// `parameters` are the bytes of a parameters file, for kLearned and kForecastRule only (each its own
  /// kind); without them it begins with the shipped one. A file
  /// of another version is refused, which trouble() tells, and the strong rule acts until others come.
  /// Errors: kUsage, why other bytes are refused.
  static Result<ActingPolicy> create(PolicyKind kind, const decide::LearnedOptions& options,
                                     const std::optional<std::string>& parameters);

  decide::Policy& policy() const { return stand_in_ != nullptr ? *stand_in_ : *policy_; }
  const char* name() const;
  /// Whether what acts is the learned policy, so that rollouts of it mean something.
  bool learns() const { return learned_ != nullptr && stand_in_ == nullptr; }
  /// Whether it is the learned policy that acts or would, with parameters of this version.
  bool takes_parameters() const { return learned_ != nullptr; }
  /// Why it is not what the configuration says that acts; empty where it is.
  const std::string& trouble() const { return trouble_; }
  /// Whatever trouble() says is of the parameters found at `source`.
  void found_at(const std::string& source) {
    trouble_ = trouble_.empty() ? trouble_ : source + ": " + trouble_;
  }
  /// policy(), where it forecasts; else null.
  decide::ForecastRule* forecast() const { return forecast_; }
  /// Whether it is the strong rule, alone or under a forecast, so that gains can be learned for it.
  bool has_gains() const { return rule_ != nullptr; }
  /// Acts with these bytes of a file of gains from the next decision on; refused as parameters are.
  Status replace_gains(std::string_view bytes);

  /// Acts with these bytes of a parameters file from the next decision on. Refused, with the
  /// reason and a count, where they are not such a file or no policy learns; what acts then stays.
  Status replace(std::string_view bytes);
  /// As replace(), of what a learner hands over. Also refused where the epoch is older than that
  /// of parameters that a learner gave before: they come from a deposed leader.
  Status replace_from_learner(std::string_view bytes);

  /// The same of a forecast's file, whose (epoch, version) are told beside it.
  Status replace_forecast(std::string_view bytes, std::uint64_t epoch, std::uint64_t version);

  std::uint64_t epoch() const { return epoch_; }
  std::uint64_t version() const { return version_; }
  std::uint32_t crc32() const { return crc32_; }  ///< policy::fingerprint of the file; 0: no network
  std::uint64_t replaced() const { return replaced_; }
  std::uint64_t refused() const { return refused_; }

 private:
  explicit ActingPolicy(PolicyKind kind) : kind_(kind) {}
  Status install(std::string_view bytes, std::uint64_t least_epoch);
  Status install_forecast(std::string_view bytes);
  Status count(Status status);

  PolicyKind kind_;
  std::unique_ptr<decide::Policy> policy_;
  std::unique_ptr<decide::QueueRule> stand_in_;  ///< acts while learned_ has no parameters of this version
  std::string trouble_;
  decide::LearnedPolicy* learned_ = nullptr;  ///< policy_, where it is one
  decide::ForecastRule* forecast_ = nullptr;  ///< the same
  decide::QueueRule* rule_ = nullptr;         ///< policy_ or within it
  std::uint64_t epoch_ = 0;
  std::uint64_t version_ = 0;
  std::uint32_t crc32_ = 0;
  std::uint64_t learner_epoch_ = 0;
  std::uint64_t replaced_ = 0;
  std::uint64_t refused_ = 0;
};

}  // namespace ballast::loop
