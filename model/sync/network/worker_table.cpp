// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/worker_table.h"

#include <algorithm>
#include <utility>

namespace ballast::sync {

namespace {
double seconds(WorkerTable::Time from, WorkerTable::Time to) {
  return std::chrono::duration<double>(to - from).count();
}
}  // namespace

WorkerTable::Entry& WorkerTable::entry(std::string_view id, Time now) {
  if (const auto found = by_id_.find(id); found != by_id_.end()) {
    entries_.splice(entries_.begin(), entries_, found->second);
  } else {
    if (entries_.size() >= rules_.most) {
      by_id_.erase(entries_.back().id);
      entries_.pop_back();
    }
    entries_.emplace_front();
    entries_.front().id = id;
    entries_.front().tokens = 2 * rules_.pushes_per_s;
    entries_.front().seen = now;
    by_id_.emplace(entries_.front().id, entries_.begin());
  }
  Entry& e = entries_.front();
  e.tokens = std::min(2 * rules_.pushes_per_s, e.tokens + rules_.pushes_per_s * seconds(e.seen, now));
  e.seen = now;
  return e;
}

WorkerTable::Admission WorkerTable::admit(std::string_view id, Time now) {
  Entry& e = entry(id, now);
  if (e.until > now) {
    ++e.rejected;
    return Admission::kQuarantined;
  }
  if (rules_.pushes_per_s > 0) {
    if (e.tokens < 1) {
      ++e.rejected;
      return Admission::kTooFast;
    }
    e.tokens -= 1;
  }
  return Admission::kFine;
}

bool WorkerTable::replayed(std::string_view id, std::uint64_t fingerprint, std::uint64_t version, Time now) {
  if (fingerprint == 0) {
    return false;
  }
  Entry& e = entry(id, now);
  const auto known = std::find_if(e.prints.begin(), e.prints.end(),
                                  [&](const auto& print) { return print.first == fingerprint; });
  if (known != e.prints.end()) {
    return known->second != version;
  }
  e.prints[e.next_print] = {fingerprint, version};
  e.next_print = (e.next_print + 1) % kPrints;
  return false;
}

void WorkerTable::good(std::string_view id, std::uint64_t acted, const LearnedFrom& from, Time now) {
  Entry& e = entry(id, now);
  e.acted = acted;
  e.learned_from = from;
  ++e.accepted;
  e.score = std::max(0.0, e.score - 0.1);
}

bool WorkerTable::bad(std::string_view id, bool blame, const std::string& why, Time now) {
  Entry& e = entry(id, now);
  ++e.rejected;
  if (!blame) {
    return false;
  }
  e.last_bad = why;
  e.score += 1;
  if (e.score < rules_.bad_limit) {
    return false;
  }
  const auto doubled = rules_.first_quarantine * (1ULL << std::min<std::uint64_t>(e.quarantines, 16));
  e.until = now + std::min<std::chrono::seconds>(doubled, rules_.longest_quarantine);
  ++e.quarantines;
  e.score = rules_.bad_limit - 1;  // on probation: the next bad one shuts it out again
  return true;
}

std::size_t WorkerTable::alive(Time now) const {
  std::size_t count = 0;
  for (const Entry& e : entries_) {  // in order of `seen`
    if (now - e.seen > rules_.alive) {
      break;
    }
    count += e.until > now ? 0 : 1;
  }
  return count;
}

std::size_t WorkerTable::quarantined(Time now) const {
  return static_cast<std::size_t>(
      std::count_if(entries_.begin(), entries_.end(), [&](const Entry& e) { return e.until > now; }));
}

std::vector<WorkerRecord> WorkerTable::worst(std::size_t most, Time now) const {
  std::vector<WorkerRecord> records;
  records.reserve(entries_.size());
  for (const Entry& e : entries_) {
    records.push_back({.id = e.id,
                       .accepted = e.accepted,
                       .rejected = e.rejected,
                       .quarantines = e.quarantines,
                       .last_bad = e.last_bad,
                       .quarantined_s = std::max(0.0, seconds(now, e.until)),
                       .idle_s = seconds(e.seen, now),
                       .acted = e.acted,
                       .learned_from = e.learned_from});
  }
  const auto worse = [](const WorkerRecord& a, const WorkerRecord& b) {
    return std::make_pair(a.quarantined_s > 0, a.rejected) > std::make_pair(b.quarantined_s > 0, b.rejected);
  };
  const auto end = records.begin() + static_cast<std::ptrdiff_t>(std::min(most, records.size()));
  std::partial_sort(records.begin(), end, records.end(), worse);
  records.erase(end, records.end());
  return records;
}

}  // namespace ballast::sync
