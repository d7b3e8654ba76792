// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/worker_command.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <numeric>
#include <thread>

#include "core/base/file.h"
#include "model/env/registry.h"
#include "model/policy/parameters.h"
#include "model/train/learner.h"
#include "model/train/loss.h"

namespace ballast::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Parameters = std::shared_ptr<const sync::Received>;

constexpr auto kLook = std::chrono::milliseconds(20);

double norm_of(const std::vector<float>& values) {
  return std::sqrt(std::inner_product(values.begin(), values.end(), values.begin(), 0.0));
}

/// The newest parameters; waits for the first ones.
Status newest(sync::WorkerClient& global, const WorkerCommand& command, Parameters& held) {
  const auto until = Clock::now() + Seconds(command.patience_s);
  do {
    if (auto received = global.take_parameters()) {
      held = std::move(received);
    }
    if (held) {
      return ok();
    }
    std::this_thread::sleep_for(kLook);
  } while (Clock::now() < until);
  return Error::failed(fmt::format("no parameters from the global network at {} in {:.0f} s",
                                   command.client.address, command.patience_s));
}

class Worker {
 public:
  Worker(const WorkerCommand& command, const train::MakeEnvironment& make)
      : command_(command), hyper_(train::tuned("a3c", "queue")), spec_(make()->spec()) {
    train::Environments environments;
    for (std::size_t i = 0; i < hyper_.environments; ++i) {
      environments.push_back(make());
    }
    collector_ = std::make_unique<train::Collector>(std::move(environments), command.seed);
    if (command.entropy_bonus >= 0) {
      hyper_.entropy_bonus = command.entropy_bonus;
    }
  }

  Status run() {
    const auto global = sync::WorkerClient::start(command_.client);
    const train::Network network(
        {spec_.observation, hyper_.hidden, spec_.actions, true, hyper_.shared_encoder});
    Parameters held;
    auto next_push = Clock::now();
    while (steps_ < command_.steps) {
      if (auto there = newest(*global, command_, held); !there) {
        return there;
      }
      collector_->collect(network, held->parameters.theta, hyper_.horizon, {}, {hyper_.gamma, hyper_.lambda},
                          batch_);
      std::vector<float> gradient(network.parameters(), 0.0F);
      const auto loss = actor_critic_loss(
          network, held->parameters.theta, batch_,
          {.value_coefficient = hyper_.value_coefficient, .entropy_bonus = hyper_.entropy_bonus}, scratch_,
          gradient);
      steps_ += batch_.steps();
      const double norm = norm_of(gradient);
      std::this_thread::sleep_until(next_push);
      next_push =
          Clock::now() + std::chrono::duration_cast<Clock::duration>(Seconds(1 / command_.pushes_per_s));
      ++gradients_;
      global->push({{held->parameters.epoch, held->parameters.version},
                    static_cast<std::uint32_t>(batch_.steps()),
                    norm,
                    std::move(gradient)});
      tell(*global, held, loss.entropy, false);
    }
    return finish(*global, held);
  }

 private:
  void tell(const sync::WorkerClient& global, const Parameters& held, double entropy, bool last) {
    const auto ended = collector_->take_returns();
    returns_.insert(returns_.end(), ended.begin(), ended.end());
    entropy_ = entropy;
    if (!last && Clock::now() < next_line_) {
      return;
    }
    next_line_ = Clock::now() + std::chrono::seconds(1);
    if (!returns_.empty()) {
      mean_return_ =
          std::accumulate(returns_.begin(), returns_.end(), 0.0) / static_cast<double>(returns_.size());
      returns_.clear();
    }
    const auto done = global.counters();
    // Without an episode that ended there is no return, and no figure in its place.
    fmt::print(
        "{:%Y-%m-%dT%H:%M:%SZ} steps={} gradients={} accepted={} rejected={} {}entropy={:.4f} version={}\n",
        fmt::gmtime(std::chrono::system_clock::to_time_t(std::chrono::system_clock::now())), steps_,
        gradients_, done.accepted, done.rejected + done.dropped + done.lost,
        std::isnan(mean_return_) ? "" : fmt::format("return={:.4f} ", mean_return_), entropy_,
        held->parameters.version);
    std::fflush(stdout);
  }

  /// Waits for the verdicts on what is on its way, and for the parameters after them.
  Status finish(sync::WorkerClient& global, Parameters held) {
    const auto until = Clock::now() + Seconds(command_.patience_s);
    const auto judged = [&] {
      const auto done = global.counters();
      return done.accepted + done.rejected + done.dropped + done.lost;
    };
    while (judged() < gradients_ && Clock::now() < until) {
      std::this_thread::sleep_for(kLook);
    }
    std::this_thread::sleep_for(command_.client.pull_interval + 2 * kLook);
    if (auto there = newest(global, command_, held); !there) {
      return there;
    }
    tell(global, held, entropy_, true);
    if (global.counters().accepted == 0) {
      return Error::failed(fmt::format("the global network at {} accepted none of {} gradients",
                                       command_.client.address, gradients_));
    }
    return command_.out.empty() ? ok() : write_file_atomic(command_.out, held->bytes);
  }

  const WorkerCommand& command_;
  train::Hyper hyper_;
  const env::Spec spec_;
  std::unique_ptr<train::Collector> collector_;
  train::Batch batch_;
  train::LossScratch scratch_;
  std::uint64_t steps_ = 0;
  std::uint64_t gradients_ = 0;
  std::vector<double> returns_;
  double mean_return_ = std::nan("");
  double entropy_ = 0;
  Clock::time_point next_line_;
};

}  // namespace

Status run_worker(const WorkerCommand& command) {
  const auto make = env::find_environment("queue", {.scenarios = command.scenarios});
  if (!make) {
    return make.error();
  }
  return Worker(command, *make).run();
}

}  // namespace ballast::bench
