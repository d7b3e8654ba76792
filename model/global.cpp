// SPDX-License-Identifier: Apache-2.0
//
// ballast-global: the global network of A3C. Applies the workers' gradients, serves parameters,
// keeps checkpoints.
#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <string>
#include <thread>

#include "agent/base/log.h"
#include "model/sync/checkpoint.h"
#include "model/sync/global_network.h"
#include "model/sync/global_server.h"
#include "model/sync/listen.h"

namespace {

using namespace std::chrono_literals;
using ballast::Status;
using ballast::sync::Verdict;

std::atomic<bool> stopping{false};

void stop_on_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { stopping = true; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
}

struct Flags {
  std::string listen;
  std::string state;
  std::string log_level = "info";
  bool insecure_listen = false;
  ballast::sync::GlobalOptions network;
  double checkpoint_seconds = 10;
  std::uint64_t checkpoint_versions = 1000;
  std::uint64_t seed = 0;
};

void log_status(const ballast::sync::GlobalNetwork& network, std::size_t workers) {
  const auto counts = network.verdicts();
  std::string rejected;
  for (std::size_t i = 1; i < counts.size(); ++i) {
    rejected += fmt::format(" rejected_{}={}", to_string(static_cast<Verdict>(i)), counts[i]);
  }
  const auto version = network.version();
  spdlog::info("global network epoch={} version={} workers={} accepted={}{}", version.epoch, version.version,
               workers, counts[0], rejected);
}

/// Saves now and then; a full disk is told once a time and does not stop the learning.
class Keeper {
 public:
  Keeper(const Flags& flags, const ballast::sync::CheckpointStore& store,
         const ballast::sync::GlobalNetwork& network)
      : flags_(flags), store_(store), network_(network), saved_(network.version()) {}

  void tick() {
    const auto version = network_.version();
    const std::chrono::duration<double> since = std::chrono::steady_clock::now() - when_;
    if (version != saved_ && (version.version - saved_.version >= flags_.checkpoint_versions ||
                              since.count() >= flags_.checkpoint_seconds)) {
      if (const Status saved = save(); !saved) {
        spdlog::error("{}", saved.error().message);
      }
    }
  }
  Status save() {
    const auto state = network_.state();
    when_ = std::chrono::steady_clock::now();
    saved_ = {state.parameters.epoch, state.parameters.version};
    return store_.save(state);
  }

 private:
  const Flags& flags_;
  const ballast::sync::CheckpointStore& store_;
  const ballast::sync::GlobalNetwork& network_;
  ballast::sync::Version saved_;
  std::chrono::steady_clock::time_point when_ = std::chrono::steady_clock::now();
};

Status run(const Flags& flags) {
  if (auto address = ballast::sync::check_address(flags.listen, flags.insecure_listen); !address) {
    return address;
  }
  auto store = ballast::sync::CheckpointStore::open(flags.state);
  if (!store) {
    return store.error();
  }
  auto state = store->load(flags.seed);
  if (!state) {
    return state.error();
  }
  auto network = ballast::sync::GlobalNetwork::create(std::move(*state), flags.network);
  if (!network) {
    return network.error();
  }
  Keeper keeper(flags, *store, **network);
  // Before anybody sees this epoch: after a crash the next leader has to know that it was used.
  if (auto saved = keeper.save(); !saved) {
    return saved;
  }
  auto server = ballast::sync::GlobalServer::start(flags.listen, **network);
  if (!server) {
    return server.error();
  }
  const auto first = (*network)->version();
  spdlog::info("listening address={} epoch={} version={}", (*server)->address(), first.epoch, first.version);

  auto told = (*network)->verdicts();
  auto logged = std::chrono::steady_clock::now();
  while (!stopping) {
    std::this_thread::sleep_for(50ms);
    keeper.tick();
    const auto counts = (*network)->verdicts();
    const auto now = std::chrono::steady_clock::now();
    if (counts != told && now - logged >= 1s) {
      log_status(**network, (*server)->workers());
      told = counts;
      logged = now;
    }
  }
  server->reset();  // no gradient may be accepted after the last checkpoint
  if (auto saved = keeper.save(); !saved) {
    return saved;
  }
  log_status(**network, 0);
  return ballast::ok();
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"ballast-global: the global network of A3C"};
  Flags flags;
  auto& rms_prop = flags.network.rms_prop;
  const auto positive = CLI::PositiveNumber;
  app.add_option("--listen", flags.listen, "IP:PORT or unix:PATH")->required();
  app.add_option("--state", flags.state, "folder of the checkpoints")->required();
  app.add_flag("--insecure-listen", flags.insecure_listen,
               "allow an address beyond loopback although nothing is encrypted or authenticated");
  app.add_option("--lr", rms_prop.learning_rate, "learning rate")->capture_default_str()->check(positive);
  app.add_option("--rms-alpha", rms_prop.alpha, "decay of RMSProp's mean square")
      ->capture_default_str()
      ->check(CLI::Range(0.0, 1.0));
  app.add_option("--rms-epsilon", rms_prop.epsilon, "added to the mean square")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--clip-norm", flags.network.clip_norm, "of one worker's gradient")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--staleness-limit", flags.network.staleness_limit, "versions a gradient may lag behind")
      ->capture_default_str();
  app.add_option("--checkpoint-seconds", flags.checkpoint_seconds, "longest time without a checkpoint")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  app.add_option("--checkpoint-versions", flags.checkpoint_versions, "most versions without a checkpoint")
      ->capture_default_str()
      ->check(positive);
  app.add_option("--seed", flags.seed, "of the untrained network where there is no checkpoint")
      ->capture_default_str();
  app.add_option("--log", flags.log_level, "trace, debug, info, warn, error or off")->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (const auto log = ballast::init_log("ballast-global", flags.log_level); !log) {
    std::fprintf(stderr, "ballast-global: %s\n", log.error().message.c_str());
    return log.error().exit_code();
  }
  stop_on_signals();
  if (const Status done = run(flags); !done) {
    spdlog::error("{}", done.error().message);
    return done.error().exit_code();
  }
  return 0;
}
