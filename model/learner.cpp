// SPDX-License-Identifier: Apache-2.0
//
// ballast-learner: the node's A3C worker. Rollouts of the agent beside it become gradients for
// the global network, whose parameters go back to the agent. It goes on while either is away.
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/process.h"
#include "core/cli/program.h"
#include "core/spec/service_name.h"
#include "model/learn/a3c_worker.h"
#include "model/learn/forecast_worker.h"
#include "model/learn/twin_session.h"
#include "model/learn/twin_worker.h"
#include "model/net/forecast_net.h"
#include "model/policy/forecast_file.h"
#include "model/policy/gains_file.h"
#include "model/policy/recording_file.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/rollouts/agent_client.h"

namespace {

using namespace std::chrono_literals;

constexpr auto kAnswer = 2s;  ///< that the global network is waited for, an update in the twin

const std::atomic<bool>& stopping = ballast::stop_on_signals();

std::string default_worker_id() {
  char host[256] = "unknown";
  ::gethostname(host, sizeof host - 1);
  return std::string(host) + "/" + std::to_string(::getpid());
}

// Workers that explore differently see more of the world together (Mnih et al. 2016, section 4): the
// same factor for the same name, whatever the build.
double exploration_of(const std::string& worker_id) {
  const std::uint32_t hash = ballast::crc32(worker_id.substr(0, worker_id.rfind('/')));
  return std::exp2(2.0 * static_cast<double>(hash) / 4294967295.0 - 1.0);
}

void log_progress(ballast::learn::A3cWorker& worker, const ballast::sync::WorkerClient& global,
                  const ballast::sync::AgentClient& agent) {
  const auto progress = worker.take_progress();
  if (!progress) {
    return;
  }
  const auto& mean = progress->mean;
  const auto pushed = global.counters();
  spdlog::info(
      "learned gradients={} rollouts={} steps={} reward={:.4f} entropy={:.4f} policy_loss={:.4f} "
      "value_loss={:.4f} "
      "importance_weight={:.3f} norm={:.3f} accepted={} rejected={} dropped={} lost={} unknown_theta={} "
      "invalid={} "
      "rollouts_dropped={} rollouts_refused={}",
      progress->gradients, mean.rollouts, mean.steps, mean.reward, mean.entropy, mean.policy_loss,
      mean.value_loss, mean.importance_weight, mean.norm, pushed.accepted, pushed.rejected, pushed.dropped,
      pushed.lost, worker.counters().unknown_theta, worker.counters().invalid, agent.dropped(),
      agent.refused());
}

/// The forecast's half: pairs of the agent become gradients, parameters go back.
class ForecastHalf {
 public:
  ForecastHalf(ballast::sync::WorkerOptions options, const ballast::learn::ForecastSettings& settings)
      : worker_(settings, ballast::crc32(options.worker_id)) {
    options.network = ballast::sync::Network::kForecast;
    global_ = ballast::sync::WorkerClient::start(options);
  }
  void turn(ballast::sync::AgentClient& agent, ballast::learn::TwinWorker& twin) {
    const double now = std::chrono::duration<double>(std::chrono::steady_clock::now() - began_).count();
    if (const auto received = global_->take_parameters(); received && worker_.stopped().empty()) {
      worker_.hold(received->parameters);
      twin.hold(received->parameters.theta);
      agent.offer_forecast(received->bytes, {received->parameters.epoch, received->parameters.version});
    }
    worker_.take(agent.take_samples(), now);
    if (auto gradient = worker_.learn(now)) {
      const auto said = twin.summary();
      auto& from = gradient->learned_from;
      from.twin_s = static_cast<float>(said.busiest.recorded_s);
      from.foreseen_p99_ms = static_cast<float>(said.busiest.foreseen_p99_ms);
      from.came_p99_ms = static_cast<float>(said.busiest.came_p99_ms);
      from.gains = static_cast<std::uint32_t>(said.gains);
      global_->push(std::move(*gradient));
    }
    if (!worker_.stopped().empty() && !std::exchange(told_, true)) {
      spdlog::error("learning of the forecast stopped: {}", worker_.stopped());
      if (const auto& good = worker_.last_good()) {
        agent.offer_forecast(ballast::policy::serialize_forecast(good->theta), {good->epoch, good->version});
      }
    }
    if (now - logged_ > 10 && worker_.learned_from().samples > 0) {
      logged_ = now;
      const auto from = worker_.learned_from();
      const auto pushed = global_->counters();
      spdlog::info(
          "forecast learned gradients={} samples={} span_s={:.0f} error={:.5f} as_now={:.5f} accepted={} "
          "rejected={} dropped={} lost={} refused_parameters={}",
          worker_.gradients(), from.samples, from.span_s, from.error, from.as_now, pushed.accepted,
          pushed.rejected, pushed.dropped, pushed.lost, pushed.refused_parameters);
    }
  }

