// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <filesystem>
#include <string>

#include "core/base/result.h"
#include "tools/lab/live.h"
#include "tools/lab/pods.h"
#include "tools/lab/policies.h"
#include "tools/lab/report.h"
#include "tools/lab/run_space.h"
#include "tools/lab/scenario.h"

namespace ballast::lab {

/// What all arms of a run have in common. References outlive the arms.
struct ArmSetting {
  const Scenario& scenario;
  const RunSpace& space;
  std::filesystem::path envoy;
  double duration_s = 20;  ///< measured window, after the scenario's warm-up
  double drain_s = 5;
  bool access_log = false;  ///< measure each pod from Envoy's side too
  std::string client;       ///< command of an ExternalClient in the generator's place; empty: the generator
  bool looks = false;       ///< keep RunResult::looks
  const std::atomic<bool>& interrupted;
};

/// Runs one policy once: fresh pods, a fresh Envoy and, for Ballast's arms, a cold ballastd; load
/// through warm-up and window; then everything is stopped. The error names what did not work; an
/// interrupt is an error too.
Result<RunResult> run_arm(const ArmSetting& setting, PodFleet& pods, const ArmPolicy& policy, int round,
                          std::uint64_t seed, LiveTable& live);

}  // namespace ballast::lab
