// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/actuate/istio/write_history.h"
#include "agent/kube/client.h"
#include "core/base/clock.h"
#include "core/base/result.h"

/// Does a ServiceEntry of a Service's own host take? That istiod puts our endpoints before the Service's own
/// rests on the order of its implementation, not on a promise. So it is asked what it tells a sidecar, over
/// the same protocol (EDS by ADS, as a client without a listener): seen, not believed. The same way shows how
/// fast a weight travels: how long after its write istiod tells of it, and for how long Envoy will hold it
/// back.
namespace ballast::actuate::istio {

/// The endpoints of one cluster (outbound|80||HOST), in istiod's order, as a sidecar in namespace `ns` gets
/// them. `istiod`: HOST:PORT of its plain xDS port (15010). Errors: kFailed, when no answer came within the
/// time.
Result<std::vector<ProbedEndpoint>> ask_istiod(const std::string& istiod, const std::string& ns,
                                               const std::string& cluster, std::chrono::milliseconds timeout);

/// The cluster's update_merge_window as istiod configures it for a sidecar in namespace `ns`, in seconds;
/// Envoy's own, 1 s, where it says nothing. istiod answers with every cluster that the sidecar sees: not to
/// be asked often. Errors: kFailed, when no answer came within the time or the cluster is not among them.
Result<double> ask_merge_window(const std::string& istiod, const std::string& ns, const std::string& cluster,
                                std::chrono::milliseconds timeout);

enum class Takes { kUnknown, kYes, kNo };

/// What of a ServiceEntry's weights a proxy would use. Envoy keeps the first of two endpoints of one address:
/// kNo where that is the plain Service's, of each; kUnknown where weights are of an earlier write.
Takes compare(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen);
/// The cluster of an entry's host at its first port, as istiod names it.
std::string cluster_of(const kube::Json& spec);
/// Are all endpoints of the entry among them, whatever they weigh?
bool tells_of(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen);

/// What was measured of late of the way of a weight; nothing where nothing was seen yet.
struct WeightTravel {
  std::optional<double> istiod_s;  ///< from the begin of its write to istiod's word, median of the last 16
  std::optional<double>
      least_istiod_s;  ///< and the least of them, by which a debounce is told from a busy machine
  std::optional<double> merge_window_s;  ///< of the cluster that was asked about last
};

/// Looks again and again, in a thread of its own: an istiod that is away must not hold up writes. Between two
/// looks it listens to what istiod tells of the Service that it looked at, and so measures the way of a
/// weight. Whoever writes tells of each write, so that it notices an istiod which answers and has not heard
/// of anything for long: nothing that the writer could do reaches proxies then, so that it can but be said.
class IstiodProbe {
 public:
  /// An entry that has stood a while, {"service", "ns", "spec", "whole": the Service has no other} and what
  /// is of use to the asker, or null. Asked before each look.
  using Sample = std::function<kube::Json()>;
  struct Options {
    std::string istiod;
    std::chrono::milliseconds timeout{1500};
    std::chrono::milliseconds pause{1000};
    std::chrono::milliseconds again{10'000};  ///< after a look that told something: it listens for so long
    std::chrono::milliseconds window_again{600'000};  ///< from one question for the merge window to the next
    /// The merge window that somebody asked for: another is asked about again after each look.
    std::optional<double> window_wanted_s;
    /// So many in a row, a pause apart: an istiod that lost its API server for a while knows less than we.
    int refutations = 20;
    /// And where none of them saw our endpoints behind the Service's own: its watches come back one by one,
    /// and it may not have heard of the entry. The last was seen back 75 s after the API server.
    int refutations_unheard = 180;
    /// After so many looks in a row that told nothing it is another Service's turn.
    int unknowns = 5;
    /// What istiod tells may be older than the last write by so long, and it may be silent for so long.
    std::chrono::milliseconds behind{30'000};
  };
  /// `told` hears of each verdict, with what was looked at, from the probe's thread; kUnknown where it gave a
  /// Service up for now.
  IstiodProbe(Options options, Sample sample, std::function<void(const kube::Json&, Takes)> told);
  ~IstiodProbe();
  IstiodProbe(const IstiodProbe&) = delete;
  IstiodProbe& operator=(const IstiodProbe&) = delete;

  /// The first of a Service's entries (`whole`: the only one) says this since a write that began at `at`, on
  /// SystemClock.
  void written(const std::string& service, const kube::Json& spec, MonotonicNs at, bool whole = true);
  /// The Service is let go of.
  void left(const std::string& service);
  WeightTravel travel() const;
  /// Services of which istiod was seen to tell nothing that was in force within the last `behind`, at
  /// `unknowns` looks in a row; until it is seen to.
  std::set<std::string> stale() const;
  /// Of those, or that istiod does not answer; empty: neither.
  std::string trouble() const;

 private:
  struct Heard {
    MonotonicNs at = 0;
    std::vector<ProbedEndpoint> endpoints;
  };
  struct Late {
    std::string ns;
    std::string cluster;
    bool whole = true;
  };
  struct Looks {  ///< at one Service, in a row
    std::string at;
    int refuted = 0;
    bool heard = false;  ///< of ours, at one of these
    int unknown = 0;
    int late = 0;
  };
  void run();
  Takes look(const kube::Json& sample, const std::string& cluster, Looks& looks);
  void forget_trouble();
  void note_answer(const std::string& error);
  bool is_late(const std::string& service, const std::vector<ProbedEndpoint>& seen, bool whole) const;
  void look_again_at_late(const std::string& but);
  void listen(const kube::Json& sample, const std::string& cluster);
  void ask_window(const kube::Json& sample, const std::string& cluster);
  bool match();
  const Options options_;
  const Sample sample_;
  const std::function<void(const kube::Json&, Takes)> told_;
  mutable std::mutex mutex_;
  std::condition_variable wake_;
  bool stopping_ = false;
  std::function<void()> hang_up_;  ///< ends the stream that is open
  std::string listens_to_;         ///< the sample's "service"; empty: none
  kube::Json spec_;                ///< of the write that is waited for
  MonotonicNs written_at_ = 0;     ///< 0: none is
  std::deque<Heard> heard_;
  std::deque<double> delays_s_;
  std::optional<double> merge_window_s_;
  std::map<std::string, WriteHistory> histories_;  ///< by Service
  std::map<std::string, Late> late_;               ///< by Service
  std::string again_;                              ///< of those, who was looked at again last
  MonotonicNs silent_ = 0;                         ///< since when istiod has not answered; 0: it has
  std::string silent_why_;
  MonotonicNs window_asked_ = 0;  ///< the thread's own
  std::thread thread_;
};

}  // namespace ballast::actuate::istio
