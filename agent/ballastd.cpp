// SPDX-License-Identifier: Apache-2.0
//
// Composition root of ballastd: flags, then objects, then the loop. The order of the objects is
// the order in which an operator's mistakes are told: what the configuration says wrong comes
// before the kernel is touched.
#include <fmt/format.h>
#include <malloc.h>
#include <signal.h>

#include <chrono>
#include <cstdio>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/config/config.h"
#include "agent/kernel/probes.h"
#include "agent/loop/loop.h"
#include "agent/loop/meter.h"
#include "agent/loop/span_export.h"
#include "agent/loop/ticker.h"
#include "agent/sample/host_features.h"
#include "assembly.h"
#include "core/base/cgroup_root.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "core/cli/program.h"
#include "core/cli/version.h"

namespace {

using namespace ballast;
namespace fs = std::filesystem;

struct Flags {
  std::optional<fs::path> config;
  std::vector<config::Override> overrides;
  bool check = false;
  bool unload = false;
  bool wait = false;
};

Status name_build(const sample::PinnedMaps& maps) {
  auto meta = maps.meta();
  if (!meta) {
    return meta.error();
  }
  std::string(version()).copy(meta->build, sizeof meta->build - 1);
  return maps.put_meta(*meta);
}

/// What `ballastctl status` tells of this host; a host without the files that say so tells less.
Status name_features(const sample::PinnedMaps& maps, const kernel::Probes& probes) {
  auto features = probes.features();
  if (auto roots = sample::CgroupRoots::discover(probes.cgroup_root()); roots) {
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

/// What can be had only once the probes are there, and what others may hold already. `probes`: null for who
/// measures nothing.
Status open_doors(const config::Config& c, const kernel::Probes* probes, loop::LoopDoors& doors) {
  auto maps =
      probes != nullptr ? sample::PinnedMaps::open(c.bpffs) : sample::PinnedMaps::create_files(c.bpffs);
  if (!maps) {
    return maps.error();
  }
  if (Status named = name_build(*maps); !named) {
    return named;
  }
  if (Status named = probes != nullptr ? name_features(*maps, *probes) : ok(); !named) {
    return named;
  }
  auto state = telemetry::StateWriter::create(std::move(*maps));
  if (!state) {
    return state.error();
  }
  doors.state.emplace(std::move(*state));
  auto sink = assembly::make_sink(c, *doors.identity);
  if (!sink) {
    return sink.error().in("sink");
  }
  doors.sink = std::move(*sink);
  if (!c.metrics.empty() || !c.metrics_otlp.empty()) {
    auto metrics = telemetry::PrometheusExporter::listen({.address = c.metrics,
                                                          .allow_remote = c.metrics_beyond_loopback,
                                                          .tls_certificate = c.metrics_tls_certificate,
                                                          .tls_key = c.metrics_tls_key,
                                                          .otlp = c.metrics_otlp,
                                                          .otlp_every = c.metrics_otlp_every,
                                                          .node = assembly::node_of(c)});
    if (!metrics) {
      return metrics.error().in("metrics");
    }
    doors.metrics = std::move(*metrics);
  }
  if (!c.learner.empty() && probes != nullptr) {
    auto learner = sync::RolloutServer::start(c.learner.substr(std::string("unix:").size()));
    if (!learner) {
      return learner.error().in("learner.socket");
    }
    doors.learner = std::move(*learner);
  }
  return ok();
}

using Measure = std::function<Result<sample::Sample>(const std::vector<identity::Pod>&)>;

Status turn(const config::Config& c, loop::Loop& turning, const Measure& measure, loop::Ticker& ticker,
            loop::SpanExport* spans) {
  if (Status started = ticker.start(); !started) {
    return started;
  }
  while (true) {
    const auto event = ticker.wait();
    if (!event) {
      return event.error();
    }
    if (*event == loop::Ticker::Event::kStop) {
      turning.release();
      spdlog::info("stopped missed_ticks={}", ticker.missed());
      return ok();
    }
    if (*event == loop::Ticker::Event::kReload) {
      const bool given = !c.parameters.empty();
      turning.reload(c.parameters.string(),
                     given ? read_file(c.parameters)
                           : Result<std::string>(Error::usage("no policy.parameters are configured")));
      continue;
    }
    if (const auto sample = measure(turning.pods())) {
      turning.tick(*sample);
    } else {
      turning.miss(sample.error(), SystemClock().now());
    }
    if (spans != nullptr) {
      const bool news = spans->tick(turning.pods(), SystemClock().now(), turning.metrics());
      turning.observe_spans(spans->counts(), spans->lost(), news ? &spans->routes() : nullptr);
    }
  }
}

void tell_start(const config::Config& c) {
  spdlog::info("started bpffs={} role={} mode={} policy={} sink={} tick_ms={}", c.bpffs.string(), c.role,
               config::value(c, "mode"), c.acting(), c.sink, c.tick_in_force().count());
}

/// What the nodes report is all there is: no program, no map, no privilege.
Status run_writer(const config::Config& c, loop::Ticker& ticker, loop::ActingPolicy policy,
                  loop::LoopDoors doors) {
  if (Status opened = open_doors(c, nullptr, doors); !opened) {
    return opened;
  }
  doors.fleet = assembly::make_fleet(c);
  loop::Loop turning(assembly::loop_options(c), std::move(policy), std::move(doors));
  tell_start(c);
  MonotonicNs before = 0;
  const Measure nothing = [&before](const std::vector<identity::Pod>&) {
    sample::Sample empty;
    empty.taken = SystemClock().now();
    empty.interval_ns = before == 0 ? 0 : empty.taken - before;
    before = empty.taken;
    return Result<sample::Sample>(std::move(empty));
  };
  return turn(c, turning, nothing, ticker, nullptr);
}

/// At the end of an agent: what uninstalls deletes our DaemonSet, and nobody comes after us on this node.
void leave_kernel(const config::Config& c, kube::Installation* installation,
                  std::optional<kernel::Probes>& probes) {
  const std::string going = installation != nullptr ? installation->going() : "";
  if (going.empty()) {
    spdlog::info("the programs stay measuring=goes_on trouble=\"{}\"",
                 installation != nullptr ? installation->trouble() : "");
    return;
  }
  probes.reset();
  const Status gone = kernel::Probes::unload(c.bpffs);
  if (gone) {
    spdlog::info("unloaded because=\"{}\"", going);
  } else {
    spdlog::warn("not unloaded because=\"{}\" reason=\"{}\"", going, gone.error().message);
  }
}

Status run(const config::Config& c) {
  if (Status status = init_log("ballastd", c.log); !status) {
    return status;
  }
  // Before any thread, so that all of them leave the signals to the ticker.
  ::signal(SIGPIPE, SIG_IGN);
  auto ticker = loop::Ticker::create(c.tick_in_force());
  if (!ticker) {
    return ticker.error();
  }
  const SystemClock clock;
  auto policy = assembly::make_policy(c);
  if (!policy) {
    return policy.error();
  }
  const bool writer = c.role == "writer";
  auto cgroup_root = writer || !c.cgroup_root.empty() ? Result<fs::path>(c.cgroup_root) : find_cgroup_root();
  if (!cgroup_root) {
    return cgroup_root.error();
  }
  loop::LoopDoors doors;
  auto identity = assembly::make_identity(c, *cgroup_root, clock);
  if (!identity) {
    return identity.error().in("identity");
  }
  doors.identity = std::move(*identity);
  if (writer) {
    return run_writer(c, *ticker, std::move(*policy), std::move(doors));
  }

  std::optional<kernel::Probes> probes;
  if (auto loaded = kernel::Probes::load({.bpffs = c.bpffs,
                                          .cgroup_root = *cgroup_root,
                                          .span_every = static_cast<std::uint32_t>(c.spans_every)});
      loaded) {
    probes.emplace(std::move(*loaded));
  } else {
    return loaded.error();
  }
  const bool adopted = probes->adopted();
  Status opened = open_doors(c, &*probes, doors);
  auto meter =
      opened ? loop::Meter::create(c.bpffs, *cgroup_root, clock) : Result<loop::Meter>(opened.error());
  const auto spans =
      meter ? assembly::make_span_export(c) : Result<std::unique_ptr<loop::SpanExport>>(meter.error());
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
  doors.fleet = assembly::make_fleet(c);
  const auto installation = assembly::follow_installation(c);
  loop::Loop turning(assembly::loop_options(c), std::move(*policy), std::move(doors));
  tell_start(c);
  const Measure measure = [&meter](const std::vector<identity::Pod>& pods) { return meter->sample(pods); };
  Status ended = turn(c, turning, measure, *ticker, spans->get());
  if (ended) {
    leave_kernel(c, installation.get(), probes);
  }
  return ended;
}

const cli::About kAbout = {
    "ballastd",
    8,
    "Measures every pod from inside the kernel and weighs the endpoints of its services",
    "With no flag and no file it measures every cgroup and writes nothing.\n"
    "SIGTERM and SIGINT publish equal weights and end it; the programs stay in the kernel and go on\n"
    "measuring until a restart or --unload, but for an agent of Kubernetes whose DaemonSet is\n"
    "deleted: that unloads them. SIGHUP reads policy.parameters again.\n",
    {{"ballastd --config /etc/ballast/ballastd.yaml --check-config", "Print the configuration in force"},
     {"ballastd --identity static:pods.yaml --sink xds:127.0.0.1:18000 --mode active",
      "Weigh the pods of a file, without Kubernetes"}},
    {"ballastctl(1)", "ballast-global(8)", "ballast-learner(8)"}};

/// An exit code where there is nothing more to do.
std::optional<int> parse_flags(cli::Program& program, int argc, char** argv, Flags& flags) {
  CLI::App& app = program.app();
  app.add_option_function<std::string>(
         "--config", [&](const std::string& v) { flags.config = v; }, "YAML file; flags override it")
      ->type_name("FILE");
  config::Config defaults;
  options::Schema schema;
  defaults.declare(schema);
  for (const auto& [flag, key] :
       {std::pair("--bpffs", "bpffs"), std::pair("--identity", "identity"), std::pair("--sink", "sink"),
        std::pair("--role", "role"), std::pair("--mode", "mode"), std::pair("--tick-ms", "tick_ms"),
        std::pair("--policy", "policy.name"), std::pair("--parameters", "policy.parameters"),
        std::pair("--metrics", "metrics"), std::pair("--istio-fast", "kubernetes.istio_fast"),
        std::pair("--log", "log")}) {
    program.key_flag(flag, *schema.find(key), [&flags, flag = flag, key = key](const std::string& v) {
      flags.overrides.push_back({flag, key, v});
    });
  }
  app.add_flag("--check-config", flags.check, "print the effective configuration and exit");
  auto* unload = app.add_flag("--unload", flags.unload,
                              "take the programs and maps of --bpffs out of the kernel and exit")
                     ->group(cli::kFaultFinding);
  app.add_flag("--wait", flags.wait, "with --unload: exit only when told to, for a pod that shall stay ready")
      ->group(cli::kFaultFinding)
      ->needs(unload);
  program.page("configuration", config::to_markdown);
  program.page("metrics", telemetry::PrometheusExporter::definitions);
  return program.parse(argc, argv);
}

Status unload(const config::Config& c, bool wait) {
  sigset_t ends;
  ::sigemptyset(&ends);
  ::sigaddset(&ends, SIGTERM);
  ::sigaddset(&ends, SIGINT);
  ::sigprocmask(SIG_BLOCK, &ends, nullptr);
  // Done already: whoever takes it out of many nodes does not know which had it.
  std::error_code error;
  const bool absent = !fs::exists(c.bpffs, error) && fs::is_directory(c.bpffs.parent_path(), error);
  Status unloaded = absent ? ok() : kernel::Probes::unload(c.bpffs);
  if (unloaded && wait) {
    int got = 0;
    ::sigwait(&ends, &got);
  }
  return unloaded;
}

}  // namespace

int main(int argc, char** argv) {
  // gRPC's threads would otherwise get an arena each; the loop allocates from one thread.
  ::mallopt(M_ARENA_MAX, 2);
  cli::Program program(kAbout);
  Flags flags;
  if (const auto code = parse_flags(program, argc, argv, flags)) {
    return *code;
  }
  const auto config = config::load(flags.config, flags.overrides);
  if (!config) {
    if (!flags.check) {
      assembly::tell_pod({}, config.error());
    }
    return program.finish(config.error());
  }
  if (flags.check) {
    if (const Status files = assembly::check_files(*config); !files) {
      return program.finish(files);
    }
    fmt::print("{}", config::to_yaml(*config));
    return 0;
  }
  const Status ended = flags.unload ? unload(*config, flags.wait) : run(*config);
  if (!ended) {
    assembly::tell_pod(*config, ended.error());
  }
  return program.finish(ended);
}
