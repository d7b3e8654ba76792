// SPDX-License-Identifier: Apache-2.0
//
// ballast-global: the global network of A3C. Applies the workers' gradients, serves parameters,
// keeps checkpoints.
#include <malloc.h>
#include <sys/resource.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <mutex>
#include <optional>
#include <random>
#include <string>
#include <thread>
#include <utility>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/process.h"
#include "core/cli/program.h"
#include "model/cluster/authority.h"
#include "model/cluster/checkpoint_object.h"
#include "model/cluster/endpoint_owners.h"
#include "model/cluster/leadership.h"
#include "model/cluster/token_proof.h"
#include "model/policy/forecast_file.h"
#include "model/policy/shipped.h"
#include "model/sync/checkpoint/checkpoint.h"
#include "model/sync/network/global_network.h"
#include "model/sync/operations/operations.h"
#include "model/sync/server/global_server.h"
#include "model/sync/transport/listen.h"

namespace {

using namespace std::chrono_literals;
using ballast::Error;
using ballast::Result;
using ballast::Status;
using ballast::sync::CheckpointStore;
using ballast::sync::StateStore;
using ballast::sync::Verdict;

const std::atomic<bool>& stopping = ballast::stop_on_signals();

struct Flags {
  std::string listen;
  std::string state;
  std::string operations;
  std::string metrics_otlp;
  std::string initial;
  std::string log_level = "info";
  std::string account = "ballast";
  int lease_seconds = 10;
  bool insecure_listen = false;
  bool standby = false;
  bool kubernetes = false;
  bool plain = false;
  ballast::sync::GlobalOptions network;
  ballast::sync::ServerOptions server;
  double checkpoint_seconds = 10;
  std::uint64_t checkpoint_versions = 1000;
  std::uint64_t seed = 0;
  double forecast_rate = 1e-3;
  std::uint64_t forecast_seed = 0;
  std::string forecast_initial;
  int canary_seconds = 60;
  std::size_t memory_mb = 192;
};

/// Saves now and then; a full disk is told once a time and does not stop the learning.
class CheckpointWriter {
 public:
  /// `gains`: saved beside the network; null: none are.
  CheckpointWriter(const Flags& flags, ballast::sync::StateStore& store,
                   const ballast::sync::GlobalNetwork& network,
                   const ballast::sync::GainsNetworks* gains = nullptr)
      : flags_(flags),
        store_(store),
        network_(network),
        gains_(gains),
        saved_(network.version()),
        live_(saved_),
        saved_gains_(gains == nullptr ? 0 : gains->versions()) {}

  void tick() {
    const auto version = network_.version();
    if (version != live_) {
      live_ = version;
      note(store_.save_live(network_.state()));
    }
    const bool many = version.version - saved_.version >= flags_.checkpoint_versions;
    const bool changed = version != saved_ || (gains_ != nullptr && gains_->versions() != saved_gains_);
    if (many || (changed && age_s() >= flags_.checkpoint_seconds)) {
      note(save());
    }
  }
  Status save() {
    const auto state = network_.state();
    when_ = std::chrono::steady_clock::now();
    saved_ = {state.parameters.epoch, state.parameters.version};
    if (gains_ != nullptr) {
      saved_gains_ = gains_->versions();
      const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
      store_.keep_gains(gains_->state(
          static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(since_1970).count())));
    }
    return store_.save(state);
  }
  double age_s() const {
    return std::chrono::duration<double>(std::chrono::steady_clock::now() - when_.load()).count();
  }
  std::uint64_t failures() const { return failures_; }

 private:
  // The same trouble is told once in ten seconds.
  void note(const Status& status) {
    if (status) {
      return;
    }
    ++failures_;
    const auto now = std::chrono::steady_clock::now();
    if (now - told_ > 10s) {
      told_ = now;
      spdlog::error("state not saved, learning goes on error=\"{}\"", status.error().message);
    }
  }

  const Flags& flags_;
  ballast::sync::StateStore& store_;
  const ballast::sync::GlobalNetwork& network_;
  const ballast::sync::GainsNetworks* gains_;
  ballast::sync::Version saved_, live_;
  std::uint64_t saved_gains_;
  std::atomic<std::chrono::steady_clock::time_point> when_ = std::chrono::steady_clock::now();
  std::chrono::steady_clock::time_point told_{};
  std::atomic<std::uint64_t> failures_{0};
};

