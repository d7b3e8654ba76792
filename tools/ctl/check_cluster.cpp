// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <map>
#include <optional>
#include <set>

#include "agent/actuate/istio/plan.h"
#include "agent/actuate/istio/writer.h"
#include "agent/kube/client.h"
#include "core/base/human.h"
#include "tools/ctl/check.h"

namespace ballast::ctl {
namespace {

namespace istio = actuate::istio;
using kube::text_at;

constexpr const char* kInstall = "install Ballast: docs/kubernetes.md";

struct Right {
  const char* group;
  const char* resource;
  std::vector<const char*> verbs;
  bool own_namespace = false;
  const char* name = "";
};
enum class Whose { kInstaller, kNode, kWriter };
const std::vector<Right>& rights(Whose whose) {
  static const std::vector<Right> kToInstall = {
      {"", "namespaces", {"create"}},
      {"rbac.authorization.k8s.io", "clusterroles", {"create"}},
      {"rbac.authorization.k8s.io", "clusterrolebindings", {"create"}},
      {"admissionregistration.k8s.io", "validatingadmissionpolicies", {"create"}},
      {"apps", "daemonsets", {"create"}, true},
      {"apps", "deployments", {"create"}, true}};
  // As deploy/daemonset/base/rbac.yaml has them.
  static const std::vector<Right> kToMeasure = {
      {"", "services", {"list", "watch"}},
      {"", "pods", {"list", "watch"}},
      {"networking.istio.io", "serviceentries", {"list", "delete"}},
      {"networking.istio.io", "virtualservices", {"list", "delete"}},
      {"coordination.k8s.io", "leases", {"get"}, true, "ballast-leader"}};
  static const std::vector<Right> kToWrite = {
      {"", "services", {"list", "watch"}},
      {"discovery.k8s.io", "endpointslices", {"list", "watch"}},
      {"", "pods", {"get", "list"}},
      {"networking.istio.io", "serviceentries", {"get", "list", "watch", "create", "update", "delete"}},
      {"networking.istio.io", "virtualservices", {"get", "list", "watch", "create", "update", "delete"}},
      {"networking.istio.io", "destinationrules", {"list", "watch"}},
      {"coordination.k8s.io", "leases", {"create"}, true},
      {"coordination.k8s.io", "leases", {"get", "update"}, true, "ballast-leader"}};
  return whose == Whose::kInstaller ? kToInstall : whose == Whose::kNode ? kToMeasure : kToWrite;
}

/// One look at a cluster: what each check has to know, and where its findings go.
class ClusterCheck {
 public:
  ClusterCheck(kube::Client& client, const CheckOptions& options, Findings& findings)
      : client_(client),
        options_(options),
        findings_(findings),
        ns_(options.api.lease.substr(0, options.api.lease.find('/'))),
        lease_(
            options.api.lease.substr(std::min(options.api.lease.find('/') + 1, options.api.lease.size()))) {}

  void all() {
    if (!reach()) {
      return;
    }
    check_rights();
    check_istio();
    if (!options_.pre) {
      check_nodes();
      check_deployment();
      check_leader();
    }
    check_services();
  }

 private:
  void say(std::string check, Level level, std::string what, std::string fix = "", bool privilege = false) {
    findings_.push_back({std::move(check), level, std::move(what), std::move(fix), privilege});
  }

  /// What a GET gives; a refusal is said as skipped and is no failure of what was to be looked at.
  kube::Json items(const std::string& check, const std::string& path) {
    const auto read = client_.get(path);
    if (!read) {
      say(check, Level::kSkipped, read.error().message,
          "run it with an account that may read this (an administrator's --token-file)");
      return nullptr;
    }
    const kube::Json& found = kube::at(*read, {"items"});
    return found.is_array() ? found : kube::Json::array();
  }

  bool reach() {
    const auto reply = client_.call({.path = "/version"});
    if (!reply) {
      const std::string& why = reply.error().message;
      const bool certificate = why.find("certificate") != std::string::npos;
      say("api_server", Level::kFail, why,
          certificate ? "--ca-file has to be who signed its certificate, and this machine's clock right"
                      : "is the address right, and does a firewall or NetworkPolicy let it through?");
      return false;
    }
    if (reply->date > 0) {
      const double ahead = std::difftime(std::time(nullptr), reply->date);
      if (std::abs(ahead) > 5) {
        say("clock", Level::kFail,
            fmt::format("this clock is {:.0f} s {} the API server's", std::abs(ahead),
                        ahead > 0 ? "ahead of" : "behind"),
            "run chrony or systemd-timesyncd on both");
      }
    }
    if (!reply->ok()) {
      say("api_server", Level::kFail, kube::api_error({.path = "/version"}, *reply).message,
          reply->status == 401 ? "the token is not one of this cluster, or has expired: make a new one"
                               : "the account may not even read /version: is it the right cluster?",
          reply->status == 401 || reply->status == 403);
      return false;
    }
    say("api_server", Level::kOk, "Kubernetes " + text_at(reply->json(), {"gitVersion"}));
    return true;
  }

