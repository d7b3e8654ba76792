// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "agent/actuate/sink.h"
#include "agent/turn/turn.h"
#include "core/base/result.h"

namespace ballast::loop {

/// Hands decisions to a sink, and completes their records by what became of them.
class Handover {
 public:
  /// `sink` must outlive it.
  explicit Handover(actuate::WeightSink& sink) : sink_(sink) {}

  /// Notes what was written meanwhile. Before a turn: what is handed over next must not be taken for it.
  void settle();
  /// Hands the weights over where they have changed or were refused before, and completes the record. The
  /// error of a refusal, of this time or of before.
  Status take(turn::Decision& decision);
  /// The sink refused the weights of some service last.
  bool refused() const;
  /// Answer and weights in force as they are now.
  void complete(turn::Decision& decision);
  void forget(const spec::ServiceId& service) { services_.erase(service); }

 private:
  using ByPod = std::map<std::string, std::uint32_t>;
  struct Service {
    ByPod handed_over;      ///< as the sink took them last
    ByPod in_force;         ///< as the sink last said to be in force
    Status refusal = ok();  ///< of the latest weights
  };
  guard::Answer settle(const spec::ServiceId& id, Service& service) const;

  actuate::WeightSink& sink_;
  std::map<spec::ServiceId, Service> services_;
};

}  // namespace ballast::loop