/// What operators ask while the replica follows, leads and stops.
class Replica {
 public:
  void lead(const ballast::sync::GlobalNetwork* network, const ballast::sync::GlobalNetwork* forecast,
            const ballast::sync::GainsNetworks* gains, const ballast::sync::GlobalServer* server,
            const CheckpointWriter* checkpoint_writer) {
    const std::lock_guard lock(mutex_);
    network_ = network;
    forecast_ = forecast;
    gains_ = gains;
    server_ = server;
    checkpoint_writer_ = checkpoint_writer;
  }
  ballast::sync::GlobalStatus status() const {
    const std::lock_guard lock(mutex_);
    ballast::sync::GlobalStatus out;
    out.leader = network_ != nullptr;
    if (network_ != nullptr) {
      out.network = network_->stats();
      out.workers = network_->worst_workers(20);
      out.forecast = forecast_->stats();
      out.forecast_workers = forecast_->worst_workers(20);
      out.gains = gains_->stats();
      out.checkpoint_age_s = checkpoint_writer_->age_s();
      out.checkpoint_failures = checkpoint_writer_->failures();
    }
    if (server_ != nullptr) {
      out.ready = !stopping;
      out.server = server_->stats();
      out.address = server_->address();
    }
    return out;
  }

 private:
  mutable std::mutex mutex_;
  const ballast::sync::GlobalNetwork* network_ = nullptr;
  const ballast::sync::GlobalNetwork* forecast_ = nullptr;
  const ballast::sync::GainsNetworks* gains_ = nullptr;
  const ballast::sync::GlobalServer* server_ = nullptr;
  const CheckpointWriter* checkpoint_writer_ = nullptr;
};

void log_status(const char* which, const ballast::sync::GlobalNetwork& network, std::size_t streams) {
  const auto stats = network.stats();
  std::string rejected;
  for (std::size_t i = 1; i < stats.verdicts.size(); ++i) {
    rejected += fmt::format(" rejected_{}={}", to_string(static_cast<Verdict>(i)), stats.verdicts[i]);
  }
  spdlog::info("{} epoch={} version={} workers={} batch={} tau_median={} accepted={}{}", which,
               stats.version.epoch, stats.version.version, streams, stats.batch, stats.tau_median,
               stats.verdicts[0], rejected);
}

Result<ballast::policy::Parameters> fallback(const Flags& flags) {
  if (flags.initial.empty()) {
    return flags.seed > 0 ? ballast::policy::initial(flags.seed)
                          : ballast::policy::parse(ballast::policy::shipped());
  }
  const auto bytes = ballast::read_file(flags.initial);
  if (!bytes) {
    return Error::usage("--initial: " + bytes.error().message);
  }
  auto parsed = ballast::policy::parse(*bytes);
  return parsed ? std::move(parsed)
                : Error::usage("--initial " + flags.initial + ": " + parsed.error().message);
}

/// As fallback(), of the forecast.
Result<ballast::policy::Parameters> forecast_fallback(const Flags& flags) {
  std::string bytes(ballast::policy::shipped_forecast());
  if (!flags.forecast_initial.empty()) {
    auto read = ballast::read_file(flags.forecast_initial);
    if (!read) {
      return Error::usage("--forecast-initial: " + read.error().message);
    }
    bytes = std::move(*read);
  }
  auto theta = flags.forecast_seed > 0 ? ballast::spec::initial_forecast(flags.forecast_seed)
                                       : ballast::policy::parse_forecast(bytes);
  return theta ? Result<ballast::policy::Parameters>({0, 0, std::move(*theta)})
               : Error::usage("--forecast-initial " + flags.forecast_initial + ": " + theta.error().message);
}

/// What one global network begins from, and where it is kept.
struct Beginning {
  ballast::policy::Parameters first;
  StateStore* store = nullptr;
};

/// Waits as a follower until the folder is ours, which the kernel gives us when the leader dies;
/// nullopt when told to stop.
Result<std::optional<CheckpointStore>> become_leader(const Flags& flags) {
  if (!flags.standby) {
    auto store = CheckpointStore::open(flags.state, flags.network.parameters);
    return store ? Result<std::optional<CheckpointStore>>(std::move(*store)) : store.error();
  }
  bool told = false;
  while (!stopping) {
    auto store = CheckpointStore::try_open(flags.state, flags.network.parameters);
    if (!store || store->has_value()) {
      return store;
    }
    if (!std::exchange(told, true)) {
      spdlog::info("following: another ballast-global leads state={}", flags.state);
    }
    std::this_thread::sleep_for(100ms);
  }
  return std::optional<CheckpointStore>();
}