  /// What of them this account may not; nullopt, and said, where that cannot be asked.
  std::optional<std::string> missing(Whose whose) {
    std::string all;
    for (const Right& right : rights(whose)) {
      for (const char* verb : right.verbs) {
        kube::Json attributes = {{"group", right.group}, {"resource", right.resource}, {"verb", verb}};
        if (right.own_namespace) {
          attributes["namespace"] = ns_;
        }
        if (*right.name != '\0') {
          attributes["name"] = right.name;
        }
        const kube::Json review = {{"apiVersion", "authorization.k8s.io/v1"},
                                   {"kind", "SelfSubjectAccessReview"},
                                   {"spec", {{"resourceAttributes", attributes}}}};
        const kube::Request request{.method = "POST",
                                    .path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
                                    .body = review.dump()};
        const auto reply = client_.call(request);
        if (!reply || !reply->ok()) {
          say("rights", Level::kSkipped,
              reply ? kube::api_error(request, *reply).message : reply.error().message,
              "the API server has to answer SelfSubjectAccessReviews");
          return std::nullopt;
        }
        if (const kube::Json answer = reply->json(); kube::at(answer, {"status", "allowed"}) != true) {
          all += fmt::format("{}{} {}", all.empty() ? "" : ", ", verb, right.resource);
        }
      }
    }
    return all;
  }

  void check_rights() {
    const auto first = missing(options_.pre ? Whose::kInstaller : Whose::kWriter);
    if (first && first->empty()) {
      say("rights", Level::kOk, options_.pre ? "it may install Ballast" : "all that the writer needs");
      return;
    }
    const auto node = first && !options_.pre ? missing(Whose::kNode) : first;
    if (node && node->empty()) {
      say("rights", Level::kOk, "all that a node's agent needs");
    } else if (node) {
      say("rights", Level::kFail, "this account may not " + *first,
          options_.pre ? "install it as cluster-admin" : "apply deploy/daemonset/base/rbac.yaml", true);
    }
  }

  void check_istio() {
    const auto group = client_.call({.path = "/apis/networking.istio.io"});
    has_istio_ = group && group->ok();
    if (!has_istio_) {
      say("istio", Level::kWarn, "no networking.istio.io API here: nothing can be weighed through Istio",
          "install Istio, or let an Envoy of your own take weights (docs/istio.md, sink xds)");
      return;
    }
    const kube::Json istiods = items("istio", "/apis/apps/v1/deployments?labelSelector=app%3Distiod");
    if (istiods.is_array()) {
      std::string versions;
      bool ready = false;
      for (const kube::Json& one : istiods) {
        const auto& containers = kube::at(one, {"spec", "template", "spec", "containers"});
        const std::string image =
            containers.is_array() && !containers.empty() ? text_at(containers[0], {"image"}) : "";
        versions += (versions.empty() ? "" : ", ") + image.substr(image.rfind(':') + 1);
        const kube::Json& replicas = kube::at(one, {"status", "readyReplicas"});
        ready = ready || (replicas.is_number() && replicas > 0);
      }
      if (istiods.empty()) {
        say("istio", Level::kWarn, "its API is there, istiod is not in this cluster",
            "nothing, where istiod runs elsewhere for this cluster");
      } else {
        say("istio", ready ? Level::kOk : Level::kFail,
            "Istio " + versions + (ready ? "" : ": no replica of istiod is ready"),
            "kubectl -n istio-system get pods -l app=istiod");
      }
    }
    const kube::Json ztunnels = items("ambient", "/apis/apps/v1/daemonsets?labelSelector=app%3Dztunnel");
    if (ztunnels.is_array()) {
      say("ambient", ztunnels.empty() ? Level::kOk : Level::kWarn,
          ztunnels.empty() ? "sidecars and gateways alone"
                           : "ztunnel runs: pods behind it are weighed where their Service names a waypoint",
          "sidecars for the pods of a Service that is to be weighed, or its label istio.io/use-waypoint");
    }
  }

