// SPDX-License-Identifier: Apache-2.0
//
// Composition root of ballastd: flags, then objects, then the loop. The order of the objects is
// the order in which an operator's mistakes are told: what the configuration says wrong comes
// before the kernel is touched.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "agent/actuate/istio/istio_sink.h"
#include "agent/actuate/make_sink.h"
#include "agent/base/cgroup_root.h"
#include "agent/base/file.h"
#include "agent/base/log.h"
#include "agent/config/config.h"
#include "agent/fleet/remote.h"
#include "agent/identity/cgroup_path_source.h"
#include "agent/identity/kubernetes_source.h"
#include "agent/identity/static_file.h"
#include "agent/identity/static_source.h"
#include "agent/kernel/probes.h"
#include "agent/loop/loop.h"
#include "agent/loop/meter.h"
#include "agent/loop/span_export.h"
#include "agent/loop/ticker.h"
#include "agent/sample/host_features.h"
#include "model/sync/fleet_client.h"

namespace {

using namespace ballast;
namespace fs = std::filesystem;

struct Flags {
  std::optional<fs::path> config;
  std::vector<config::Override> overrides;
  bool check = false;
  bool unload = false;
};

decide::LearnedOptions learned_options(const config::Config& c) {
  decide::LearnedOptions options;
  options.prior.gate = {c.gate.leave_ratio,
                        c.gate.return_ratio,
                        c.gate.leave_spread,
                        c.gate.return_spread,
                        c.gate.leave_ticks,
                        c.gate.return_ticks,
                        c.gate.single_subscriber_leaves,
                        c.gate.level_spread};
  options.prior.filter = {c.prior.time_constant_s, c.prior.confirm_step, c.prior.immediate_step};
  options.prior.square_root = c.prior.square_root;
  options.margin = c.learner.margin;
  // Exploring costs requests: only where somebody learns from it.
  options.epsilon = c.learner.socket.empty() ? 0 : c.learner.exploration;
  options.temperature = c.learner.temperature;
  options.seed = std::random_device{}();
  return options;
}

guard::Mode mode_of(config::Mode mode) {
  switch (mode) {
    case config::Mode::kShadow:
      return guard::Mode::kShadow;
    case config::Mode::kActive:
      return guard::Mode::kActive;
    case config::Mode::kOff:
      break;
  }
  return guard::Mode::kOff;
}

loop::LoopOptions loop_options(const config::Config& c) {
  loop::LoopOptions options;
  options.tick = std::chrono::milliseconds(c.tick_ms);
  options.mode = mode_of(c.mode);
  options.observer.window_s = c.window_s;
  options.guard = {
      options.mode,          c.guard.floor,           c.guard.cap,   c.guard.max_step,   c.guard.deadband,
      c.guard.stale_after_s, c.guard.neutral_after_s, c.guard.blend, c.guard.trip_ratio, c.guard.trip_windows,
      c.guard.window_s};
  options.reward = {static_cast<float>(c.reward.p50), static_cast<float>(c.reward.p99),
                    static_cast<float>(c.reward.errors), static_cast<float>(c.reward.imbalance),
                    static_cast<float>(c.reward.churn)};
  options.rollout_steps = static_cast<std::size_t>(c.learner.rollout_steps);
  return options;
}

std::string sink_text(const config::Sink& sink) {
  switch (sink.kind) {
    case config::SinkKind::kFile:
      return "file:" + sink.target;
    case config::SinkKind::kXds:
      return "xds:" + sink.target;
    case config::SinkKind::kIstio:
      return "istio";
    case config::SinkKind::kDryRun:
      break;
  }
  return "dry-run";
}

Result<kube::ClientOptions> api_options(const config::Config& c) {
  if (c.kubernetes.server.empty()) {
    return kube::in_cluster();
  }
  kube::ClientOptions options;
  options.server = c.kubernetes.server;
  options.ca_file = c.kubernetes.ca_file;
  options.token_file = c.kubernetes.token_file;
  return options;
}

std::string node_of(const config::Config& c) {
  const char* named = std::getenv("NODE_NAME");
  return !c.kubernetes.node.empty() ? c.kubernetes.node : named != nullptr ? named : "";
}

Result<std::unique_ptr<actuate::WeightSink>> make_sink(const config::Config& c) {
  if (c.sink.kind != config::SinkKind::kIstio) {
    return actuate::make_sink(sink_text(c.sink), {});
  }
  auto api = api_options(c);
  if (!api) {
    return api.error();
  }
  actuate::IstioOptions options;
  options.api = std::move(*api);
  // Told apart from our predecessor on this node, which may have died with the Lease in hand.
  options.lease = {c.kubernetes.ns, c.kubernetes.lease,
                   fmt::format("{}_{:08x}", node_of(c), std::random_device{}()),
                   c.kubernetes.lease_duration_s};
  options.active = c.mode == config::Mode::kActive;
  options.cluster_domain = c.kubernetes.cluster_domain;
  auto sink = actuate::IstioSink::create(std::move(options));
  return sink ? Result<std::unique_ptr<actuate::WeightSink>>(std::move(*sink))
              : Result<std::unique_ptr<actuate::WeightSink>>(sink.error());
}

std::string fleet_node(const config::Config& c) {
  if (!c.fleet.node.empty()) {
    return c.fleet.node;
  }
  const std::string node = node_of(c);
  char host[256] = {};
  return !node.empty() ? node : ::gethostname(host, sizeof host - 1) == 0 ? host : "";
}

sync::TlsFiles fleet_tls(const config::Config& c) {
  return {c.fleet.tls_cert, c.fleet.tls_key, c.fleet.tls_ca};
}

/// Null: this node is all there is.
std::unique_ptr<fleet::Fleet> make_fleet(const config::Config& c) {
  if (c.fleet.remote.empty()) {
    return nullptr;
  }
  sync::FleetClientOptions options;
  options.address = c.fleet.remote;
  options.node_id = fleet_node(c);
  options.tls = fleet_tls(c);
  options.server_name = c.fleet.server_name;
  const auto ms =
      std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::duration<double>(c.fleet.max_age_s));
  return std::make_unique<fleet::RemoteFleet>(
      fleet::RemoteOptions{.interval = std::chrono::milliseconds(c.fleet.interval_ms),
                           .longest_age = ms,
                           .adopt_members = c.identity.kind == config::IdentityKind::kKubernetes},
      sync::FleetClient::start(options));
}