/// Until told to stop, or deposed.
Status serve(const StateStore& store, ballast::sync::GlobalNetwork& network,
             ballast::sync::GlobalNetwork& forecast, const ballast::sync::GlobalServer& server,
             CheckpointWriter& checkpoint_writer, CheckpointWriter& forecast_writer,
             ballast::sync::GainsNetworks& gains) {
  auto told = network.verdicts();
  auto forecast_told = forecast.verdicts();
  auto looked = std::chrono::steady_clock::now();
  while (!stopping) {
    std::this_thread::sleep_for(10ms);
    network.tick();
    checkpoint_writer.tick();
    forecast.tick();
    forecast_writer.tick();
    gains.tick();
    const auto now = std::chrono::steady_clock::now();
    if (now - looked < 1s) {
      continue;
    }
    looked = now;
    if (auto leads = store.still_leads(network.version().epoch); !leads) {
      return leads;
    }
    if (const auto counts = network.verdicts(); counts != told) {
      log_status("global network", network, server.workers());
      told = counts;
    }
    if (const auto counts = forecast.verdicts(); counts != forecast_told) {
      log_status("forecast", forecast, server.workers());
      forecast_told = counts;
    }
  }
  return ballast::ok();
}

/// From its store, and saved at once: after a crash the next leader has to know that this epoch was used.
Result<std::unique_ptr<ballast::sync::GlobalNetwork>> open_network(
    const Beginning& from, const ballast::sync::GlobalOptions& options) {
  auto state = from.store->load(from.first);
  if (!state) {
    return state.error();
  }
  auto network = ballast::sync::GlobalNetwork::create(std::move(*state), options);
  if (network) {
    if (auto saved = from.store->save((*network)->state()); !saved) {
      return saved.error();
    }
  }
  return network;
}

Status lead(Flags flags, const Beginning& acting, const Beginning& forecasting, Replica& replica) {
  auto network = open_network(acting, flags.network);
  if (!network) {
    return network.error();
  }
  ballast::sync::GlobalOptions forecast_options = flags.network;
  forecast_options.parameters = ballast::spec::kForecastParameters;
  forecast_options.rms_prop.learning_rate = flags.forecast_rate;
  auto forecast = open_network(forecasting, forecast_options);
  if (!forecast) {
    return forecast.error().in("forecast");
  }
  ballast::sync::GainsNetworks gains((*network)->version().epoch, flags.network);
  if (!acting.store->gains().empty()) {
    if (const Status restored = gains.restore(acting.store->gains()); !restored) {
      spdlog::error("gains are learned anew error=\"{}\"", restored.error().message);
    }
  }
  CheckpointWriter checkpoint_writer(flags, *acting.store, **network, &gains);
  CheckpointWriter forecast_writer(flags, *forecasting.store, **forecast);
  flags.server.forecast = forecast->get();
  flags.server.gains = &gains;
  auto server = ballast::sync::GlobalServer::start(flags.listen, **network, flags.server);
  if (!server) {
    return server.error();
  }
  replica.lead(network->get(), forecast->get(), &gains, server->get(), &checkpoint_writer);
  const auto version = (*network)->version();
  spdlog::info("listening address={} epoch={} version={} forecast_version={} tls={}", (*server)->address(),
               version.epoch, version.version, (*forecast)->version().version, !flags.server.tls.empty());

  Status served =
      serve(*acting.store, **network, **forecast, **server, checkpoint_writer, forecast_writer, gains);
  replica.lead(network->get(), forecast->get(), &gains, nullptr, &checkpoint_writer);
  server->reset();  // no gradient may be accepted after the last checkpoint
  replica.lead(nullptr, nullptr, nullptr, nullptr, nullptr);
  if (!served) {
    return served;  // the folder is another's: nothing more is written
  }
  for (auto* each : {network->get(), forecast->get()}) {
    each->flush();
  }
  for (auto* writer : {&checkpoint_writer, &forecast_writer}) {
    if (auto saved = writer->save(); !saved) {
      return saved;
    }
  }
  log_status("global network", **network, 0);
  return ballast::ok();
}

