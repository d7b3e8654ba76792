// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/span_reader.h"

#include <algorithm>
#include <iterator>

namespace ballast::sample {

Result<std::vector<Span>> SpanReader::take(MonotonicNs now) {
  auto rows = source_();
  if (!rows) {
    return rows.error();
  }
  std::map<std::uint32_t, std::uint64_t> newest = seen_;
  std::map<std::uint32_t, std::uint64_t> fresh;
  // What an earlier head put into its connection's table, a later one may name.
  std::ranges::sort(*rows, {}, [](const SpanRow& row) { return row.value.start_ns; });
  for (const SpanRow& row : *rows) {
    newest[row.cpu] = std::max(newest[row.cpu], row.value.sequence);
    if (!begun_ || row.value.sequence <= seen_[row.cpu]) {
      continue;
    }
    ++fresh[row.cpu];
    if (held_.size() < kMaxHeld) {
      held_.push_back(read_span(row.value, heads_, users_));
    } else {
      ++lost_;
    }
  }
  for (const auto& [cpu, sequence] : newest) {
    const std::uint64_t published = begun_ ? sequence - seen_[cpu] : 0;
    lost_ += published - std::min(published, fresh[cpu]);
  }
  seen_ = std::move(newest);
  begun_ = true;
  join_spans(held_);
  const auto ready =
      std::ranges::stable_partition(held_, [&](const Span& span) { return span.end + kHoldNs > now; });
  std::vector<Span> taken(std::make_move_iterator(ready.begin()), std::make_move_iterator(ready.end()));
  held_.erase(ready.begin(), ready.end());
  return taken;
}

}  // namespace ballast::sample
