// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "core/base/result.h"
#include "model/sync/client/worker_client.h"

namespace ballast::bench {

/// `ballast-bench worker`: one A3C worker in a process of its own. It acts in the queue environment with the
/// global network's parameters and pushes its gradients there, as ballast-learner does with what its node
/// lives through; the replicas of a training job are such workers, and ballast-global is their server.
struct WorkerCommand {
  sync::WorkerOptions client;
  std::vector<std::string> scenarios;  ///< of the queue environment; empty: its training set
  std::uint64_t steps = 20'000;        ///< of the environment, this worker's own
  std::uint64_t seed = 1;
  double entropy_bonus = -1;  ///< negative: as tuned
  double pushes_per_s = 100;  ///< at most; the server allows a worker 200
  double patience_s = 120;    ///< for the first parameters, and for the last verdicts
  std::filesystem::path out;  ///< the parameters that were in force at the end; empty: none
};

/// A line a second on stdout: "TIME steps=N gradients=N accepted=N return=X entropy=X version=N" (Katib's own
/// format of metrics). Fails when the global network is not reached, or accepts none of the gradients.
Status run_worker(const WorkerCommand& command);

}  // namespace ballast::bench