const char* environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

/// In a cluster: follows while another replica holds the Lease, leads while this one does, until told to
/// stop.
Status run_in_cluster(Flags flags, const ballast::policy::Parameters& first,
                      const ballast::policy::Parameters& first_forecast, Replica& replica) {
  namespace cluster = ballast::cluster;
  const std::string ns = environment("POD_NAMESPACE");
  const std::string pod = environment("POD_NAME");
  if (ns.empty() || pod.empty()) {
    return Error::usage("--kubernetes: POD_NAMESPACE and POD_NAME are not set");
  }
  auto api = ballast::kube::in_cluster();
  if (!api) {
    return api.error();
  }
  // Who leads may be known no longer than the Lease lasts.
  api->connect_timeout = 2s;
  api->request_timeout = 3s;
  api->retry_budget = 4s;
  auto client = ballast::kube::Client::create(std::move(*api));
  if (!client) {
    return client.error();
  }
  ballast::kube::Client& calls = **client;
  const ballast::kube::Catalog catalog(calls);
  const auto owners = std::make_shared<cluster::EndpointOwners>(catalog);
  flags.server.proof = std::make_shared<cluster::TokenProof>(
      calls, cluster::TokenProofOptions{.account = "system:serviceaccount:" + ns + ":" + flags.account,
                                        .writer = "system:serviceaccount:" + ns + ":ballast-global"});
  flags.server.writer_prefix = cluster::kWriter;
  flags.server.owns = [owners](const std::string& node, const ballast::spec::EndpointTelemetry& endpoint) {
    return owners->owns(node, endpoint);
  };
  const bool own_certificate = !flags.server.tls.empty();
  {
    cluster::Leadership leadership(
        calls,
        {ns, "ballast-global", pod + "_" + std::to_string(std::random_device{}()), flags.lease_seconds});
    while (!stopping) {
      if (!leadership.leads()) {
        std::this_thread::sleep_for(100ms);
        continue;
      }
      std::optional<cluster::Authority> authority;
      Status led = ballast::ok();
      if (!own_certificate) {
        if (auto opened =
                cluster::Authority::open(calls, {.ns = ns, .names = {"ballast-global." + ns + ".svc"}});
            opened) {
          authority.emplace(std::move(*opened));
          flags.server.tls = authority->files();
        } else {
          led = opened.error();
        }
      }
      if (led) {
        cluster::CheckpointObject store(
            calls, ns, pod, [&leadership] { return leadership.leads(); }, flags.network.parameters);
        cluster::CheckpointObject forecast_store(
            calls, ns, pod, [&leadership] { return leadership.leads(); }, ballast::spec::kForecastParameters,
            fmt::format("ballast-checkpoint-forecast-{}", ballast::spec::kForecastVersion));
        const std::jthread renews([&](const std::stop_token& stop) {
          for (auto last = std::chrono::steady_clock::now(); !own_certificate && !stop.stop_requested();) {
            std::this_thread::sleep_for(100ms);
            if (std::chrono::steady_clock::now() - last > 60s) {
              last = std::chrono::steady_clock::now();
              if (const Status renewed = authority->refresh(); !renewed) {
                spdlog::warn("{}", renewed.error().message);
              }
            }
          }
        });
        led = lead(flags, {first, &store}, {first_forecast, &forecast_store}, replica);
      }
      if (!led) {
        spdlog::error("not leading error=\"{}\"", led.error().message);
        if (led.error().kind == Error::Kind::kUsage) {
          return led;
        }
        std::this_thread::sleep_for(1s);
      }
    }
  }
  calls.stop();
  return ballast::ok();
}