 private:
  ballast::learn::ForecastWorker worker_;
  std::unique_ptr<ballast::sync::WorkerClient> global_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double logged_ = 0;
  bool told_ = false;
};

/// The gains of one service, of the global network: a stream for as long as they are learned. Where it does
/// not answer the twin learns alone, and the next update asks again.
ballast::twin::Sharing share_gains(ballast::sync::WorkerOptions options,
                                   const ballast::spec::ServiceId& service) {
  struct End {
    std::unique_ptr<ballast::sync::WorkerClient> client;
    std::optional<ballast::twin::SharedGains> held;
    std::uint64_t pushed = 0;
    bool settled() const {
      const auto counts = client->counters();
      return client->connected() &&
             counts.accepted + counts.rejected + counts.dropped + counts.lost >= pushed;
    }
  };
  options.network = ballast::sync::Network::kGains;
  options.service = ballast::spec::to_string(service);
  auto end = std::make_shared<End>();
  end->client = ballast::sync::WorkerClient::start(options);
  const auto newest = [end]() -> std::optional<ballast::twin::SharedGains> {
    const auto began = std::chrono::steady_clock::now();
    while (!end->settled() && !stopping && std::chrono::steady_clock::now() - began < kAnswer) {
      std::this_thread::sleep_for(5ms);
    }
    if (const auto received = end->client->take_parameters()) {
      auto& held = end->held.emplace();
      held.epoch = received->parameters.epoch;
      held.version = received->parameters.version;
      std::ranges::copy(received->parameters.theta, held.gains.begin());
    }
    return end->client->connected() ? end->held : std::nullopt;
  };
  const auto push = [end](const ballast::twin::SharedGains& at, const ballast::spec::Gains& gradient,
                          double mean_return) {
    ballast::sync::Gradient message{{at.epoch, at.version}, 1, 0, {gradient.begin(), gradient.end()}};
    for (const float each : message.values) {
      message.norm += static_cast<double>(each) * static_cast<double>(each);
    }
    message.norm = std::sqrt(message.norm);
    message.objective = mean_return;
    ++end->pushed;
    end->client->push(std::move(message));
  };
  return {newest, push};
}

void run(const std::string& agent_address, const ballast::sync::WorkerOptions& options,
         const ballast::net::Hyperparameters& hyper, const ballast::learn::ForecastSettings& forecasting,
         const ballast::learn::TwinSettings& twins) {
  ballast::learn::A3cWorker worker(hyper);
  const auto agent = ballast::sync::AgentClient::start(agent_address);
  const auto global = ballast::sync::WorkerClient::start(options);
  ForecastHalf forecast(options, forecasting);
  ballast::learn::TwinWorker twin(twins);
  auto logged = std::chrono::steady_clock::now();
  while (!stopping) {
    if (const auto received = global->take_parameters()) {
      worker.hold(received->parameters);
      agent->offer_parameters(received->bytes);
    }
    forecast.turn(*agent, twin);
    twin.take(agent->take_recording());
    if (auto gains = twin.take_gains()) {
      agent->offer_gains(std::move(*gains));
    }
    // Short, because new parameters are looked for in between.
    for (auto& gradient : worker.learn(agent->take_rollouts(20ms))) {
      global->push(std::move(gradient));
    }
    if (const auto now = std::chrono::steady_clock::now(); now - logged > 1s) {
      logged = now;
      log_progress(worker, *global, *agent);
    }
  }
}

/// Parameters of the forecast from recorded samples.
ballast::Status fit(const std::string& samples_file, const std::string& out,
                    ballast::net::FitOptions options) {
  const auto bytes = ballast::read_file(samples_file);
  if (!bytes) {
    return bytes.error();
  }
  const auto read = ballast::policy::read_samples(*bytes);
  if (!read) {
    return read.error().in(samples_file);
  }
  if (!read->left_out.empty()) {
    spdlog::warn("{}: {}", samples_file, read->left_out);
  }
  options.report = [](std::size_t step, const ballast::net::ForecastLoss& held_out) {
    spdlog::info("fitting step={} held_out_loss={:.5f} as_now={:.5f}", step, held_out.loss, held_out.as_now);
  };
  const auto theta = ballast::net::fit_forecast(read->samples, options);
  return theta ? ballast::write_file_atomic(out, ballast::policy::serialize_forecast(*theta)) : theta.error();
}

/// What a recording teaches, into files.
ballast::Status learn_twin(const std::string& recording_file, const std::string& before_file,
                           const std::string& forecast_out, const std::string& gains_out,
                           ballast::learn::TwinOptions options) {
  const auto text = ballast::read_file(recording_file);
  if (!text) {
    return text.error();
  }
  std::string before(ballast::policy::shipped_forecast());
  if (!before_file.empty()) {
    const auto bytes = ballast::read_file(before_file);
    if (!bytes) {
      return bytes.error();
    }
    before = *bytes;
  }
  auto theta = ballast::policy::parse_forecast(before);
  if (!theta) {
    return theta.error().in(before_file);
  }
  const auto recording = ballast::policy::parse_recording(*text);
  // As on a node: a forecast takes part only where it acts.
  if (recording.policy == "queue_rule") {
    theta->clear();
  }
  options.forecast = !forecast_out.empty() && !theta->empty();
  const auto learned = ballast::learn::learn_in_twin(recording, std::move(*theta), options);
  if (!learned.nothing.empty()) {
    return ballast::Error::failed(learned.nothing).in(recording_file);
  }
  if (auto wrote = ballast::write_file_atomic(gains_out, ballast::policy::serialize_gains(learned.file));
      !wrote) {
    return wrote;
  }
  return forecast_out.empty() || learned.forecast.empty()
             ? ballast::ok()
             : ballast::write_file_atomic(forecast_out,
                                          ballast::policy::serialize_forecast(learned.forecast));
}

const ballast::cli::About kAbout = {
    "ballast-learner",
    8,
    "The node's A3C worker: rollouts of the agent beside it become gradients",
    "It goes on while the agent or the global network is away. SIGTERM and SIGINT end it.\n",
    {{"ballast-learner --agent unix:/run/ballast/learner.sock --global 127.0.0.1:7000",
      "Learn on this node"}},
    {"ballastd(8)", "ballast-global(8)"}};

}  // namespace