  void check_nodes() {
    const kube::Json pods =
        items("nodes", "/api/v1/namespaces/" + ns_ + "/pods?labelSelector=app%3Dballastd");
    if (!pods.is_array()) {
      return;
    }
    if (pods.empty()) {
      say("nodes", Level::kFail, "no agent runs in namespace " + ns_, kInstall);
    }
    for (const kube::Json& pod : pods) {
      const std::string node = text_at(pod, {"spec", "nodeName"});
      const kube::Json& states = kube::at(pod, {"status", "containerStatuses"});
      const std::string logs =
          fmt::format("kubectl -n {} logs {} -c ", ns_, text_at(pod, {"metadata", "name"}));
      if (!states.is_array() || states.empty()) {
        say("nodes " + node, Level::kFail,
            "the agent's pod is " + text_at(pod, {"status", "phase"}) + " and has no container yet",
            fmt::format("kubectl -n {} describe pod {}", ns_, text_at(pod, {"metadata", "name"})));
        continue;
      }
      for (const kube::Json& state : states) {
        const std::string name = text_at(state, {"name"});
        const bool ready = kube::at(state, {"ready"}) == true;
        std::string why = text_at(state, {"state", "waiting", "reason"});
        if (why.empty()) {
          why = text_at(state, {"lastState", "terminated", "reason"});
        }
        say((name == "ballastd" ? "nodes " : "learner ") + node, ready ? Level::kOk : Level::kFail,
            name + (ready ? " is ready" : " is not ready: " + (why.empty() ? "it starts" : why)),
            logs + name);
      }
    }
  }

  void check_deployment() {
    const auto read =
        client_.call({.path = "/apis/apps/v1/namespaces/" + ns_ + "/deployments/ballast-global"});
    if (!read || !read->ok()) {
      say("global", Level::kSkipped, "no ballast-global: agents decide alone",
          "learner.enabled in the chart");
      return;
    }
    const kube::Json json = read->json();
    const kube::Json& ready = kube::at(json, {"status", "readyReplicas"});
    const bool any = ready.is_number() && ready > 0;
    say("global", any ? Level::kOk : Level::kFail,
        any ? ready.dump() + " replicas are ready" : "no replica of ballast-global is ready",
        fmt::format("kubectl -n {} logs deployment/ballast-global", ns_));
  }

  void check_leader() {
    const std::string path = "/apis/coordination.k8s.io/v1/namespaces/" + ns_ + "/leases/" + lease_;
    const auto reply = client_.call({.path = path});
    if (!reply || !reply->ok()) {
      say("leader", Level::kWarn, "no agent has ever led: there is no Lease " + options_.api.lease,
          "mode active or shadow in the configuration, and the rights of deploy/daemonset/base/rbac.yaml");
      return;
    }
    const kube::Json lease = reply->json();
    released_ = istio::released(kube::at(lease, {"metadata", "annotations"}));
    std::tm renewed{};
    const std::string at = text_at(lease, {"spec", "renewTime"});
    const kube::Json& lasts = kube::at(lease, {"spec", "leaseDurationSeconds"});
    const std::time_t now = reply->date > 0 ? reply->date : std::time(nullptr);
    const double age = ::strptime(at.c_str(), "%Y-%m-%dT%H:%M:%S", &renewed) == nullptr
                           ? 1e9
                           : std::difftime(now, ::timegm(&renewed));
    const std::string holder = text_at(lease, {"spec", "holderIdentity"});
    leads_ = !holder.empty() && age <= 2 + (lasts.is_number() ? lasts.get<double>() : 15);
    say("leader", leads_ ? Level::kOk : Level::kFail,
        leads_           ? holder + " leads"
        : holder.empty() ? "nobody holds the Lease: no weights are written"
                         : fmt::format("{} held the Lease and has not renewed it for {}", holder,
                                       human_duration_ns(age * 1e9)),
        "look at the agents above: one of them has to live, in mode active or shadow");
  }

  void check_services() {
    const kube::Json services =
        items("service",
              std::string("/api/v1/services") + (options_.pre ? "" : "?labelSelector=ballast.dev%2Fmode"));
    if (!services.is_array()) {
      return;
    }
    read_istio();
    std::map<std::string, int> others;  ///< without the label, by what would become of them
    for (const kube::Json& object : services) {
      kube::Service service = kube::parse_service(object);
      if (!service.mode.empty()) {
        check_service(service);
      } else if (service.ns != "kube-system") {
        service.mode = "active";
        const auto refusal = judge(service);
        ++others[refusal ? "would not: " + refusal->reason : "can be weighed"];
      }
    }
    std::string text;
    for (const auto& [what, count] : others) {
      text += fmt::format("{}{} {}", text.empty() ? "" : ", ", count, what);
    }
    if (!options_.pre && services.empty()) {
      say("service", Level::kWarn, "no Service carries the label ballast.dev/mode: nothing is weighed",
          "kubectl -n NAMESPACE label service NAME ballast.dev/mode=active");
    } else if (!text.empty()) {
      say("service", Level::kOk, "of those without the label ballast.dev/mode: " + text);
    }
  }

