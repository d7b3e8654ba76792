// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>

#include "agent/guard/guard.h"
#include "core/base/result.h"

namespace ballast::actuate {

/// The last hop. Accepts guarded weights only.
class WeightSink {
 public:
  virtual ~WeightSink() = default;
  virtual std::string name() const = 0;
  /// Makes these the service's weights. Called only when something changed. Does not wait for a
  /// proxy. On error the weights before stay in force and the caller may call again.
  virtual Status publish(const guard::GuardedWeights& weights) = 0;
  /// The service is not managed any more.
  virtual Status withdraw(const spec::ServiceId& service) = 0;
  /// Its weights are as published and still meant: called in every tick in which they did not change, so that
  /// a sink whose weights lapse without it can tell a process that is dead or hangs.
  virtual void renew(const spec::ServiceId& service) { static_cast<void>(service); }
  /// What became of the weights of this service that publish() took last; `written` where the sink cannot
  /// tell more.
  virtual guard::Answer answer(const spec::ServiceId& service) const {
    static_cast<void>(service);
    return {guard::Outcome::kWritten, ""};
  }
  /// What an operator said about this Service where the sink looks; nothing where it does not.
  virtual guard::Word word(const spec::ServiceId& service) const {
    static_cast<void>(service);
    return {};
  }
  /// Who writes now, where there is a choice; empty where there is none.
  virtual std::string leader() const { return {}; }
  /// Whether it is this process whose weights reach proxies; false for one of many that only stands by.
  virtual bool in_charge() const { return true; }
  /// Returns when all that was published has left (bounded by a few seconds), then stops.
  virtual void flush() {}
  /// Proxies that listen now; 0 where this cannot be known.
  virtual std::size_t subscribers() const { return 0; }
  /// From publish() to the proxy's acknowledgement, in seconds, median of late; 0 where unknown.
  virtual double acknowledgement_delay_s() const { return 0; }
  /// How fast weights travel here, found by measuring, in a few words for status; empty where nothing is
  /// measured.
  virtual std::string loop_profile() const { return {}; }
  /// Empty while all is well; else what is in the way of publishing, for the log, status and metrics.
  virtual std::string trouble() const { return {}; }
};

}  // namespace ballast::actuate