Result<loop::ActingPolicy> make_policy(const config::Config& c) {
  std::optional<std::string> parameters;
  if (!c.policy.parameters.empty()) {
    auto bytes = read_file(c.policy.parameters);
    if (!bytes) {
      return Error::usage("policy.parameters: " + bytes.error().message);
    }
    parameters = std::move(*bytes);
  }
  const auto kind = c.policy.kind == config::PolicyKind::kNeutral   ? loop::PolicyKind::kNeutral
                    : c.policy.kind == config::PolicyKind::kLearned ? loop::PolicyKind::kLearned
                                                                    : loop::PolicyKind::kPrior;
  auto policy = loop::ActingPolicy::create(kind, learned_options(c), parameters);
  return policy ? std::move(policy)
                : Result<loop::ActingPolicy>(
                      policy.error().in("policy.parameters: " + c.policy.parameters.string()));
}

Result<std::unique_ptr<identity::IdentitySource>> make_identity(const config::Config& c,
                                                                const fs::path& cgroup_root,
                                                                const Clock& clock) {
  if (c.identity.kind == config::IdentityKind::kNone) {
    return std::unique_ptr<identity::IdentitySource>(std::make_unique<identity::CgroupPathSource>(
        identity::CgroupPathOptions{.cgroup_root = cgroup_root}, clock));
  }
  if (c.identity.kind == config::IdentityKind::kKubernetes) {
    auto api = api_options(c);
    if (!api) {
      return api.error();
    }
    auto kubernetes = identity::KubernetesSource::create(
        {.api = std::move(*api), .node = node_of(c), .cgroup_root = cgroup_root}, clock);
    return kubernetes ? Result<std::unique_ptr<identity::IdentitySource>>(std::move(*kubernetes))
                      : Result<std::unique_ptr<identity::IdentitySource>>(kubernetes.error());
  }
  auto source = identity::StaticSource::open(c.identity.file, cgroup_root);
  if (!source) {
    return source.error();
  }
  return std::unique_ptr<identity::IdentitySource>(std::move(*source));
}

Status name_build(const sample::PinnedMaps& maps) {
  auto meta = maps.meta();
  if (!meta) {
    return meta.error();
  }
  std::string(BALLAST_VERSION).copy(meta->build, sizeof meta->build - 1);
  return maps.put_meta(*meta);
}

/// What `ballastctl status` tells of this host; a host without the files that say so tells less.
Status name_features(const sample::PinnedMaps& maps, const kernel::Probes& probes) {
  auto features = probes.features();
  if (auto roots = sample::CgroupRoots::discover(); roots) {
    roots->v2 = probes.cgroup_root();
    const auto host = sample::host_features(*roots, sample::read_sockets());
    features.insert(features.end(), host.begin(), host.end());
  }
  for (const Feature& feature : features) {
    if (!feature.available) {
      spdlog::warn("fallback feature=\"{}\" instead=\"{}\"", feature.name, feature.fallback);
    }
  }
  return maps.put_features(features);
}