  void read_istio() {
    if (!has_istio_) {
      return;
    }
    istio::Writer writer(client_, ns_ + "." + lease_);
    for (const char* kind : {"ServiceEntry", "VirtualService"}) {
      if (const auto owned = writer.list(kind)) {
        for (const istio::Owned& one : *owned) {
          written_[one.key()] = std::string(kind) + " " + one.ns + "/" + one.name;
        }
      }
    }
    for (const auto& [kind, path] :
         {std::pair{"VirtualService", "virtualservices"}, {"DestinationRule", "destinationrules"}}) {
      if (const auto read = client_.get(std::string("/apis/networking.istio.io/v1/") + path)) {
        for (const kube::Json& object : kube::at(*read, {"items"})) {
          if (auto route = istio::parse_conflicting_route(kind, object)) {
            routes_.push_back(std::move(*route));
          }
        }
      }
    }
  }

  std::optional<istio::Refusal> judge(const kube::Service& service) const {
    return istio::judge(service, istio::way_of(service, true), routes_, "cluster.local");
  }

  void check_service(const kube::Service& service) {
    const std::string name = "service " + service.key();
    const std::string explain = "ballastctl explain " + service.key() + " on the leader's node";
    if (const auto refusal = judge(service)) {
      say(name, Level::kFail, "not weighed: " + refusal->reason, refusal->message);
    } else if (service.mode != "active") {
      say(name, Level::kOk, "can be weighed; mode " + service.mode + ": it is not");
    } else if (const std::string why = endpoints(service); !why.empty()) {
      say(name, Level::kFail, "not weighed: " + why, "look at the pods that its selector names");
    } else if (const auto found = written_.find(service.key()); found != written_.end()) {
      say(name, leads_ || options_.pre ? Level::kOk : Level::kWarn, "weighed through " + found->second,
          "nobody leads: the agents hand it back");
    } else if (released_.contains(service.key()) || released_.contains("*")) {
      say(name, Level::kWarn, "not weighed: it was released by hand",
          fmt::format("kubectl -n {} annotate lease {} {}-", ns_, lease_, istio::kReleasedAnnotation));
    } else if (options_.pre) {
      say(name, Level::kOk, "can be weighed");
    } else {
      say(name, Level::kWarn,
          std::string("not weighed: ") +
              (!has_istio_ ? "no Istio"
               : leads_    ? "the leader has not written it yet (in mode shadow it never does)"
                           : "nobody leads"),
          "kubectl describe service, its Events; " + explain);
    }
  }

  /// Why nothing could be weighed by its endpoints; empty where it could.
  std::string endpoints(const kube::Service& service) {
    const auto read =
        client_.get("/apis/discovery.k8s.io/v1/namespaces/" + service.ns +
                    "/endpointslices?labelSelector=kubernetes.io%2Fservice-name%3D" + service.name);
    if (!read) {
      return "";
    }
    int ready = 0;
    int pods = 0;
    for (const kube::Json& slice : kube::at(*read, {"items"})) {
      const kube::Json& list = kube::at(slice, {"endpoints"});
      for (const kube::Json& one : list.is_array() ? list : kube::Json::array()) {
        ready += kube::at(one, {"conditions", "ready"}) == false ? 0 : 1;
        pods += text_at(one, {"targetRef", "kind"}) == "Pod" ? 1 : 0;
      }
    }
    return ready == 0  ? "NoReadyEndpoint: no endpoint is ready"
           : pods == 0 ? "NoPods: its endpoints name no pods (targetRef)"
                       : "";
  }

  kube::Client& client_;
  const CheckOptions& options_;
  Findings& findings_;
  const std::string ns_;
  const std::string lease_;
  bool has_istio_ = false;
  bool leads_ = false;
  std::set<std::string> released_;
  std::map<std::string, std::string> written_;  ///< by NAMESPACE/NAME of the Service
  std::vector<istio::ConflictingRoute> routes_;
};

}  // namespace

void check_cluster(const CheckOptions& options, Findings& findings) {
  auto found = api(options.api);
  if (!found) {
    findings.push_back({"api_server", Level::kSkipped, "not in a cluster, and no --server is given",
                        "--server, --ca-file and --token-file, where there is one"});
    return;
  }
  // Asked once each: who waits for an answer wants it now.
  found->retry_budget = std::chrono::milliseconds(0);
  auto client = kube::Client::create(*found);
  if (!client) {
    findings.push_back({"api_server", Level::kFail, client.error().message, "name files that can be read"});
    return;
  }
  ClusterCheck(**client, options, findings).all();
}

}  // namespace ballast::ctl
