// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/actuate/istio/merge_window.h"
#include "agent/actuate/istio/writer.h"
#include "agent/guard/guard.h"
#include "agent/kube/catalog.h"
#include "agent/kube/events.h"
#include "core/base/clock.h"

namespace ballast::actuate::istio {

/// What the cluster should look like now.
struct Wanted {
  std::vector<kube::Service> services;  ///< all that carry the label
  /// Where there is one: gives a Service its endpoints when its turn comes, since all of them at once would
  /// be in memory a second time. False: it is not there any more.
  std::function<bool(kube::Service&)> fill{};
  std::vector<ConflictingRoute> conflicting_routes;
  WeightsOfServices weights;                   ///< who is missing, and is lent none (plan.h), is not managed
  std::set<std::string> released;              ///< by hand; "*" is all
  std::map<std::string, std::string> tripped;  ///< whose weights did harm, and how: for an Event
  /// Our VirtualServices and ServiceEntries as the API server shows them, by "KIND NS/NAME".
  std::map<std::string, Owned> seen;
  /// Namespaces of whose pods hear() is told, with a number that changes when it may have missed some.
  std::map<std::string, std::uint64_t> heard;
  bool own_host = true;         ///< false: seen not to take here, Services go by route
  std::set<std::string> stale;  ///< of which istiod tells proxies nothing that was written of late
};

struct ReconcilerOptions {
  PlanOptions plan;
  /// Asked before each write that is not one of handing back: a leader whose Lease has run out must not.
  std::function<bool()> may_write{};
  /// Asked before an object is made, for what was noted since the last look at the Lease: was the Service
  /// (NAMESPACE/NAME) released by hand?
  std::function<bool(const std::string& service)> released{};
  /// Told of each write of the first entry of a Service's own host (`whole`: its only one), which began at
  /// `at`, and when the Service is let go of.
  std::function<void(const std::string& service, const Json& spec, MonotonicNs at, bool whole)> wrote{};
  std::function<void(const std::string& service)> left{};
  /// Asked when a right is missing: may that be said because the API server has just begun
  /// (kube::Client::away_within)?
  std::function<bool()> away_of_late{};
  /// Asked before a route leads to a shadow: does istiod tell proxies of this entry's endpoints? One that has
  /// heard of the route and not of the entry leads all requests to nobody. Not there: time alone has to do.
  std::function<bool(const std::string& ns, const Json& spec)> told{};
  MonotonicNs settle_ns = 1'000'000'000ULL;
  MonotonicNs drift_ns = 5'000'000'000ULL;  ///< what was written so long ago has to be seen
  /// So long may a Service's membership be behind its EndpointSlices, because a write is refused or a pod's
  /// identity cannot be read. Then the plain Service takes its traffic again; at once where a write was
  /// refused for good and what stands keeps somebody who left, because who left soon ends.
  MonotonicNs behind_ns = 3'000'000'000ULL;
  MonotonicNs held_off_ns = 30'000'000'000ULL;  ///< and after that it is left alone for so long
  /// Taken so often within `flaps_ns` and let go each time (its label flaps), it is left alone for so long.
  std::size_t flaps = 4;
  MonotonicNs flaps_ns = 60'000'000'000ULL;
  /// What does not fit together in slices is told when it lasts: an endpoint that moves is in two for a
  /// moment.
  MonotonicNs odd_ns = 5'000'000'000ULL;
  /// That istiod is behind is not told of one Service again so soon: of two istiods one may be.
  MonotonicNs stale_again_ns = 600'000'000'000ULL;
  /// What somebody else did to an object of ours is told of one object again no sooner.
  MonotonicNs others_again_ns = 5'000'000'000ULL;
  /// Labels of a Service's pods are read again where changes of them are not heard of; elsewhere once, for
  /// what the API server's cache may not have had the first time.
  MonotonicNs refresh_ns = 60'000'000'000ULL;
  MonotonicNs retry_ns = 1'000'000'000ULL;
  MergeWindow::Options merge_window;
  MonotonicNs apart_ns = 0;  ///< least time from any write to one that changes weights alone, by Service
  /// And from a change that moved no weight by more than `small` of its logarithm to the next such: a large
  /// change mostly finds the way free, and what is left of it may follow. Back to equal weights is never
  /// small.
  MonotonicNs small_apart_ns = 0;
  double small = 0.15;
  /// The same for route weights of subsets, which are CDS, LDS and RDS pushes to every proxy: no sooner than
  /// this, and never for less than `subset_step` of a hundred. Subsets that come or go do not wait.
  MonotonicNs subset_apart_ns = 15'000'000'000ULL;
  int subset_step = 3;
  /// Budget of patches that change weights alone, over all Services. What it leaves over is written as soon
  /// as it allows, the Service that has waited longest first, and with the weights of then. Membership,
  /// adoption and handing back have no budget.
  double weights_per_s = 50;
  double weights_burst = 100;
  /// Longest burst of them: istiod pushes in the quiet after it.
  MonotonicNs burst_ns = 500'000'000ULL;
};

/// Why the weights of a Service that nothing else is said of are not written.
inline constexpr const char* kNotManaged = "the Service is not managed";

/// Does an entry say these weights?
bool says(const Json& spec, const Weights& weights);
/// Tells weights from others.
std::uint64_t digest(const Weights& weights);

/// Brings the cluster to what is wanted, Service by Service, and remembers what it wrote. Not
/// thread-safe.
class ServiceReconciler {
 public:
  ServiceReconciler(kube::Client& client, ReconcilerOptions options);

