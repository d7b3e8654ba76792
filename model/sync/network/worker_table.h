// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <list>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

namespace ballast::sync {

struct WorkerRules {
  /// Bad gradients, each good one forgiving a tenth of one, after which a worker is shut out.
  double bad_limit = 5;
  std::chrono::seconds first_quarantine{60};  ///< doubles with every further one, up to:
  std::chrono::seconds longest_quarantine{3600};
  double pushes_per_s = 200;       ///< of one worker, twice as many in a burst; 0: any number
  std::chrono::seconds alive{30};  ///< a worker counts as one of N this long after its last push
  std::size_t most = 65'536;       ///< workers remembered; the one not heard of for longest is forgotten
};

/// What a node's worker learns the forecast from, and how far that is from what came.
struct LearnedFrom {
  std::uint64_t samples = 0;  ///< 0: not told
  float span_s = 0;
  /// Mean squares over the last minutes, of what was not learned from yet.
  float error = 0, as_now = 0;
  /// Of the twin of the node's busiest service; 0: there is none.
  float twin_s = 0, foreseen_p99_ms = 0, came_p99_ms = 0;
  std::uint32_t gains = 0;  ///< services in which learned gains act
};

/// What the server knows of one worker.
struct WorkerRecord {
  std::string id;
  std::uint64_t accepted = 0;
  std::uint64_t rejected = 0;
  std::uint64_t quarantines = 0;
  std::string last_bad;      ///< why, for people; empty: nothing bad yet
  double quarantined_s = 0;  ///< still to go; 0: not shut out
  double idle_s = 0;         ///< since its last push
  std::uint64_t acted = 0;   ///< version behind its last good gradient
  LearnedFrom learned_from = {};
};

/// The account of each worker by identity: quarantine, replays, rate. Not thread-safe.
/// Times are of a monotonic clock, so that a jump of the wall clock frees and shuts out nobody.
class WorkerTable {
 public:
  using Time = std::chrono::steady_clock::time_point;
  enum class Admission { kFine, kQuarantined, kTooFast };

  explicit WorkerTable(const WorkerRules& rules) : rules_(rules) {}

  /// Before a gradient is looked at; takes one of the worker's tokens.
  Admission admit(std::string_view id, Time now);
  /// Whether the worker pushed a gradient of this very fingerprint, as taken at another version,
  /// among its last kPrints ones; remembers it. At one version equal rollouts honestly give equal
  /// gradients. 0 is never a replay.
  bool replayed(std::string_view id, std::uint64_t fingerprint, std::uint64_t version, Time now);
  void good(std::string_view id, std::uint64_t acted, const LearnedFrom& from, Time now);
  /// `blame`: the gradient speaks against the worker (not merely late). True when it is shut out now.
  bool bad(std::string_view id, bool blame, const std::string& why, Time now);

  std::size_t alive(Time now) const;  ///< workers that pushed lately: N
  std::size_t quarantined(Time now) const;
  std::size_t size() const { return entries_.size(); }
  /// The worst first: shut out, then by rejections; at most `most`.
  std::vector<WorkerRecord> worst(std::size_t most, Time now) const;

 private:
  static constexpr std::size_t kPrints = 8;
  struct Entry {
    std::string id;
    std::uint64_t accepted = 0, rejected = 0, quarantines = 0, acted = 0;
    LearnedFrom learned_from;
    double score = 0, tokens = 0;
    std::string last_bad;
    Time until{}, seen{};
    std::array<std::pair<std::uint64_t, std::uint64_t>, kPrints> prints{};  ///< fingerprint, version
    std::size_t next_print = 0;
  };
  Entry& entry(std::string_view id, Time now);

  WorkerRules rules_;
  std::list<Entry> entries_;                                                // most recently heard of first
  std::unordered_map<std::string_view, std::list<Entry>::iterator> by_id_;  // keys live in the entries
};

}  // namespace ballast::sync
