// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <map>

#include "core/spec/telemetry.h"

namespace ballast::decide {

/// What a policy remembers of each service. Nobody tells a policy that a service is gone, so
/// what was not asked for during kForgetNs is dropped: memory is bounded by the services alive.
template <typename T>
class ServiceMemory {
 public:
  static constexpr MonotonicNs kForgetNs = 60'000'000'000ULL;

  /// The service's state, made with T() at first sight.
  T& of(const spec::ServiceId& service, MonotonicNs now) {
    if (now > swept_ + kForgetNs) {
      std::erase_if(entries_, [now](const auto& entry) { return entry.second.seen + kForgetNs < now; });
      swept_ = now;
    }
    Entry& entry = entries_[service];
    entry.seen = now;
    return entry.state;
  }
  std::size_t size() const { return entries_.size(); }

 private:
  struct Entry {
    T state;
    MonotonicNs seen = 0;
  };
  std::map<spec::ServiceId, Entry> entries_;
  MonotonicNs swept_ = 0;
};

}  // namespace ballast::decide