  /// Pods whose metadata changed, by uid, without their service accounts. False: it is nothing that is gone
  /// by here, as with most changes of a pod.
  bool hear(const std::map<std::string, PodFacts>& pods);

  /// One burst of writes. Returns the next instant at which there is something to do without any
  /// news (a settling route, a retry); 0 for none. Does a part of the work that ends soon after `until` on
  /// the system's clock: the rest is due at once, and the next call begins with it. What is known is written
  /// before anything is read of any Service. `news`: membership has changed meanwhile; weights can wait, and
  /// so can reading of a Service that is to be taken.
  MonotonicNs reconcile(const Wanted& wanted, MonotonicNs now, MonotonicNs until = ~0ULL,
                        const std::function<bool()>& news = {});

  /// Removes what of ours is in the cluster, whoever wrote it, so that traffic is plain, and notes the
  /// shadows so that reconcile() or hand_back() removes them when proxies have the plain route again. Begins
  /// anew: what this ServiceReconciler knew is forgotten.
  Status sweep(MonotonicNs now);

  /// Lets go of everything that is known; true when all of it is gone.
  bool hand_back(MonotonicNs now, MonotonicNs until = ~0ULL);

  /// Since when a right is missing to hand back what is in force; 0: none is.
  MonotonicNs stuck() const;

  /// How far apart the writes of one Service are from now on (ReconcilerOptions).
  void pace(MonotonicNs apart_ns, MonotonicNs small_apart_ns);

  std::size_t managed() const { return held_.size(); }
  /// After reconcile(): does a change of weights that is not small wait for its time or for the budget?
  bool hurry() const { return hurry_; }
  std::uint64_t writes() const { return writes_; }
  /// What became of these weights of a Service (NAMESPACE/NAME).
  guard::Answer answer(const std::string& service, const Weights& weights) const;
  /// What failed last and has not worked since, with the call; empty when all does.
  std::string trouble() const;
  /// A Service held by its own host whose entries have stood for a while and are there as they were written,
  /// the next after `last` ({"service", "ns", "spec" of its first entry, "whole": it has no other}); for the
  /// look at istiod whether that takes. Null when there is none.
  Json sample(MonotonicNs now, const std::string& last) const;

 private:
  enum class Phase { kNew, kShadow, kHeld, kLeaving };
  struct Held {
    std::string ns;
    std::string name;  ///< of the route and of the first entry
    std::string service_uid;
    Way way = Way::kOwnHost;
    Phase phase = Phase::kNew;
    MonotonicNs since = 0;    ///< of the phase
    MonotonicNs written = 0;  ///< the last write
    MonotonicNs behind = 0;   ///< since when membership is not what it should be; 0: it is
    std::string why;          ///< what failed last
    bool refused = false;     ///< by somebody who will say so again: a missing right, a webhook
    MonotonicNs refreshed = 0;
    std::uint64_t heard = 0;  ///< of the time that labels were read again
    bool wrote_small = false;
    MonotonicNs retry = 0;
    MonotonicNs stuck = 0;                  ///< since when it is in force and may not be handed back
    std::map<std::string, Object> entries;  ///< by name
    std::uint64_t said = 0;                 ///< the digest of the weights that they say
    std::optional<Object> route;
    std::map<std::string, int> shares;  ///< by subset
  };

  /// Changes of weights alone that wait for the budget. Their entries are made anew when they are written: of
  /// all Services at once they would take several times the memory of everything else.
  struct Late {
    std::string service;
    Held* held;
    Shared<Weights> weights;
    bool small;
  };

  /// A Service of which something has to be read before it can be written.
  struct Unread {
    std::string service;
    Shared<Weights> weights;
  };

