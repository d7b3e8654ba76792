// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/istio_sink.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "agent/actuate/istio/istiod_probe.h"
#include "agent/actuate/istio/plan.h"
#include "agent/actuate/istio/service_reconciler.h"
#include "agent/actuate/istio/writer.h"
#include "agent/kube/leaving.h"
#include "core/base/log.h"
#include "core/base/process.h"
#include "core/spec/service_name.h"

namespace ballast::actuate {
namespace {

using kube::Json;
using std::chrono::milliseconds;

constexpr MonotonicNs kMs = 1'000'000ULL;
constexpr MonotonicNs kBurstTime = 2'000'000'000ULL;
/// istiod waits until it has been quiet for so long (PILOT_DEBOUNCE_AFTER).
constexpr double kDebounceS = 0.1;
/// The leader's watches: short, so that none is ever silent for long (agent/kube/watch.h).
constexpr std::chrono::seconds kWatchLength{5};
constexpr std::chrono::seconds kWatchSilence{7};
/// Of many nodes that see a leader die some are first, and the others find nothing left to list.
constexpr MonotonicNs kSweepWithin = 2'000'000'000ULL;
/// Who has not heard of what weights depend on for so long while the API server answers otherwise hands back.
constexpr MonotonicNs kDeaf = 10'000'000'000ULL;
/// Whose right to hand back is missing for so long leaves it to others, which have it: every node's account.
constexpr MonotonicNs kStuck = 3'000'000'000ULL;
/// An API server that has just begun refuses what everybody may do (403) until it has read the roles.
constexpr std::chrono::seconds kRolesRead{10};
/// istiod's watches, each for itself, ask an API server that was away again after longer and longer: the last
/// was seen back 75 s after it.
constexpr std::chrono::seconds kIstiodIsBack{180};
constexpr milliseconds kAskIstiod{1000};
constexpr MonotonicNs kUnanswered = 30'000'000'000ULL;
constexpr const char* kShadow = "mode shadow writes nothing";

}  // namespace

struct IstioSink::State {
  State(IstioOptions o, std::unique_ptr<kube::Client> r, std::unique_ptr<kube::Client> w,
        const kube::Catalog* s)
      : options(std::move(o)),
        reader(std::move(r)),
        writer(std::move(w)),
        own_services(s != nullptr ? nullptr
                                  : std::make_unique<kube::Catalog>(
                                        *reader, kube::CatalogOptions{.slices = kube::Slices::kNone})),
        opted_in(s != nullptr ? s : own_services.get()),
        lease(*writer, options.lease),
        reconciler(
            *writer,
            {.plan = {.domain = options.cluster_domain,
                      .lease = options.lease.ns + "." + options.lease.name,
                      .owner_name = options.owner_role},
             .may_write = [this] { return leads_now(SystemClock().now()); },
             .released = [this](const std::string& service) { return released_meanwhile(service); },
             .wrote =
                 [this](const std::string& service, const Json& spec, MonotonicNs at, bool whole) {
                   if (probe != nullptr) {
                     probe->written(service, spec, at, whole);
                   }
                 },
             .left =
                 [this](const std::string& service) {
                   if (probe != nullptr) {
                     probe->left(service);
                   }
                 },
             .away_of_late = [this] { return away_within(kRolesRead); },
             .told = [this](const std::string& ns, const Json& spec) { return istiod_tells(ns, spec); },
             .settle_ns = static_cast<MonotonicNs>(options.settle.count()) * kMs,
             .merge_window = {.root_ns = options.istio_fast ? options.root_namespace : "",
                              .gather_ns = static_cast<MonotonicNs>(options.settle.count()) * kMs,
                              .linger_ns = 10ULL * static_cast<MonotonicNs>(options.settle.count()) * kMs,
                              .look_ns = 30ULL * static_cast<MonotonicNs>(options.settle.count()) * kMs},
             .apart_ns = static_cast<MonotonicNs>(options.apart.count()) * kMs,
             .small_apart_ns = static_cast<MonotonicNs>(options.small_apart.count()) * kMs,
             .weights_per_s = options.weights_per_s,
             .weights_burst = std::max(1.0, 2 * options.weights_per_s)}) {
    if (options.active && !options.istiod.empty()) {
      probe = std::make_unique<istio::IstiodProbe>(
          istio::IstiodProbe::Options{
              .istiod = options.istiod,
              .pause = options.look_pause,
              .again = 10 * options.look_pause,
              .window_again = 600 * options.look_pause,
              .window_wanted_s = options.istio_fast ? std::optional(0.0) : std::nullopt,
              .behind = 30 * options.look_pause},
          [this] {
            const std::lock_guard lock(mutex);
            return sample;
          },
          [this](const Json& looked_at, istio::Takes takes) { looked(looked_at, takes); });
    }
    thread = std::thread([this] { run(); });
    lease_thread = std::thread([this] { keep_lease(); });
  }
  ~State() {
    stop();
    probe.reset();
    reader->stop();
    // Their threads call us: they end before what they call on.
    set_leader_watches(nullptr);
  }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// What only the leader looks at: on five thousand nodes nobody else may be told of every weight.
  struct LeaderWatches {
    std::unique_ptr<kube::Client> reader;
    std::unique_ptr<kube::Catalog> catalog;
    std::unique_ptr<kube::LeavingPods> leaving;
    MonotonicNs begun = 0;
    std::vector<std::unique_ptr<kube::Watch>> watches;
  };
  void looked(const Json& at, istio::Takes takes);
  void look();
  void set_leader_watches(std::unique_ptr<LeaderWatches> now);
  void watch(LeaderWatches& to, const std::string& kind, const std::string& path, const std::string& query);
  void see(const std::string& kind, const Json& object);
  void wake(bool membership);
  void stop();
  void run();
  void keep_lease();
  Result<kube::LeaseView> step_lease();
  void give_way(MonotonicNs now, const Status& swept_now);
  void take_look(const Result<kube::LeaseView>& view, MonotonicNs now);
  bool leads_now(MonotonicNs now) const { return lease.valid_until() > now && lease.term() == term; }
  bool released_meanwhile(const std::string& service);
  bool ready() const;
  MonotonicNs deaf_at(MonotonicNs now) const;
  bool away_within(std::chrono::seconds time) const;
  bool istiod_tells(const std::string& ns, const Json& spec);
  MonotonicNs burst(MonotonicNs now);
  void take_leaving_out(kube::Service& service) const;
  istio::Wanted wanted(MonotonicNs now);
  void drop_lapsed(istio::WeightsOfServices& from, MonotonicNs now);
  void note_written();
  void complain(std::string& kept, std::string now);
  std::string trouble() const;
  istio::WeightTravel travel() const { return probe == nullptr ? istio::WeightTravel{} : probe->travel(); }
  void keep_pace();

