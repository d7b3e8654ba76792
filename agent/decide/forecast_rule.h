// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/decide/foresight.h"
#include "agent/decide/queue_rule.h"
#include "agent/decide/service_memory.h"
#include "core/spec/forecast.h"

namespace ballast::decide {

/// queue_rule over the capacities that a learned forecast expects while the weights are in force: each pod's
/// log capacity is changed by forecast - now, centred over the service. A forecast is used only while those
/// of the last minutes came true: their mean square at most kUse of that of "as now", and kUseOfMean of that
/// of the mean (where nothing comes back and nothing lasts, the mean beats "as now", and no weight is worth
/// having for it). They are left where they were worse than "as now", or no better than the mean. And they
/// have to leave less than kUseOfEqual of what differs between the pods: under unequal weights Envoy does not
/// answer what was not foreseen as it does under equal ones, by P2C. Otherwise, and without parameters, this
/// is queue_rule to the last bit.
class ForecastRule final : public Policy {
 public:
  static constexpr double kUse = 0.9;        ///< of "as now": used from there on
  static constexpr double kLeave = 1;        ///< and not any more from there
  static constexpr double kUseOfMean = 0.8;  ///< the same of the mean
  static constexpr double kLeaveOfMean = 0.95;
  static constexpr double kUseOfEqual = 0.45;  ///< the same of what equal weights leave unanswered
  static constexpr double kLeaveOfEqual = 0.5;
  static constexpr double kLeastGain =
      0.002;                                 ///< mean square of "as now" below which nothing is to be gained
  static constexpr double kDecay = 0.985;    ///< of the record, a bin of SlownessMemory
  static constexpr double kLeastJudged = 4;  ///< bins

  /// `theta`: spec::kForecastParameters numbers; null or of another length: none. `trusting`: what is finite
  /// is used, whatever came; for ablations.
  explicit ForecastRule(std::shared_ptr<const std::vector<float>> theta = nullptr,
                        QueueRuleOptions options = {}, bool trusting = false)
      : rule_(options), theta_(std::move(theta)), trusting_(trusting) {}
  std::string name() const override { return "forecast_rule"; }
  ServiceProposal decide(const spec::ServiceObservation& observation, const LoopContext& loop) override;

  /// From the next decision on; forecasts that are out are judged as those before.
  void set_parameters(std::shared_ptr<const std::vector<float>> theta) { theta_ = std::move(theta); }
  /// Why there are no parameters, for people: told with each decision until there are.
  void explain_absence(std::string why) { absent_ = std::move(why); }
  /// For the gains that are learned.
  QueueRule& rule() { return rule_; }
  /// Of the service that was decided last.
  const ForecastRecord& record() const { return record_; }
  /// Pairs to learn from of all services since the call before, at most kSamples; kept from the first call
  /// on.
  static constexpr std::size_t kSamples = 4096;
  std::vector<spec::ForecastSample> take_samples();

 private:
  /// Forecasts of one bin that have not come yet.
  struct Pending {
    struct One {
      spec::EndpointId id;
      spec::ForecastInput input;
      double forecast = 0;
    };
    double at = 0;  ///< bin for which they are
    std::vector<One> pods;
  };
  struct ServiceState {
    SlownessMemory memory;
    std::deque<Pending> pending;
    ForecastRecord record;
    struct Full {
      double log_capacity = 0;  ///< the pod's mean, were it not slowed
      double bins = 0;
    };
    std::map<spec::EndpointId, Full> full;
    double differ = 0;      ///< variance of these between the pods
    MonotonicNs began = 0;  ///< of the first tick
  };
  static void learn_capacities(ServiceState& state, const spec::ServiceObservation& observation);
  void judge(ServiceState& state);
  std::string sentence() const;  // of record_ and as_equal_

  QueueRule rule_;
  std::shared_ptr<const std::vector<float>> theta_;
  std::string absent_;
  const bool trusting_;
  ServiceMemory<ServiceState> services_;
  ForecastRecord record_;
  double as_equal_ = 0;
  std::vector<spec::ForecastSample> samples_;
  bool keep_samples_ = false;
};

}  // namespace ballast::decide