Status run(const Flags& flags) {
  const bool encrypted = flags.kubernetes || !flags.server.tls.empty();
  if (auto address = ballast::sync::check_address(flags.listen, flags.insecure_listen || encrypted);
      !address) {
    return address;
  }
  // With --kubernetes callers show tokens, so that a certificate of our own is all there may be.
  if (auto files =
          ballast::sync::check_tls_files(flags.kubernetes ? ballast::sync::TlsFiles() : flags.server.tls);
      !files) {
    return files;
  }
  if (flags.server.promotion.share > 0 && flags.network.parameters != ballast::spec::kParameters) {
    return Error::usage("--canary-share: a network of another size than this build's acts nowhere");
  }
  const auto first = fallback(flags);
  if (!first) {
    return first.error();
  }
  const auto forecast = forecast_fallback(flags);
  if (!forecast) {
    return forecast.error();
  }
  Replica replica;
  std::unique_ptr<ballast::http::Server> operations;
  if (!flags.operations.empty()) {
    auto started = ballast::sync::serve_operations(
        flags.operations, flags.insecure_listen || flags.kubernetes, [&] { return replica.status(); });
    if (!started) {
      return started.error();
    }
    operations = std::move(*started);
    spdlog::info("operations address={}", operations->address().text());
  }
  std::unique_ptr<ballast::metrics::OtlpSender> push;
  if (!flags.metrics_otlp.empty()) {
    auto started = ballast::sync::push_operations(flags.metrics_otlp, [&] { return replica.status(); });
    if (!started) {
      return started.error().in("--metrics-otlp");
    }
    push = std::move(*started);
  }
  if (flags.kubernetes) {
    return run_in_cluster(flags, *first, *forecast, replica);
  }
  auto store = become_leader(flags);
  if (!store) {
    return store.error();
  }
  if (!store->has_value()) {
    return ballast::ok();
  }
  // That of a build of another spec::kForecastVersion stays where it is.
  auto forecast_store = (*store)->within(fmt::format("forecast-{}", ballast::spec::kForecastVersion),
                                         ballast::spec::kForecastParameters);
  if (!forecast_store) {
    return forecast_store.error();
  }
  return lead(flags, {*first, &**store}, {*forecast, &*forecast_store}, replica);
}

void add_training_flags(CLI::App& app, Flags& flags) {
  auto& network = flags.network;
  const auto positive = CLI::PositiveNumber;
  app.option_defaults()->group(ballast::cli::kTuning);
  app.add_option("--lr", network.rms_prop.learning_rate, "learning rate")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--forecast-lr", flags.forecast_rate, "learning rate of the forecast")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--rms-alpha", network.rms_prop.alpha, "decay of RMSProp's mean square")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--rms-epsilon", network.rms_prop.epsilon, "added to the mean square")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--clip-norm", network.clip_norm, "of one worker's gradient")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--staleness-limit", network.staleness_limit, "versions a gradient may lag behind")
      ->capture_default_str();
  app.add_flag("--plain", flags.plain, "A3C as published: no batches, no trimmed mean, no quarantine");
  app.add_option("--trim", network.trim, "share of a batch left out at either end of each coordinate")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.49));
  app.add_option("--batch-most", network.batch_most, "gradients in a batch at most")
      ->capture_default_str()
      ->check(CLI::Range(1, 1024));
  app.add_option("--worker-rate", network.workers.pushes_per_s,
                 "pushes a second of one worker; 0: any number")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--parameters", network.parameters,
                 "numbers in the network; another count than this build's measures the server alone")
      ->capture_default_str()
      ->check(CLI::Range(1, 1'000'000));
}