  const IstioOptions options;
  std::unique_ptr<kube::Client> reader;
  std::unique_ptr<kube::Client> writer;
  std::unique_ptr<kube::Catalog> own_services;  ///< null where others watch them
  const kube::Catalog* const opted_in;          ///< Services, whose labels every agent goes by

  mutable std::mutex mutex;  ///< guards what is below, up to the thread's own
  std::condition_variable news;
  std::condition_variable lease_news;
  bool stopping = false;
  bool weights_news = false;
  bool membership_news = false;
  bool own_host = true;                       ///< false: seen not to take
  std::deque<Result<kube::LeaseView>> looks;  ///< at the Lease, that the writing thread has not taken in
  istio::WeightsOfServices weights;
  std::map<std::string, std::string> tripped;
  std::map<std::string, MonotonicNs> renewed;  ///< when weights were, by publishing or renewing them
  std::string lapsed;                          ///< Services whose weights nobody renews any more
  struct Taken {
    std::uint64_t weights = 0;  ///< the digest of those that the last burst had
    guard::Answer answer;       ///< what it did with them
  };
  std::map<std::string, Taken> taken;
  MonotonicNs published_at = 0;  ///< of the oldest weights that no burst has had yet; 0: none
  std::unique_ptr<LeaderWatches> leader_watches;  ///< null while we do not lead; set by the thread alone
  std::map<std::string, istio::ConflictingRoute> conflicting_routes;
  std::map<std::string, istio::Owned> seen;
  std::map<std::string, istio::PodFacts> pod_news;  ///< that the reconciler has not heard of
  std::map<std::string, std::string> waypoints;     ///< of namespaces whose label names one, by /NAMESPACE
  std::set<std::string> released;
  std::string leader;
  std::string lease_trouble;
  std::string write_trouble;
  Json sample;          ///< for the probe
  std::string sampled;  ///< the Service that it looked at last

  std::mutex lease_steps;  ///< one steps at a time
  kube::LeaderLease lease;

