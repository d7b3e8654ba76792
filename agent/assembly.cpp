// SPDX-License-Identifier: Apache-2.0
#include "assembly.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <random>
#include <utility>

#include "agent/actuate/istio/istio_sink.h"
#include "agent/actuate/make_sink.h"
#include "agent/fleet/remote.h"
#include "agent/identity/cgroup_path_source.h"
#include "agent/identity/kubernetes_source.h"
#include "agent/identity/static_file.h"
#include "agent/identity/static_source.h"
#include "agent/kube/events.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "model/sync/client/fleet_client.h"

namespace ballast::assembly {
std::string node_of(const config::Config& c) {
  const char* named = std::getenv("NODE_NAME");
  return !c.node.empty() ? c.node : named != nullptr ? named : "";
}

namespace {

namespace fs = std::filesystem;

/// What follows `scheme:` in what an operator wrote, "static:FILE".
std::string behind(const std::string& text, const std::string& scheme) {
  return text.substr(scheme.size() + 1);
}

decide::LearnedOptions learned_options(const config::Config& c) {
  decide::LearnedOptions options = c.learned;
  // Exploring costs requests: only where somebody learns from it.
  options.epsilon = c.learner.empty() ? 0 : options.epsilon;
  options.seed = std::random_device{}();
  return options;
}

std::string environment(const char* variable) {
  const char* value = std::getenv(variable);
  return value != nullptr ? value : "";
}

Result<kube::ClientOptions> api_options(const config::Config& c) {
  return c.istio.api.server.empty() ? kube::in_cluster() : c.istio.api;
}

std::string fleet_node(const config::Config& c) {
  if (!c.fleet_client.node_id.empty()) {
    return c.fleet_client.node_id;
  }
  const std::string node = node_of(c);
  char host[256] = {};
  return !node.empty() ? node : ::gethostname(host, sizeof host - 1) == 0 ? host : "";
}

}  // namespace

loop::LoopOptions loop_options(const config::Config& c) {
  loop::LoopOptions options;
  options.tick = c.tick_in_force();
  options.mode = c.guard.mode;
  options.observer = c.observer;
  options.guard = c.guard;
  if (c.loop != "custom") {
    const double two_ticks = std::chrono::duration<double>(2 * options.tick).count();
    options.guard.stale_after_s = std::max(options.guard.stale_after_s, two_ticks);
    options.guard.neutral_after_s = std::max(options.guard.neutral_after_s, two_ticks);
  }
  options.reward = c.reward;
  options.rollout_steps = static_cast<std::size_t>(c.rollout_steps);
  return options;
}

Result<std::unique_ptr<actuate::WeightSink>> make_sink(const config::Config& c,
                                                       const identity::IdentitySource& identity) {
  if (c.sink != "istio") {
    return actuate::make_sink(c.sink, {.tick = c.tick_in_force()});
  }
  auto api = api_options(c);
  if (!api) {
    return api.error();
  }
  actuate::IstioOptions options = c.istio;
  options.api = std::move(*api);
  constexpr int kLateTicks = 6;
  options.stale_after = std::max(options.stale_after, kLateTicks * c.tick_in_force());
  // Told apart from our predecessor on this node, which may have died with the Lease in hand.
  options.lease.holder = fmt::format("{}_{:08x}", node_of(c), std::random_device{}());
  options.active = c.guard.mode == guard::Mode::kActive && c.role != "node";
  options.shadow = c.guard.mode == guard::Mode::kShadow && c.role != "node";
  options.istio_fast = options.istio_fast && c.role != "node";
  // One watch of them is enough.
  const auto* kubernetes = dynamic_cast<const identity::KubernetesSource*>(&identity);
  auto sink = actuate::IstioSink::create(std::move(options),
                                         kubernetes != nullptr ? &kubernetes->services() : nullptr);
  return sink ? Result<std::unique_ptr<actuate::WeightSink>>(std::move(*sink))
              : Result<std::unique_ptr<actuate::WeightSink>>(sink.error());
}

std::unique_ptr<fleet::Fleet> make_fleet(const config::Config& c) {
  if (c.fleet_client.address.empty()) {
    return nullptr;
  }
  sync::FleetClientOptions client = c.fleet_client;
  // No node is called so (cluster::TokenProof).
  client.node_id = (c.role == "writer" ? "writer:" : "") + fleet_node(c);
  fleet::RemoteOptions options = c.fleet;
  options.adopt_members = c.identity == "kubernetes";
  if (c.role == "writer") {
    options.answer_wait = c.tick_in_force() / 2;
  }
  return std::make_unique<fleet::RemoteFleet>(options, sync::FleetClient::start(client));
}

Result<loop::ActingPolicy> make_policy(const config::Config& c) {
  std::optional<std::string> parameters;
  if (!c.parameters.empty()) {
    auto bytes = read_file(c.parameters);
    if (!bytes) {
      return Error::usage("policy.parameters: " + bytes.error().message);
    }
    parameters = std::move(*bytes);
  }
  const auto kind = c.acting() == "neutral"         ? loop::PolicyKind::kNeutral
                    : c.acting() == "prior"         ? loop::PolicyKind::kPrior
                    : c.acting() == "queue_rule"    ? loop::PolicyKind::kQueueRule
                    : c.acting() == "forecast_rule" ? loop::PolicyKind::kForecastRule
                                                    : loop::PolicyKind::kLearned;
  const std::string source = "policy.parameters: " + c.parameters.string();
  auto policy = loop::ActingPolicy::create(kind, learned_options(c), parameters);
  if (!policy) {
    return policy.error().in(source);
  }
  policy->found_at(source);
  return policy;
}

Result<std::unique_ptr<identity::IdentitySource>> make_identity(const config::Config& c,
                                                                const fs::path& cgroup_root,
                                                                const Clock& clock) {
  if (c.identity == "none") {
    return std::unique_ptr<identity::IdentitySource>(std::make_unique<identity::CgroupPathSource>(
        identity::CgroupPathOptions{.cgroup_root = cgroup_root}, clock));
  }
  if (c.identity == "kubernetes") {
    auto api = api_options(c);
    if (!api) {
      return api.error();
    }
    const bool measures = c.role != "writer";
    if (measures && node_of(c).empty()) {
      return Error::usage(
          "kubernetes.node: empty; set it, or NODE_NAME from spec.nodeName by the downward API");
    }
    auto kubernetes = identity::KubernetesSource::create(
        {.api = std::move(*api),
         .node = measures ? node_of(c) : "",
         .cgroup_root = cgroup_root,
         // Decides for its own pods, and how many there are elsewhere the fleet tells.
         .own_alone = c.role == "node"},
        clock);
    return kubernetes ? Result<std::unique_ptr<identity::IdentitySource>>(std::move(*kubernetes))
                      : Result<std::unique_ptr<identity::IdentitySource>>(kubernetes.error());
  }
  auto source = identity::StaticSource::open(behind(c.identity, "static"), cgroup_root);
  if (!source) {
    return source.error();
  }
  return std::unique_ptr<identity::IdentitySource>(std::move(*source));
}

Result<std::unique_ptr<loop::SpanExport>> make_span_export(const config::Config& c) {
  const bool counted = c.spans_every > 0 && (!c.metrics.empty() || !c.metrics_otlp.empty());
  if (c.spans.endpoint.empty() && !counted) {
    return std::unique_ptr<loop::SpanExport>();
  }
  auto users = sample::UserKey::open(c.users);
  if (!users) {
    return users.error();
  }
  auto opened = sample::PinnedMaps::open(c.bpffs);
  if (!opened) {
    return opened.error();
  }
  std::unique_ptr<telemetry::OtlpExporter> exporter;
  if (!c.spans.endpoint.empty()) {
    auto started = telemetry::OtlpExporter::start(c.spans);
    if (!started) {
      return started.error().in("spans.otlp");
    }
    exporter = std::move(*started);
  }
  const auto maps = std::make_shared<const sample::PinnedMaps>(std::move(*opened));
  return std::make_unique<loop::SpanExport>(
      sample::SpanReader([maps] { return maps->spans(); }, std::move(*users)),
      telemetry::RouteStats(sample::route_patterns(c.routes)), std::move(exporter));
}

std::unique_ptr<kube::Installation> follow_installation(const config::Config& c) {
  const std::string ns = environment("POD_NAMESPACE");
  if (c.identity != "kubernetes" || c.role == "writer" || ns.empty()) {
    return nullptr;
  }
  auto api = api_options(c);
  auto installation = api ? kube::Installation::follow({.api = std::move(*api), .ns = ns})
                          : Result<std::unique_ptr<kube::Installation>>(api.error());
  if (!installation) {
    spdlog::warn("the programs stay when it is uninstalled reason=\"{}\"", installation.error().message);
    return nullptr;
  }
  return std::move(*installation);
}

void tell_pod(const config::Config& c, const Error& why) {
  const kube::ObjectRef pod{.kind = "Pod",
                            .ns = environment("POD_NAMESPACE"),
                            .name = environment("POD_NAME"),
                            .uid = environment("POD_UID")};
  if (pod.ns.empty() || pod.name.empty()) {
    return;
  }
  auto api = api_options(c);
  if (!api) {
    return;  // said by what needs it
  }
  api->retry_budget = std::chrono::milliseconds(1000);
  api->request_timeout = std::chrono::milliseconds(2000);
  const auto client = kube::Client::create(*api);
  const Status told =
      client ? kube::post_event(**client, pod, true, "NotStarted", why.message) : Status(client.error());
  if (!told) {
    spdlog::warn("event not written pod={}/{} reason=\"{}\"", pod.ns, pod.name, told.error().message);
  }
}

Status check_files(const config::Config& c) {
  const auto policy = make_policy(c);
  if (!policy) {
    return policy.error();
  }
  if (!policy->trouble().empty()) {
    fmt::print(stderr, "ballastd: {}\n", policy->trouble());
  }
  if (auto tls = sync::check_tls_files(c.fleet_client.tls, !c.fleet_client.token_file.empty()); !tls) {
    return tls.error().in("fleet");
  }
  if (c.identity == "none") {
    return ok();
  }
  if (c.identity == "kubernetes") {
    const auto api = api_options(c);
    return api ? ok() : Status(api.error().in("identity"));
  }
  const std::string file = behind(c.identity, "static");
  const auto text = read_file(file);
  if (!text) {
    return Error::usage("identity: " + text.error().message);
  }
  const auto pods = identity::parse_static_pods(*text, file);
  return pods ? ok() : Status(pods.error().in("identity"));
}

}  // namespace ballast::assembly