/// Bad files that the configuration names, told as if they were part of it.
Status check_files(const config::Config& c) {
  if (const auto policy = make_policy(c); !policy) {
    return policy.error();
  }
  if (auto tls = sync::check_tls_files(fleet_tls(c)); !tls) {
    return tls.error().in("fleet");
  }
  if (c.identity.kind == config::IdentityKind::kNone) {
    return ok();
  }
  if (c.identity.kind == config::IdentityKind::kKubernetes) {
    const auto api = api_options(c);
    return api ? ok() : Status(api.error().in("identity"));
  }
  const auto text = read_file(c.identity.file);
  if (!text) {
    return Error::usage("identity: " + text.error().message);
  }
  const auto pods = identity::parse_static_pods(*text, c.identity.file.string());
  return pods ? ok() : Status(pods.error().in("identity"));
}

/// What can be had only once the probes are there, and what others may hold already.
Status open_doors(const config::Config& c, const kernel::Probes& probes, loop::LoopDoors& doors) {
  auto maps = sample::PinnedMaps::open(c.bpffs);
  if (!maps) {
    return maps.error();
  }
  if (Status named = name_build(*maps); !named) {
    return named;
  }
  if (Status named = name_features(*maps, probes); !named) {
    return named;
  }
  auto state = telemetry::StateWriter::create(std::move(*maps));
  if (!state) {
    return state.error();
  }
  doors.state.emplace(std::move(*state));
  auto sink = make_sink(c);
  if (!sink) {
    return sink.error().in("sink");
  }
  doors.sink = std::move(*sink);
  if (!c.metrics.empty()) {
    auto metrics = telemetry::PrometheusExporter::listen({.address = c.metrics});
    if (!metrics) {
      return metrics.error().in("metrics");
    }
    doors.metrics = std::move(*metrics);
  }
  if (!c.learner.socket.empty()) {
    auto learner = sync::RolloutServer::start(c.learner.socket);
    if (!learner) {
      return learner.error().in("learner.socket");
    }
    doors.learner = std::move(*learner);
  }
  return ok();
}

/// nullptr: spans are not exported.
Result<std::unique_ptr<loop::SpanExport>> make_span_export(const config::Config& c) {
  if (c.spans.every == 0 || c.spans.otlp.empty()) {
    return std::unique_ptr<loop::SpanExport>();
  }
  auto opened = sample::PinnedMaps::open(c.bpffs);
  if (!opened) {
    return opened.error();
  }
  auto exporter = telemetry::OtlpExporter::start({.endpoint = c.spans.otlp});
  if (!exporter) {
    return exporter.error().in("spans.otlp");
  }
  const auto maps = std::make_shared<const sample::PinnedMaps>(std::move(*opened));
  return std::make_unique<loop::SpanExport>(sample::SpanReader([maps] { return maps->spans(); }),
                                            std::move(*exporter));
}

Status turn(const config::Config& c, loop::Loop& turning, loop::Meter& meter, loop::Ticker& ticker,
            loop::SpanExport* spans) {
  if (Status started = ticker.start(); !started) {
    return started;
  }
  std::string complaint;
  while (true) {
    const auto event = ticker.wait();
    if (!event) {
      return event.error();
    }
    if (*event == loop::Ticker::Event::kStop) {
      turning.release();
      spdlog::info("stopped missed_ticks={} measuring=goes_on", ticker.missed());
      return ok();
    }
    if (*event == loop::Ticker::Event::kReload) {
      const bool given = !c.policy.parameters.empty();
      turning.reload(c.policy.parameters.string(),
                     given ? read_file(c.policy.parameters)
                           : Result<std::string>(Error::usage("no policy.parameters are configured")));
      continue;
    }
    const auto sample = meter.sample(turning.pods());
    const std::string wrong = sample ? "" : sample.error().message;
    if (wrong != complaint) {
      spdlog::error("sampling state=\"{}\"", wrong.empty() ? "works again" : wrong);
      complaint = wrong;
    }
    if (sample) {
      turning.tick(*sample);
    }
    if (spans != nullptr) {
      spans->tick(turning.pods(), SystemClock().now());
      turning.observe_spans(spans->counts(), spans->lost());
    }
  }
}