void add_serving_flags(CLI::App& app, Flags& flags) {
  app.add_option("--listen", flags.listen, "IP:PORT or unix:PATH")->required();
  auto* state = app.add_option("--state", flags.state, "folder of the checkpoints");
  auto* kubernetes = app.add_flag(
      "--kubernetes", flags.kubernetes,
      "in a pod: the Lease ballast-global makes the leader, the ConfigMap ballast-checkpoint holds the "
      "state, the "
      "certificate is of an authority kept in the Secret ballast-ca unless --tls-cert and --tls-key name "
      "one, and callers show ServiceAccount tokens");
  state->excludes(kubernetes);
  app.add_option("--agents-account", flags.account, "with --kubernetes: the ServiceAccount of the agents")
      ->capture_default_str()
      ->needs(kubernetes);
  app.add_option("--lease-seconds", flags.lease_seconds,
                 "with --kubernetes: unrenewed for so long, the other replica takes over")
      ->capture_default_str()
      ->check(CLI::Range(3, 3600))
      ->needs(kubernetes);
  app.add_flag("--standby", flags.standby,
               "while another replica leads on this folder, follow and take over when it dies");
  app.add_option("--operations", flags.operations, "IP:PORT of HTTP /metrics, /status, /healthz, /readyz");
  app.add_option(
      "--metrics-otlp", flags.metrics_otlp,
      "http://HOST:PORT of a collector that gets the same metrics every 15 s (OTLP over HTTP in JSON)");
  app.add_flag("--insecure-listen", flags.insecure_listen,
               "allow an address beyond loopback although nothing is encrypted or authenticated");
  app.add_option("--tls-cert", flags.server.tls.certificate, "PEM chain of this server");
  app.add_option("--tls-key", flags.server.tls.key, "PEM key of it");
  app.add_option("--tls-ca", flags.server.tls.authority, "PEM bundle that workers' certificates come from");
  app.add_option("--identity-prefix", flags.server.identity_prefix,
                 "what a worker's SPIFFE id or DNS name has to begin with");
  app.add_option("--most-workers", flags.server.most_workers, "streams at the same time")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--canary-share", flags.server.promotion.share,
                 "share of the workers that act with new parameters before all do; 0: all at once")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 0.5));
  app.add_option("--canary-seconds", flags.canary_seconds, "that they do")
      ->capture_default_str()
      ->check(CLI::Range(1, 86'400));
  app.add_option("--canary-reports", flags.server.promotion.reports, "of either side that judge a trial")
      ->capture_default_str()
      ->check(CLI::Range(2, 1'000'000));
  app.add_option("--memory-mb", flags.memory_mb, "that gRPC may hold for all connections together")
      ->capture_default_str()
      ->check(CLI::Range(16, 1'000'000));
  app.add_option("--checkpoint-seconds", flags.checkpoint_seconds, "longest time without a checkpoint")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--checkpoint-versions", flags.checkpoint_versions, "most versions without a checkpoint")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--initial", flags.initial,
                 "parameters file to begin from where there is no checkpoint (none: the shipped policy)");
  app.add_option("--seed", flags.seed, "of an untrained network to begin from (0: the shipped policy)")
      ->capture_default_str();
  app.add_option("--forecast-initial", flags.forecast_initial,
                 "the forecast's file to begin from where there is no checkpoint (none: the shipped one)");
  app.add_option("--forecast-seed", flags.forecast_seed,
                 "of an untrained forecast to begin from (0: the shipped one)")
      ->capture_default_str();
  app.add_option("--log", flags.log_level, "trace, debug, info, warn, error or off")->capture_default_str();
}

const ballast::cli::About kAbout = {
    "ballast-global",
    8,
    "The global network of A3C, and the fleet of all nodes",
    "Applies the workers' gradients, serves parameters, keeps checkpoints, and joins what all nodes "
    "measure.\n"
    "SIGTERM and SIGINT write a last checkpoint and end it.\n",
    {{"ballast-global --listen 127.0.0.1:7000 --state /var/lib/ballast", "Serve this machine"},
     {"ballast-global --listen 0.0.0.0:7000 --state DIR --tls-cert FILE --tls-key FILE --tls-ca FILE "
      "--standby",
      "One of two replicas, over mutual TLS"}},
    {"ballastd(8)", "ballast-learner(8)", "ballastctl(1)"}};

// A connection a worker: the soft limit of 1,024 files is for other programs.
void raise_file_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

}  // namespace

int main(int argc, char** argv) {
  ballast::cli::Program program(kAbout);
  Flags flags;
  add_serving_flags(program.app(), flags);
  add_training_flags(program.app(), flags);
  program.page("metrics", ballast::sync::metric_definitions);
  if (const auto code = program.parse(argc, argv)) {
    return *code;
  }
  if (flags.state.empty() && !flags.kubernetes) {
    std::fprintf(stderr, "ballast-global: --state or --kubernetes is required\n");
    return 2;
  }
  flags.network.robust = !flags.plain;
  flags.server.memory_bytes = flags.memory_mb << 20;
  flags.server.promotion.window = std::chrono::seconds(flags.canary_seconds);
  if (const auto log = ballast::init_log("ballast-global", flags.log_level); !log) {
    return program.finish(log);
  }
  raise_file_limit();
  ::mallopt(M_ARENA_MAX, 2);  // one a thread would hold what each of them once needed
  if (const Status done = run(flags); !done) {
    spdlog::error("{}", done.error().message);
    return done.error().exit_code();
  }
  return 0;
}
