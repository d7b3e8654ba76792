// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/process.h"
#include "core/base/result.h"
#include "tools/lab/http.h"
#include "tools/lab/policies.h"
#include "tools/lab/run_space.h"
#include "tools/lab/scenario.h"

namespace ballast::lab {

/// CPU time and memory of a process, from /proc.
struct ProcessFigures {
  double cpu_s = 0;
  double rss_peak_mb = 0;
};
/// nullopt when there is no such process.
std::optional<ProcessFigures> process_figures(pid_t pid);

/// Ballast's own processes in one arm: ballastd and, when the scenario has a learner,
/// ballast-global and ballast-learner. All start cold: fresh maps, fresh state.
class ControlPlane {
 public:
  /// The two others run as well where ballastd's policy can learn and the scenario has a learner.
  ControlPlane(const Scenario& scenario, const RunSpace& space, std::string folder, ArmPolicy policy);
  /// Takes ballastd out of the kernel.
  ~ControlPlane();
  ControlPlane(const ControlPlane&) = delete;
  ControlPlane& operator=(const ControlPlane&) = delete;

  Status start();
  /// False when the arm has no such process. Kill is SIGKILL; restart ends what still runs first.
  bool has(const std::string& name) const;
  void kill(const std::string& name);
  /// SIGTERM; does not wait.
  void terminate(const std::string& name);
  Status restart(const std::string& name);
  /// The first of them that has ended without being asked to, with the end of its log.
  Status check();
  /// Name and pid of what runs.
  std::vector<std::pair<std::string, pid_t>> running();

  static Endpoint xds(const RunSpace& space) { return {space.address(0, 2), 18000}; }
  /// The static identity file; the caller keeps it up to date.
  std::filesystem::path identity_file() const { return folder_ / "identity.yaml"; }

 private:
  struct Member {
    std::vector<std::string> argv;
    ChildProcess process;
    bool wanted = false;  ///< runs unless it failed
  };
  Status write_config() const;
  Status launch(const std::string& name);

  const Scenario& scenario_;
  const RunSpace& space_;
  std::filesystem::path folder_;
  ArmPolicy policy_;
  bool learning_;
  std::vector<std::pair<std::string, Member>> members_;  ///< in order of start
};

}  // namespace ballast::lab