  // The writing thread's own.
  std::uint64_t term = 0;  ///< of the Lease, that it acts in
  istio::ServiceReconciler reconciler;
  bool swept = false;  ///< the overrides of the holder that lapsed are being removed, or were
  bool sweep_due = false;
  bool refused = false;         ///< the Lease was, by the API server
  bool gave_way = false;        ///< to others, who hand back: what was known does not hold any more
  MonotonicNs sweep_stuck = 0;  ///< since when a right is missing for it; 0: none is
  std::atomic<MonotonicNs> no_candidate_until{0};
  MonotonicNs sweep_at = 0;
  MonotonicNs ask_istiod_at = 0;  ///< it did not answer, and is not asked before
  MonotonicNs answered_at = 0;    ///< the last look at the Lease that was answered
  MonotonicNs answers_since = 0;  ///< the first after an API server that was away
  std::atomic<bool> leads{false};
  std::atomic<std::uint64_t> writes{0};
  std::atomic<std::uint64_t> bursts{0};
  std::atomic<double> write_s{0.01};
  std::thread thread;
  std::thread lease_thread;
  std::unique_ptr<istio::IstiodProbe> probe;
};

/// What istiod tells proxies of a Service.
void IstioSink::State::looked(const Json& at, istio::Takes takes) {
  const bool yes = takes == istio::Takes::kYes;
  bool turned = false;
  {
    const std::lock_guard lock(mutex);
    sampled = at.at("service").get<std::string>();
    if (takes == istio::Takes::kUnknown) {
      return;  // another's turn
    }
    if (takes == istio::Takes::kNo && away_within(kIstiodIsBack)) {
      return;  // it may know of the Service and not of the entry
    }
    turned = std::exchange(own_host, yes) != yes;
    const auto of = taken.find(sampled);
    const auto handed = weights.find(sampled);
    if (yes && at.at("whole") == true && of != taken.end() && handed != weights.end() &&
        of->second.weights == istio::digest(handed->second) &&
        of->second.answer.outcome == guard::Outcome::kWritten && istio::says(at.at("spec"), handed->second)) {
      of->second.answer = {guard::Outcome::kAcknowledged, "istiod gives it to proxies"};
    }
  }
  if (turned) {
    wake(true);
  }
}

void IstioSink::State::look() {
  auto client = kube::Client::create(options.api);
  if (!client) {
    return;  // credentials that cannot be read now; the Lease says so
  }
  auto now = std::make_unique<LeaderWatches>();
  now->reader = std::move(*client);
  now->begun = SystemClock().now();
  now->catalog = std::make_unique<kube::Catalog>(
      *now->reader, kube::CatalogOptions{.watch_length = kWatchLength, .silence = kWatchSilence});
  now->catalog->on_change([this] { wake(true); });
  now->leaving = std::make_unique<kube::LeavingPods>(
      *now->reader,
      [this, catalog = now->catalog.get()](const std::string& uid) {
        if (catalog->has(uid)) {
          wake(true);
        }
      },
      // Of a pod that is in no slice now, too: it may come back into one, and what is known of it is kept.
      [this](const std::string& uid, const Json& pod) {
        {
          const std::lock_guard lock(mutex);
          istio::take_metadata(pod, pod_news[uid]);
        }
        news.notify_all();
      });
  const std::string istio = "/apis/networking.istio.io/v1/";
  watch(*now, "VirtualService", istio + "virtualservices", "");
  watch(*now, "DestinationRule", istio + "destinationrules", "");
  watch(*now, "HTTPRoute", "/apis/gateway.networking.k8s.io/v1/httproutes", "");
  watch(*now, "ServiceEntry", istio + "serviceentries",
        "labelSelector=" + kube::encode(std::string(istio::kManagedByLabel) + "=" + istio::kManagedBy));
  watch(*now, "Namespace", "/api/v1/namespaces", "labelSelector=" + kube::encode(kube::kWaypointLabel));
  set_leader_watches(std::move(now));
}

/// What was seen by others is forgotten. Without the lock while their threads end: they call us.
void IstioSink::State::set_leader_watches(std::unique_ptr<LeaderWatches> now) {
  std::unique_ptr<LeaderWatches> before;
  {
    const std::lock_guard lock(mutex);
    before = std::exchange(leader_watches, std::move(now));
  }
  if (before != nullptr) {
    before->reader->stop();
    before.reset();
    const std::lock_guard lock(mutex);
    conflicting_routes.clear();
    seen.clear();
    pod_news.clear();
    waypoints.clear();
  }
}

void IstioSink::State::watch(LeaderWatches& to, const std::string& kind, const std::string& path,
                             const std::string& query) {
  // Of ServiceEntries mostly the echo of our own writes: to act on it at once would end the quiet for which
  // istiod waits.
  kube::WatchHandler handler{[this, kind](const Json& object) {
                               see(kind, object);
                               wake(kind != "ServiceEntry");
                             },
                             [this, kind](const std::string& key) {
                               {
                                 const std::lock_guard lock(mutex);
                                 conflicting_routes.erase(kind + " " + key);
                                 seen.erase(kind + " " + key);
                                 if (kind == "Namespace") {
                                   waypoints.erase(key);
                                 }
                               }
                               wake(kind != "ServiceEntry");
                             },
                             [] {}};
  to.watches.push_back(
      std::make_unique<kube::Watch>(*to.reader,
                                    kube::WatchOptions{.path = path,
                                                       .query = query,
                                                       .metadata_only = kind == "Namespace",
                                                       .optional = kind == "HTTPRoute",
                                                       .page = kind == "ServiceEntry" ? istio::kPage : 500,
                                                       .length = kWatchLength,
                                                       .silence = kWatchSilence},
                                    std::move(handler)));
}

void IstioSink::State::see(const std::string& kind, const Json& object) {
  const std::string key = kind + " " + kube::key_of(object);
  if (kind == "Namespace") {
    const std::lock_guard lock(mutex);
    waypoints[kube::key_of(object)] = kube::text_at(object, {"metadata", "labels", kube::kWaypointLabel});
    return;
  }
  const bool ours = istio::ours(object, options.lease.ns + "." + options.lease.name);
  auto conflicting_route =
      kind == "ServiceEntry" ? std::nullopt : istio::parse_conflicting_route(kind, object);
  const std::lock_guard lock(mutex);
  conflicting_routes.erase(key);
  seen.erase(key);
  if (ours) {
    seen[key] = istio::owned_of(object);
    seen[key].own_host = seen[key].own_host && kind == "ServiceEntry";
  } else if (conflicting_route) {
    conflicting_routes[key] = std::move(*conflicting_route);
  }
}

void IstioSink::State::wake(bool membership) {
  {
    const std::lock_guard lock(mutex);
    (membership ? membership_news : weights_news) = true;
  }
  news.notify_all();
}

void IstioSink::State::stop() {
  {
    const std::lock_guard lock(mutex);
    stopping = true;
  }
  lease_news.notify_all();
  news.notify_all();
  for (std::thread* each : {&thread, &lease_thread}) {
    if (each->joinable()) {
      each->join();
    }
  }
}

bool IstioSink::State::ready() const {
  return leader_watches != nullptr && leader_watches->catalog->synced() &&
         std::all_of(leader_watches->watches.begin(), leader_watches->watches.end(),
                     [](const auto& watch) { return watch->synced(); });
}

Result<kube::LeaseView> IstioSink::State::step_lease() {
  const std::lock_guard lock(lease_steps);
  const MonotonicNs now = SystemClock().now();
  return lease.step(now, options.stands() && now >= no_candidate_until);
}

/// Who may not hand back what is in force must not keep others from it: nodes act when nobody leads. It
/// stands for the Lease again when they have had the time.
void IstioSink::State::give_way(MonotonicNs now, const Status& swept_now) {
  const bool refused_now =
      !swept_now && swept_now.error().kind == Error::Kind::kPrivilege && !away_within(kRolesRead);
  sweep_stuck = !refused_now ? 0 : sweep_stuck == 0 ? now : sweep_stuck;
  const MonotonicNs since = refused_now ? sweep_stuck : reconciler.stuck();
  if (since == 0 || now - since < kStuck || !leads_now(now)) {
    return;
  }
  spdlog::warn("the Lease is left to lapse reason=\"handing back is refused: {}\"",
               swept_now ? reconciler.trouble() : swept_now.error().message);
  const std::lock_guard lock(lease_steps);
  no_candidate_until = now + 2 * static_cast<MonotonicNs>(options.lease.duration_s) * 1000 * kMs;
  gave_way = true;
  sweep_due = false;
  sweep_stuck = 0;
  if (Status given = lease.give_up(false); !given) {
    spdlog::warn("lease not given up reason=\"{}\"", given.error().message);  // it lapses in its time
  }
}

/// Looks at the Lease, and renews it, whatever the writing thread is busy with: a pass over Services of
/// thousands of endpoints may outlast it.
void IstioSink::State::keep_lease() {
  const auto length = std::chrono::seconds(options.lease.duration_s);
  std::unique_lock lock(mutex);
  while (!stopping) {
    lock.unlock();
    Result<kube::LeaseView> view = step_lease();
    // Who leads renews four times in a Lease; who does not looks twice.
    milliseconds period = milliseconds(length) / (lease.valid_until() > SystemClock().now() ? 4 : 2);
    period = view ? period : std::min(period, milliseconds(1000));
    lock.lock();
    looks.push_back(std::move(view));
    news.notify_all();
    lease_news.wait_for(lock, period, [this] { return stopping; });
  }
}

/// What a look at the Lease told.
void IstioSink::State::take_look(const Result<kube::LeaseView>& view, MonotonicNs now) {
  complain(lease_trouble, view ? "" : view.error().message);
  refused = !view && view.error().kind == Error::Kind::kPrivilege && !away_within(kRolesRead);
  answers_since = view && now - answered_at > kDeaf ? now : answers_since;
  answered_at = view ? now : answered_at;
  if (view) {
    {
      const std::lock_guard lock(mutex);
      released = istio::released(view->annotations);
      const bool gone = view->lapsed || view->holder == options.lease.holder;
      leader = view->leading ? options.lease.holder : gone ? "" : view->holder;
    }
    if (view->took) {
      term = view->term;
      spdlog::info("leading holder={} before={}", options.lease.holder, view->holder);
      // Where nobody has held it since we did, what we know of the cluster still holds: an API server
      // that was away for longer than the Lease is no reason to take the weights out of traffic.
      sweep_due = view->holder != options.lease.holder || gave_way;
      gave_way = false;
    }
    if (!options.stands()) {
      if (view->lapsed && !swept) {
        spdlog::warn("leader gone, removing its overrides holder={}", view->holder);
        sweep_at = now + std::random_device{}() % kSweepWithin;
      }
      // Who came back, or came after, sees to it.
      sweep_due = view->lapsed && (sweep_due || !swept);
      swept = view->lapsed;
    }
  }
  const bool leading = leads_now(now);
  if (leads.exchange(leading) && !leading) {
    spdlog::warn("not leading any more holder={}", options.lease.holder);
    set_leader_watches(nullptr);
  }
  if (leading && leader_watches == nullptr) {
    look();
  }
}

/// Who releases notes it at the Lease before he removes anything, and the next look at it may be seconds
/// away.
bool IstioSink::State::released_meanwhile(const std::string& service) {
  const auto lease_now = writer->call({.path = "/apis/coordination.k8s.io/v1/namespaces/" + options.lease.ns +
                                               "/leases/" + options.lease.name});
  if (!lease_now || !lease_now->ok()) {
    return false;  // the next look says what is wrong
  }
  std::set<std::string> noted = istio::released(kube::at(lease_now->json(), {"metadata", "annotations"}));
  const std::lock_guard lock(mutex);
  membership_news = membership_news || noted != released;
  released = std::move(noted);
  return released.contains("*") || released.contains(service);
}

/// How long weights have waited, for the other services' turn, for Envoy's merge window and for the write.
void IstioSink::State::note_written() {
  const std::lock_guard lock(mutex);
  if (const MonotonicNs since = std::exchange(published_at, 0); since != 0) {
    // What came before we led, or for a Service that is not ours to weigh, has not waited for a write.
    const double waited_s = std::min(static_cast<double>(SystemClock().now() - since) * 1e-9, 2.0);
    write_s = write_s + 0.2 * (waited_s - write_s);
  }
}

void IstioSink::State::complain(std::string& kept, std::string now) {
  const std::lock_guard lock(mutex);
  kept = std::move(now);
}

std::string IstioSink::State::trouble() const {
  {
    const std::lock_guard lock(mutex);
    if (!lease_trouble.empty() || !write_trouble.empty()) {
      return lease_trouble.empty() ? write_trouble : lease_trouble;
    }
    if (!lapsed.empty()) {
      return "nobody decides the weights of " + lapsed + " any more: handed back";
    }
    if (leader_watches != nullptr) {
      for (const auto& watch : leader_watches->watches) {
        if (std::string said = watch->trouble(); !said.empty()) {
          return said;
        }
      }
      for (const std::string& said :
           {leader_watches->catalog->trouble(), leader_watches->leaving->trouble()}) {
        if (!said.empty()) {
          return said;
        }
      }
    }
  }
  return probe == nullptr ? "" : probe->trouble();
}

/// Who is asked to end is not ready any more, before its EndpointSlice says so.
void IstioSink::State::take_leaving_out(kube::Service& service) const {
  const MonotonicNs now = SystemClock().now();
  for (kube::Endpoint& endpoint : service.endpoints) {
    endpoint.ready = endpoint.ready && (service.publishes_not_ready || endpoint.uid.empty() ||
                                        !leader_watches->leaving->leaves(endpoint.uid, now));
  }
}

/// REQUIRES mutex. Who decides hangs: its weights are as good as withdrawn.
void IstioSink::State::drop_lapsed(istio::WeightsOfServices& from, MonotonicNs now) {
  std::string names;
  for (const auto& [service, at] : renewed) {
    if (now > at && now - at > static_cast<MonotonicNs>(options.stale_after.count()) * kMs &&
        from.erase(service) > 0) {
      names += (names.empty() ? "" : ", ") + service;
    }
  }
  if (names != lapsed && !names.empty()) {
    spdlog::warn("handing back reason=\"nobody decides any more\" services=\"{}\"", names);
  }
  lapsed = names;
}

istio::Wanted IstioSink::State::wanted(MonotonicNs now) {
  istio::Wanted out;
  out.services = leader_watches->catalog->bare_services();
  out.fill = [this](kube::Service& service) {
    const bool there = leader_watches->catalog->fill(service);
    take_leaving_out(service);
    return there;
  };
  std::set<std::string> namespaces;
  for (const kube::Service& service : out.services) {
    if (service.mode == "active") {
      namespaces.insert(service.ns);
    }
  }
  leader_watches->leaving->listen(namespaces);
  out.heard = leader_watches->leaving->heard();
  const std::lock_guard lock(mutex);
  out.released = released;
  out.weights = weights;
  drop_lapsed(out.weights, now);
  out.tripped = tripped;
  for (const auto& [key, conflicting_route] : conflicting_routes) {
    out.conflicting_routes.push_back(conflicting_route);
  }
  out.seen = seen;
  out.own_host = own_host;
  out.stale = probe == nullptr ? std::set<std::string>{} : probe->stale();
  for (kube::Service& service : out.services) {
    service.mode = !options.active && service.mode == "active" ? "shadow" : service.mode;
    if (const auto of = waypoints.find("/" + service.ns); service.waypoint.empty() && of != waypoints.end()) {
      service.waypoint = of->second;
    }
  }
  return out;
}

/// When membership, or what else weights depend on, has not been heard of for too long, though the API server
/// answers; 0: it does not. Of pods that leave the slices tell as well.
MonotonicNs IstioSink::State::deaf_at(MonotonicNs now) const {
  if (leader_watches == nullptr || now - answered_at > kDeaf) {
    return 0;
  }
  MonotonicNs heard = leader_watches->catalog->heard();
  for (const auto& watch : leader_watches->watches) {
    heard = std::min(heard, watch->heard());
  }
  return std::max({heard, leader_watches->begun, answers_since}) + kDeaf;
}

/// Whoever of us listens hears at once when an API server ends.
bool IstioSink::State::away_within(std::chrono::seconds time) const {
  return writer->away_within(time) || reader->away_within(time) ||
         (leader_watches != nullptr && leader_watches->reader->away_within(time));
}

/// Before a route leads there. An istiod that does not answer is asked again only after a while, and believed
/// to follow unless the API server was away.
bool IstioSink::State::istiod_tells(const std::string& ns, const Json& spec) {
  if (options.istiod.empty()) {
    return !away_within(kIstiodIsBack);
  }
  const MonotonicNs now = SystemClock().now();
  if (now >= ask_istiod_at) {
    const auto told = istio::ask_istiod(options.istiod, ns, istio::cluster_of(spec), kAskIstiod);
    if (told) {
      return istio::tells_of(spec, *told);
    }
    ask_istiod_at = now + kUnanswered;
  }
  return !away_within(kIstiodIsBack);
}

/// As far apart as Envoy's merge window asks for, where that was seen.
void IstioSink::State::keep_pace() {
  const double window_s = travel().merge_window_s.value_or(1.0);
  const auto scaled = [&](milliseconds of_a_second, milliseconds least) {
    const auto ms =
        std::max(static_cast<double>(least.count()), static_cast<double>(of_a_second.count()) * window_s);
    return static_cast<MonotonicNs>(ms) * kMs;
  };
  reconciler.pace(scaled(options.apart, std::min(options.quiet, options.apart)),
                  scaled(options.small_apart, std::min(3 * options.quiet, options.small_apart)));
}

/// One burst of writes; returns when the next is due without news, 0 for none.
MonotonicNs IstioSink::State::burst(MonotonicNs now) {
  MonotonicNs next = 0;
  if (sweep_due && now < sweep_at) {
    return sweep_at;
  }
  if (sweep_due && !options.stands()) {
    take_look(step_lease(), now);
  }
  if (sweep_due) {
    const Status done = reconciler.sweep(now);
    if (options.stands()) {
      give_way(now, done);
    }
    if (!done) {
      spdlog::warn("overrides not removed yet reason=\"{}\"", done.error().message);
      complain(write_trouble, done.error().message);
      return now + 1000 * kMs;
    }
    sweep_due = false;
  }
  const bool leading = leads_now(now);
  const MonotonicNs deaf = leading ? deaf_at(now) : 0;
  const bool unable = leading ? deaf != 0 && now > deaf : refused || !options.stands();
  if (unable) {
    if (reconciler.managed() > 0) {
      spdlog::warn("handing back reason=\"{}\"",
                   leading ? "membership, or who else routes, was not heard of for 10 s" : trouble());
      next = reconciler.hand_back(now, now + kBurstTime) ? 0 : now + 500 * kMs;
    }
    next = leading ? now + 500 * kMs : next;
  } else if (leading) {
    if (!ready()) {
      return now + 100 * kMs;
    }
    const istio::Wanted given = wanted(now);
    keep_pace();
    // A bounded part of the work, so that who leaves elsewhere does not wait behind a large Service.
    next = reconciler.reconcile(given, now, now + kBurstTime, [this] {
      const std::lock_guard lock(mutex);
      return membership_news;
    });
    next = deaf != 0 && (next == 0 || deaf < next) ? deaf + 1 : next;
    std::map<std::string, Taken> answers;
    for (const auto& [service, of_service] : given.weights) {
      answers[service] = {istio::digest(of_service), reconciler.answer(service, of_service)};
      if (guard::Answer& answer = answers[service].answer; !options.active) {
        answer.detail = answer.detail == istio::kNotManaged
                            ? kShadow
                            : "mode active would not write it either: " + answer.detail;
      }
    }
    const std::lock_guard lock(mutex);
    for (auto& [service, now_taken] : answers) {
      const auto before = taken.find(service);
      if (now_taken.answer.outcome == guard::Outcome::kWritten && before != taken.end() &&
          before->second.answer.outcome == guard::Outcome::kAcknowledged &&
          before->second.weights == now_taken.weights) {
        now_taken.answer = before->second.answer;
      }
    }
    taken = std::move(answers);
  }
  if (leading) {
    give_way(now, ok());
  }
  complain(write_trouble, reconciler.trouble());
  {
    const std::lock_guard lock(mutex);
    sample = leading ? reconciler.sample(now, sampled) : Json();
    if (!leading) {
      lapsed.clear();
    }
  }
  if (reconciler.writes() != writes) {
    writes = reconciler.writes();
    ++bursts;
    note_written();
  } else if (!reconciler.hurry()) {
    // What is left waits because it is small, which is no delay of the loop.
    const std::lock_guard lock(mutex);
    published_at = 0;
  }
  return next;
}

void IstioSink::State::run() {
  ask_for_short_slices();
  const SystemClock clock;
  MonotonicNs due = 0;
  MonotonicNs quiet_until = 0;
  const auto quiet = static_cast<MonotonicNs>(options.quiet.count()) * kMs;
  std::unique_lock lock(mutex);
  while (!stopping) {
    MonotonicNs now = clock.now();
    const MonotonicNs own = due != 0 ? std::max(due, quiet_until) : 0;
    membership_news = reconciler.hear(std::exchange(pod_news, {})) || membership_news;
    if (looks.empty() && !membership_news && !(weights_news && now >= quiet_until) &&
        !(own != 0 && now >= own)) {
      MonotonicNs until = own != 0 ? own : now + 1000 * kMs;
      until = weights_news ? std::min(until, quiet_until) : until;
      news.wait_for(lock, std::chrono::nanoseconds(until - now));
      continue;
    }
    membership_news = false;
    weights_news = false;
    const auto told = std::exchange(looks, {});
    lock.unlock();
    for (const Result<kube::LeaseView>& view : told) {
      take_look(view, now);
    }
    now = clock.now();
    const auto before = writes.load();
    due = burst(now);
    if (writes != before) {
      // Half of the time at least is istiod's, however slow the writes are.
      const MonotonicNs ended = clock.now();
      quiet_until = ended + std::max(quiet, ended - now);
    }
    lock.lock();
  }
}

Result<std::unique_ptr<IstioSink>> IstioSink::create(IstioOptions options, const kube::Catalog* services) {
  auto reader = kube::Client::create(options.api);
  if (!reader) {
    return reader.error().in("sink istio");
  }
  // A write that fails is tried again by the next burst, and the Lease is renewed in between.
  kube::ClientOptions brief = options.api;
  brief.retry_budget = std::min(brief.retry_budget, milliseconds(1500));
  brief.request_timeout = std::min(brief.request_timeout, milliseconds(3000));
  auto writer = kube::Client::create(brief);
  if (!writer) {
    return writer.error().in("sink istio");
  }
  return std::unique_ptr<IstioSink>(new IstioSink(
      std::make_unique<State>(std::move(options), std::move(*reader), std::move(*writer), services)));
}

IstioSink::IstioSink(std::unique_ptr<State> state) : state_(std::move(state)) {}

IstioSink::~IstioSink() {
  state_->writer->stop();
}

Status IstioSink::publish(const guard::GuardedWeights& weights) {
  istio::Weights by_address;
  bool tripped = false;
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    by_address[{endpoint.address, endpoint.port}] = endpoint.weight;
    tripped = tripped || (endpoint.reasons & guard::kTripped) != 0;
  }
  const std::string key = to_string(weights.service());
  {
    const std::lock_guard lock(state_->mutex);
    state_->weights[key] = std::move(by_address);
    state_->tripped.erase(key);
    state_->renewed[key] = SystemClock().now();
    if (tripped) {
      state_->tripped[key] = weights.why();
    }
    state_->published_at = state_->published_at == 0 ? SystemClock().now() : state_->published_at;
  }
  state_->wake(false);
  return ok();
}