int main(int argc, char** argv) {
  ballast::cli::Program program(kAbout);
  CLI::App& app = program.app();
  std::string agent;
  std::string log_level = "info";
  bool same_exploration = false;
  ballast::sync::WorkerOptions options;
  options.worker_id = default_worker_id();
  ballast::net::Hyperparameters hyper;
  ballast::learn::ForecastSettings forecasting;
  app.add_option("--agent", agent, "the agent's socket, unix:PATH");
  app.add_option("--global", options.address,
                 "the global network, IP:PORT or unix:PATH; ipv4:IP:PORT,IP:PORT names several replicas");
  std::string fit_samples;
  std::string fit_out;
  ballast::net::FitOptions fitting;
  app.add_option("--fit", fit_samples,
                 "fit the forecast to this file of samples (ballast-bench habits), write --fit-out and end");
  app.add_option("--fit-out", fit_out, "the forecast's parameters");
  app.add_option("--fit-steps", fitting.steps, "mini-batches")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{10'000'000}));
  app.add_option("--fit-seed", fitting.seed, "of the first parameters and of the batches")
      ->capture_default_str();
  std::string recording;
  std::string gains_out;
  std::string twin_before;
  ballast::learn::TwinSettings twins;
  ballast::learn::TwinOptions& twin = twins.learning;
  twin.say = [](const std::string& line) { spdlog::info("{}", line); };
  app.add_option(
      "--twin", recording,
      "learn in a twin of this recording's services (ballast-bench record), write --gains-out and end; "
      "with --fit-out the forecast goes on being fitted too, which a node's twin leaves to the "
      "workers of the forecast");
  app.add_option("--gains-out", gains_out, "gains that were better in the twin");
  app.add_option("--twin-before", twin_before, "the forecast in force (none: the shipped one)");
  app.add_option("--twin-updates", twin.updates, "of the actor-critic over the gains; 0: the forecast alone")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{0}, std::size_t{100'000}));
  std::vector<std::string> twin_without;
  app.add_option("--twin-without", twin_without,
                 "ablations: forecast (not fitted any more), baseline (the other replays of a trace)")
      ->delimiter(',')
      ->check(CLI::IsMember({"forecast", "baseline"}));
  app.add_option("--twin-seconds", twin.most_s, "most of computing them, a service; 0: all updates")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1e6));
  app.add_option("--twin-span", twins.span_s,
                 "beside an agent: seconds of the past that twins are built from")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 86'400.0));
  app.add_option("--twin-every", twins.every_s,
                 "beside an agent: seconds between two times of learning in twins")
      ->capture_default_str()
      ->check(CLI::Range(0.1, 86'400.0));
  app.add_option("--worker-id", options.worker_id,
                 "name of this worker; with TLS its certificate's, alone or followed by /...")
      ->default_str("HOST/PID")
      ->check([](const std::string& given) { return given.empty() ? "must not be empty" : std::string(); });
  app.add_option("--tls-cert", options.tls.certificate, "PEM chain of this worker");
  app.add_option("--tls-key", options.tls.key, "PEM key of it");
  app.add_option("--tls-ca", options.tls.authority, "PEM bundle that the server's certificate comes from");
  app.add_option(
      "--token", options.token_file,
      "file of a token that says who this worker is, in the place of a certificate; with --tls-ca");
  app.add_option("--server-name", options.server_name,
                 "name that the server's certificate carries (none: as dialled)");
  app.add_option("--log", log_level, "trace, debug, info, warn, error or off")->capture_default_str();
  app.option_defaults()->group(ballast::cli::kTuning);
  app.add_option("--gamma", hyper.gamma, "discount a step")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--entropy-bonus", hyper.entropy_bonus, "beta")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 10.0));
  app.add_flag("--same-exploration", same_exploration,
               "take beta, --forecast-span and the twin's deviation as they are, not times a factor in [1/2, "
               "2] of this "
               "worker's own");
  app.add_option("--t-max", hyper.t_max, "steps until a return bootstraps")
      ->capture_default_str()
      ->check(CLI::Range(std::size_t{1}, std::size_t{10'000}));
  app.add_option("--forecast-span", forecasting.span_s,
                 "seconds of the past that the forecast is learned from")
      ->capture_default_str()
      ->check(CLI::Range(1.0, 86'400.0));
  app.add_option("--forecast-rate", forecasting.pushes_per_s, "gradients of the forecast a second at most")
      ->capture_default_str()
      ->check(CLI::Range(0.01, 100.0));
  if (const auto code = program.parse(argc, argv)) {
    return *code;
  }
  if (const auto log = ballast::init_log("ballast-learner", log_level); !log) {
    return program.finish(log);
  }
  if (!fit_samples.empty()) {
    if (fit_out.empty()) {
      spdlog::error("--fit wants --fit-out");
      return 2;
    }
    return program.finish(fit(fit_samples, fit_out, fitting));
  }
  twin.seed = fitting.seed;
  twin.gains = twin.updates > 0;
  twin.forecast = std::ranges::count(twin_without, "forecast") == 0;
  twin.baseline = std::ranges::count(twin_without, "baseline") == 0;
  if (!recording.empty()) {
    if (gains_out.empty()) {
      spdlog::error("--twin wants --gains-out");
      return 2;
    }
    return program.finish(learn_twin(recording, twin_before, fit_out, gains_out, twin));
  }
  if (agent.empty() || options.address.empty()) {
    spdlog::error("--agent and --global are required (or --fit, or --twin)");
    return 2;
  }
  if (!agent.starts_with("unix:")) {
    spdlog::error("--agent {} is not of the form unix:PATH", agent);
    return 2;
  }
  if (const auto files = ballast::sync::check_tls_files(options.tls, !options.token_file.empty()); !files) {
    spdlog::error("{}", files.error().message);
    return files.error().exit_code();
  }
  if (!same_exploration) {
    hyper.entropy_bonus *= exploration_of(options.worker_id);
    twin.exploration = exploration_of(options.worker_id);
    twin.seed = ballast::crc32(options.worker_id.substr(0, options.worker_id.rfind('/')));
    forecasting = ballast::learn::ForecastWorker::settings_of(
        forecasting, options.worker_id.substr(0, options.worker_id.rfind('/')));
  }
  spdlog::info(
      "started worker_id={} agent={} global={} entropy_bonus={:.4f} forecast_span_s={:.0f} "
      "twin_exploration={:.3f}",
      options.worker_id, agent, options.address, hyper.entropy_bonus, forecasting.span_s, twin.exploration);
  if (app.get_option("--twin-seconds")->empty()) {
    twin.most_s = 30;
  }
  twin.services = 8;
  twin.sharing = [&options](const ballast::spec::ServiceId& service) {
    return share_gains(options, service);
  };
  run(agent, options, hyper, forecasting, twins);
  spdlog::info("stopped");
  return 0;
}