Status run(const config::Config& c) {
  if (Status status = init_log("ballastd", c.log); !status) {
    return status;
  }
  // Before any thread, so that all of them leave the signals to the ticker.
  ::signal(SIGPIPE, SIG_IGN);
  auto ticker = loop::Ticker::create(std::chrono::milliseconds(c.tick_ms));
  if (!ticker) {
    return ticker.error();
  }
  const SystemClock clock;
  auto policy = make_policy(c);
  if (!policy) {
    return policy.error();
  }
  auto cgroup_root = c.cgroup_root.empty() ? find_cgroup_root() : Result<fs::path>(c.cgroup_root);
  if (!cgroup_root) {
    return cgroup_root.error();
  }
  loop::LoopDoors doors;
  auto identity = make_identity(c, *cgroup_root, clock);
  if (!identity) {
    return identity.error().in("identity");
  }
  doors.identity = std::move(*identity);

  std::optional<kernel::Probes> probes;
  if (auto loaded = kernel::Probes::load({.bpffs = c.bpffs,
                                          .cgroup_root = *cgroup_root,
                                          .span_every = static_cast<std::uint32_t>(c.spans.every)});
      loaded) {
    probes.emplace(std::move(*loaded));
  } else {
    return loaded.error();
  }
  const bool adopted = probes->adopted();
  Status opened = open_doors(c, *probes, doors);
  auto meter =
      opened ? loop::Meter::create(c.bpffs, *cgroup_root, clock) : Result<loop::Meter>(opened.error());
  const auto spans = meter ? make_span_export(c) : Result<std::unique_ptr<loop::SpanExport>>(meter.error());
  if (!spans) {
    // A start that failed leaves the kernel as it was.
    doors.state.reset();
    probes.reset();
    if (!adopted) {
      if (const Status gone = kernel::Probes::unload(c.bpffs); !gone) {
        spdlog::warn("not unloaded reason=\"{}\"", gone.error().message);
      }
    }
    return spans.error();
  }
  doors.fleet = make_fleet(c);
  loop::Loop turning(loop_options(c), std::move(*policy), std::move(doors));
  spdlog::info("started bpffs={} mode={} policy={} sink={} tick_ms={}", c.bpffs.string(),
               config::mode_name(c.mode), config::policy_name(c.policy.kind), sink_text(c.sink), c.tick_ms);
  return turn(c, turning, *meter, *ticker, spans->get());
}

/// An exit code where there is nothing more to do.
std::optional<int> parse_flags(int argc, char** argv, Flags& flags) {
  CLI::App app("Measures every pod from inside the kernel and weighs the endpoints of its services.",
               "ballastd");
  app.footer(
      "With no flag and no file it measures every cgroup and writes nothing.\n"
      "SIGTERM and SIGINT publish equal weights and end it; the programs stay in the kernel and go on\n"
      "measuring until a restart or --unload. SIGHUP reads policy.parameters again.\n"
      "Exit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 missing privilege or kernel feature.");
  app.add_option_function<std::string>(
      "--config", [&](const std::string& v) { flags.config = v; }, "YAML file; flags override it");
  const auto override = [&](const std::string& flag, const std::string& key, const std::string& help) {
    app.add_option_function<std::string>(
        flag,
        [&flags, flag, key](const std::string& v) {
          flags.overrides.push_back({flag, key, v});
        },
        help);
  };
  override("--bpffs", "bpffs", "folder of the pins (/sys/fs/bpf/ballast)");
  override("--identity", "identity", "none, static:FILE or kubernetes");
  override("--sink", "sink", "dry-run, file:PATH, xds:ADDR or istio");
  override("--mode", "mode", "off, shadow or active");
  override("--tick-ms", "tick_ms", "100 to 60000");
  override("--policy", "policy.name", "neutral, prior or learned");
  override("--parameters", "policy.parameters", "parameters file of the learned policy");
  override("--metrics", "metrics", "IP:PORT of the Prometheus endpoint");
  override("--log", "log", "trace, debug, info, warn, error or off");
  app.add_flag("--check-config", flags.check, "print the effective configuration and exit");
  app.add_flag("--unload", flags.unload, "take the programs and maps of --bpffs out of the kernel and exit");
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  return std::nullopt;
}

int finish(const Status& status) {
  if (status) {
    return 0;
  }
  fmt::print(stderr, "ballastd: {}\n", status.error().message);
  return status.error().exit_code();
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC's threads would otherwise get an arena each; the loop allocates from one thread.
  ::mallopt(M_ARENA_MAX, 2);
  Flags flags;
  if (const auto code = parse_flags(argc, argv, flags)) {
    return *code;
  }
  const auto config = config::load(flags.config, flags.overrides);
  if (!config) {
    return finish(config.error());
  }
  if (flags.check) {
    if (const Status files = check_files(*config); !files) {
      return finish(files);
    }
    fmt::print("{}", config::to_yaml(*config));
    return 0;
  }
  return finish(flags.unload ? kernel::Probes::unload(config->bpffs) : run(*config));
}