  void write_late(const Wanted& wanted, MonotonicNs now, const std::function<bool()>& news);
  /// `learn`: it is the time of the pass to read; before, what is known is written.
  bool hold(const kube::Service& service, const Shared<Weights>& weights, const Wanted& wanted,
            MonotonicNs now, bool learn);
  bool keep(const kube::Service& service, Held& held, const Shared<Weights>& weights, const Wanted& wanted,
            MonotonicNs now);
  void keep_weights(const kube::Service& service, Held& held, const std::map<std::string, Json>& entries,
                    const Shared<Weights>& weights, MonotonicNs now);
  bool keep_subsets(const kube::Service& service, Held& held, const Weights& weights, const Wanted& wanted,
                    MonotonicNs now);
  bool write_entries(const kube::Service& service, Held& held, const std::map<std::string, Json>& entries,
                     MonotonicNs now);
  bool write_route(const kube::Service& service, Held& held, const Json& route, MonotonicNs now);
  bool behind(const kube::Service& service, Held& held, bool is, const std::map<std::string, Json>& entries,
              MonotonicNs now);
  void look_for_drift(Held& held, const Wanted& wanted, MonotonicNs now);
  void remove_strays(const Wanted& wanted, MonotonicNs now);
  void keep_merge_window(MonotonicNs now);
  bool leave(const std::string& service, Held& held, MonotonicNs now);
  bool remove_entries(const std::string& service, Held& held, MonotonicNs since);
  void write_who_left(const kube::Service& service, Held& held, const Shared<Weights>& weights,
                      MonotonicNs now);
  void learn_some(const Wanted& wanted, std::set<std::string>& kept, MonotonicNs now, MonotonicNs until,
                  const std::function<bool()>& news);
  bool learn_facts(const kube::Service& service, Held& held, MonotonicNs now);
  void refresh(const kube::Service& service, Held& held, const Wanted& wanted, MonotonicNs now);
  void refresh_some(const Wanted& wanted, MonotonicNs now, MonotonicNs until,
                    const std::function<bool()>& news);
  void forget_facts(const Wanted& wanted, MonotonicNs now);
  std::string managed_message(const kube::Service& service, const Held& held) const;
  void say(const kube::Service& service, bool warning, const std::string& reason, const std::string& message);
  void post(const kube::Service& service, bool warning, const std::string& reason,
            const std::string& message);
  void write_events();
  void write_late_events(const std::set<std::string>& there, MonotonicNs now);
  void tell_odd(const kube::Service& service, MonotonicNs now);
  void tell_stale(const kube::Service& service, bool stale, MonotonicNs now);
  bool flaps(const kube::Service& service, MonotonicNs now);
  bool fail(const kube::Service& service, Held& held, const Status& status, MonotonicNs now);
  void tell_others(const kube::Service& service, const Json& object, Others others, MonotonicNs now);
  Status put(const kube::Service& service, const Json& wanted, Object& have, MonotonicNs now);
  Status counted(const std::string& object, const Status& written);
  Status noted(const std::string& what, Status status);
  Status take_away(const std::string& kind, Held& held, const std::string& name, const std::string& uid,
                   const std::string& service, MonotonicNs since);
  void due(MonotonicNs at) { next_ = next_ == 0 || at < next_ ? at : next_; }

  kube::Client& client_;
  Writer writer_;
  ReconcilerOptions options_;
  MergeWindow merge_window_;
  Facts facts_;
  MonotonicNs forgot_ = 0;  ///< facts that nobody needs
  std::map<std::string, MonotonicNs> facts_asked_;
  std::map<std::string, Held> held_;  ///< by NAMESPACE/NAME of the Service
  struct HeldOff {
    MonotonicNs until = 0;
    std::string why;  ///< it was handed back because membership could not be kept; empty: it is left alone
  };
  std::map<std::string, HeldOff> held_off_;
  std::map<std::string, std::deque<MonotonicNs>> taken_;  ///< when a Service was, of late
  struct Odd {
    std::string what;
    MonotonicNs since = 0;
    bool told = false;
  };
  std::map<std::string, Odd> odd_;
  struct Stale {
    bool told = false;
    MonotonicNs at = 0;  ///< when last
  };
  std::map<std::string, Stale> stale_;
  std::map<std::string, MonotonicNs> others_;  ///< by what somebody else did to which object: told when last
  std::map<std::string, MonotonicNs> strays_;  ///< objects of ours that nobody here wrote, since when
  std::map<std::string, std::string> said_;    ///< the last Event's reason
  struct Unsaid {
    kube::ObjectRef object;
    bool warning = false;
    std::string reason;
    std::string message;
  };
  std::deque<Unsaid> unsaid_;             ///< Events that the API server has not taken yet
  std::set<std::string> events_refused_;  ///< by these namespaces, since they were asked last
  bool events_away_ = false;              ///< whoever takes them could not be asked last time
  MonotonicNs events_retry_ = 0;
  std::uint64_t writes_ = 0;
  std::map<std::string, std::string> troubles_;  ///< what fails now, and why
  std::vector<Late> late_;                       ///< of the burst that runs
  double tokens_ = 0;
  MonotonicNs tokens_at_ = 0;
  MonotonicNs next_ = 0;
  std::string resume_;          ///< the Service that the next pass begins with
  std::vector<Unread> unread_;  ///< of the pass that runs
  std::string learn_next_;      ///< the Service of which the next pass reads first
  bool reading_ = false;        ///< what was to be read of a Service was ended by the pass's end
  bool owner_known_ = false;
  bool hurry_ = false;
};

}  // namespace ballast::actuate::istio