void IstioSink::renew(const spec::ServiceId& service) {
  const std::lock_guard lock(state_->mutex);
  state_->renewed[to_string(service)] = SystemClock().now();
}

Status IstioSink::withdraw(const spec::ServiceId& service) {
  {
    const std::lock_guard lock(state_->mutex);
    state_->renewed.erase(to_string(service));
    state_->weights.erase(to_string(service));
    state_->tripped.erase(to_string(service));
  }
  state_->wake(false);
  return ok();
}

void IstioSink::flush() {
  State& state = *state_;
  state.stop();
  if (!state.leads) {
    return;
  }
  const SystemClock clock;
  const MonotonicNs end = clock.now() + static_cast<MonotonicNs>(state.options.flush.count()) * kMs;
  const auto stuck = [&] {
    const MonotonicNs since = state.reconciler.stuck();
    return since != 0 && clock.now() - since >= kStuck;
  };
  while (!state.reconciler.hand_back(clock.now(), end) && clock.now() < end && !stuck()) {
    std::this_thread::sleep_for(milliseconds(50));
  }
  state.complain(state.write_trouble, state.reconciler.trouble());
  if (state.reconciler.managed() > 0) {
    spdlog::warn("not everything was handed back: nodes will, or run ballastctl release --all services={}",
                 state.reconciler.managed());
  }
  if (Status done = state.lease.give_up(state.reconciler.managed() == 0); !done) {
    spdlog::warn("lease not given up reason=\"{}\"", done.error().message);
  }
  state.leads = false;
}

