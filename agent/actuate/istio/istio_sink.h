// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string>

#include "agent/actuate/sink.h"
#include "agent/kube/catalog.h"
#include "agent/kube/client.h"
#include "agent/kube/lease.h"

namespace ballast::actuate {

struct IstioOptions {
  kube::ClientOptions api;
  kube::LeaseOptions lease;
  /// Stands for the Lease, and writes what it decides as the leader.
  bool active = false;
  /// Without `active`: stands for the Lease as well, so that it decides by what all nodes report, and writes
  /// nothing but Events about Services that could not be weighed. With neither (mode off, role node) it never
  /// leads. Who does not write removes overrides that a dead leader left.
  bool shadow = false;
  bool stands() const { return active || shadow; }
  std::string cluster_domain = "cluster.local";
  /// The ClusterRole that lets us write Istio's objects owns them: when it goes, with `kubectl delete -k` or
  /// by an operator's hand, Kubernetes' garbage collector removes them, whether or not we live.
  std::string owner_role = "ballast-writer";
  /// HOST:PORT of istiod's plain xDS port, where it is asked whether entries of own hosts take
  /// (istio/istiod_probe.h). Where it does not answer that goes unverified; empty: it is not asked.
  std::string istiod = "istiod.istio-system.svc:15010";
  /// Between looks while they tell nothing; ten times that after one that did.
  std::chrono::milliseconds look_pause{1000};
  /// Changes of weights alone, for all Services together; twice as many at once. Membership has no budget.
  double weights_per_s = 50;
  /// Least time between the end of one burst of weights and the next, which is no less than the burst took.
  /// istiod pushes when it has been quiet for 100 ms, and waits up to 10 s for that.
  std::chrono::milliseconds quiet{250};
  /// An EnvoyFilter of ours takes Envoy's merge window away from the clusters of managed hosts
  /// (istio/merge_window.h), which lies in this namespace, Istio's root.
  bool istio_fast = false;
  std::string root_namespace = "istio-system";
  /// Least time between two changes of one Service's weights. Envoy applies an update of weights alone at
  /// once only when the cluster's last update was more than its update_merge_window ago (1 s, which Istio
  /// leaves as it is), and holds it back for a whole window otherwise: waiting a little here is quicker than
  /// that, and what is written then is newer. Membership does not wait: neither does Envoy for it. For a
  /// window of 1 s; where another is seen (istio/istiod_probe.h) it shrinks or grows with it, down to
  /// `quiet`.
  std::chrono::milliseconds apart{1100};
  /// And from a change of no weight by more than a seventh to the next such. Envoy holds back what comes
  /// within a second of the last change, whatever that was: a pod that lost half its CPU must not wait behind
  /// noise.
  std::chrono::milliseconds small_apart{3300};
  /// From the shadow's ServiceEntry to the route that leads to it, and back: proxies must have the
  /// cluster before the route and lose it after.
  std::chrono::milliseconds settle{1000};
  /// A Service whose weights were not renewed for so long is handed back: who decides hangs, though the Lease
  /// is renewed.
  std::chrono::milliseconds stale_after{15'000};
  /// How long handing back may take at the end; the call under way then comes on top.
  std::chrono::milliseconds flush{12'000};
  bool operator==(const IstioOptions&) const = default;

  void declare(options::Schema& s) {
    api.declare(s);
    lease.declare(s);
    s.text("cluster_domain", cluster_domain, "DOMAIN", "of the cluster's Services", options::not_empty);
    s.number("weights_per_s", weights_per_s, 0.1, 1000, "/s",
             "weights that the leader writes, all Services together");
    s.text("istiod", istiod, "HOST:PORT",
           "istiod's plain xDS port, asked whether weights of a Service's own host take; empty: not asked");
    s.flag("istio_fast", istio_fast,
           "take Envoy's merge window (1 s) away from the clusters of weighed Services, by an EnvoyFilter");
    s.text("istio_root_namespace", root_namespace, "NAMESPACE",
           "Istio's root namespace, where that EnvoyFilter has to lie to reach every client",
           options::not_empty);
  }
};

/// Publishes weights through Istio's own objects (istio/plan.h): a Service that opts in by the label
/// ballast.dev/mode=active gets ServiceEntries of its own host with our weights; by the annotation
/// ballast.dev/by: route, or where the first was seen not to take, entries of a shadow host and a
/// VirtualService that leads to it.
///
/// One writer in the cluster: the holder of the Lease. The others keep watch. When the holder has not
/// renewed for the Lease's duration, one of them takes it and first removes every override, so that
/// traffic is the plain Service's again; then it begins anew with its own weights. Every write carries the
/// uid and version that it was decided on, so that a deposed leader's does not land; one that does is
/// removed.
///
/// Membership is the EndpointSlices', mirrored at once whatever the loop does, and never a pod without the
/// identity that istiod would give it; publish() gives weights only, by address and port. A Service that
/// cannot be managed (istio/plan.h, judge) is left as it is and told why by an Event. A Service is handed
/// back when it opts out, is released by `ballastctl release`, has no ready endpoint, loses its weights or
/// nobody renews them, when we stop, and when its membership could not be kept up for three seconds, or was
/// not heard of for ten.
///
/// While the API server is away, what is in force stays in force. Thread-safe.
class IstioSink final : public WeightSink {
 public:
  /// Starts its thread. Errors: kUsage for credentials that cannot be read. An API server that does
  /// not answer is no error: it is tried for as long as it takes.
  /// `services` are what word() goes by, and must outlive its calls; null: they are watched here.
  static Result<std::unique_ptr<IstioSink>> create(IstioOptions options,
                                                   const kube::Catalog* services = nullptr);
  ~IstioSink() override;  ///< leaves everything in force; flush() hands back

  std::string name() const override { return "istio"; }
  /// Always ok: writes happen in the sink's own thread, in bursts, and are tried again until they
  /// are done or replaced by newer ones.
  Status publish(const guard::GuardedWeights& weights) override;
  Status withdraw(const spec::ServiceId& service) override;
  /// A Service's weights lapse `stale_after` after the last call, or after they were published.
  void renew(const spec::ServiceId& service) override;
  /// Hands every Service back and gives the Lease up; twelve seconds at most, which is some 500 Services.
  void flush() override;
  bool in_charge() const override { return leading(); }
  /// By the Service's label, and by what was released by hand.
  guard::Word word(const spec::ServiceId& service) const override;
  /// Acknowledged: istiod was seen to give these weights to proxies. Whether they took them it does not tell.
  guard::Answer answer(const spec::ServiceId& service) const override;
  std::string leader() const override;
  /// How long weights waited for their write of late, and from then on until istiod was heard to tell of them
  /// (its quiet time, until something was heard). istiod does not tell when proxies acknowledged.
  double acknowledgement_delay_s() const override;
  std::string loop_profile() const override;
  /// What the API server refuses us or why it does not answer, with the call that failed; else what istiod
  /// does not tell proxies, or that it does not answer.
  std::string trouble() const override;

  /// For logs and tests.
  bool leading() const;
  std::uint64_t writes() const;
  std::uint64_t bursts() const;

 private:
  struct State;
  explicit IstioSink(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::actuate
