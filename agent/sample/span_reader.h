// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <vector>

#include "agent/sample/maps.h"
#include "agent/sample/span.h"
#include "core/base/clock.h"
#include "core/base/result.h"

namespace ballast::sample {

/// Takes each span out of the kernel's slots once, and holds it until those that belong to it had
/// time to end too: a request ends after all that it caused.
class SpanReader {
 public:
  static constexpr MonotonicNs kHoldNs = 2'000'000'000ULL;
  static constexpr std::size_t kMaxHeld = 8192;
  using Source = std::function<Result<std::vector<SpanRow>>()>;

  explicit SpanReader(Source source, UserKey users = {})
      : source_(std::move(source)), users_(std::move(users)) {}

  /// Spans that ended at least kHoldNs ago, joined. What is in the slots at the first call is old
  /// and is left out.
  Result<std::vector<Span>> take(MonotonicNs now);
  /// Spans that were overwritten before they were read, or had no room here.
  std::uint64_t lost() const { return lost_; }

 private:
  Source source_;
  UserKey users_;
  bool begun_ = false;
  std::map<std::uint32_t, std::uint64_t> seen_;  ///< last sequence by CPU
  Http2Heads heads_;
  std::vector<Span> held_;
  std::uint64_t lost_ = 0;
};

}  // namespace ballast::sample