guard::Word IstioSink::word(const spec::ServiceId& id) const {
  const std::string key = to_string(id);
  guard::Word word{.mode = guard::Mode::kOff,
                   .why = state_->opted_in->synced() ? std::string("no label ") + kube::kModeLabel
                                                     : "Services are not read yet"};
  if (const auto service = state_->opted_in->service(key)) {
    word.mode = service->mode == "active"   ? guard::Mode::kActive
                : service->mode == "shadow" ? guard::Mode::kShadow
                                            : guard::Mode::kOff;
    word.why = std::string("label ") + kube::kModeLabel + "=" + service->mode;
  }
  const std::lock_guard lock(state_->mutex);
  if (state_->released.contains("*") || state_->released.contains(key)) {
    word.released = true;
    word.why = "ballastctl release";
  }
  return word;
}

guard::Answer IstioSink::answer(const spec::ServiceId& id) const {
  const std::string key = to_string(id);
  const std::lock_guard lock(state_->mutex);
  if (!state_->options.stands()) {
    return {guard::Outcome::kHeldBack,
            "this process does not write (role node, or mode off): the writer's `ballastctl explain` has the "
            "decision"};
  }
  if (!state_->leads) {
    return {guard::Outcome::kNotLeader, state_->leader.empty() ? "nobody leads" : state_->leader + " leads"};
  }
  const auto handed = state_->weights.find(key);
  const auto taken = state_->taken.find(key);
  if (handed == state_->weights.end()) {
    return {};
  }
  if (taken == state_->taken.end() || taken->second.weights != istio::digest(handed->second)) {
    return {guard::Outcome::kHeldBack,
            state_->options.active ? "its turn to be written has not come yet" : kShadow};
  }
  return taken->second.answer;
}

std::string IstioSink::leader() const {
  const std::lock_guard lock(state_->mutex);
  return state_->leader;
}

double IstioSink::acknowledgement_delay_s() const {
  return state_->travel().istiod_s.value_or(kDebounceS) + state_->write_s;
}

std::string IstioSink::loop_profile() const {
  const istio::WeightTravel travel = state_->travel();
  if (!travel.merge_window_s) {
    return state_->probe == nullptr ? "" : "istio, not seen yet";
  }
  // A busy machine is late, but nobody is earlier than istiod's quiet time who waits for it.
  const bool debounced = !travel.least_istiod_s || *travel.least_istiod_s > 0.8 * kDebounceS;
  return (*travel.merge_window_s > 0 ? "istio" : "istio_fast") +
         std::string(debounced ? "" : ", no EDS debounce") +
         (travel.istiod_s ? fmt::format(", {:.0f} ms to istiod", *travel.istiod_s * 1e3) : "");
}

std::string IstioSink::trouble() const {
  return state_->trouble();
}
bool IstioSink::leading() const {
  return state_->leads;
}
std::uint64_t IstioSink::writes() const {
  return state_->writes;
}
std::uint64_t IstioSink::bursts() const {
  return state_->bursts;
}

}  // namespace ballast::actuate
