// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/plane.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <sstream>

#include "core/base/file.h"

namespace ballast::lab {

namespace {

namespace fs = std::filesystem;

std::string tail(const fs::path& log) {
  const auto text = read_file(log);
  return text ? text->substr(text->size() > 1500 ? text->size() - 1500 : 0) : "";
}

}  // namespace

std::optional<ProcessFigures> process_figures(pid_t pid) {
  const fs::path proc = fs::path("/proc") / std::to_string(pid);
  const auto stat = read_file(proc / "stat");
  const auto status = read_file(proc / "status");
  if (!stat || !status) {
    return std::nullopt;
  }
  ProcessFigures figures;
  // The name may hold anything; the fields after it start behind the last ')'.
  std::istringstream fields(stat->substr(stat->rfind(')') + 1));
  std::string skipped;
  for (int i = 3; i < 14; ++i) {
    fields >> skipped;
  }
  double user = 0;
  double system = 0;
  fields >> user >> system;
  figures.cpu_s = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  const auto peak = status->find("VmHWM:");
  if (peak != std::string::npos) {
    figures.rss_peak_mb = std::strtod(status->c_str() + peak + 6, nullptr) / 1024;
  }
  return figures;
}

ControlPlane::ControlPlane(const Scenario& scenario, const RunSpace& space, std::string folder,
                           ArmPolicy policy)
    : scenario_(scenario),
      space_(space),
      folder_(std::move(folder)),
      policy_(std::move(policy)),
      learning_((policy_.decide == "learned" || policy_.decide == "forecast_rule") && policy_.learns &&
                scenario.learner) {}

ControlPlane::~ControlPlane() {
  for (auto it = members_.rbegin(); it != members_.rend(); ++it) {
    it->second.process.stop(std::chrono::milliseconds(2000));
  }
  std::error_code ignored;
  fs::remove_all(space_.bpffs(), ignored);  // the pins hold the programs
}

Status ControlPlane::write_config() const {
  std::string text =
      "bpffs: " + space_.bpffs().string() + "\n" + "identity: static:" + identity_file().string() + "\n" +
      "sink: xds:" + xds(space_).text() + "\n" + "mode: active\n" +
      "tick_ms: " + std::to_string(scenario_.tick_ms) + "\n" + "cgroup_root: " + space_.layout().v2.string() +
      "\n" + "metrics: " + space_.address(0, 2) + ":19090\n" + "policy:\n  name: " + policy_.decide + "\n" +
      "prior:\n  square_root: " + std::to_string(policy_.square_root) + "\n";
  if (learning_) {
    text += "learner:\n  socket: unix:" + (folder_ / "learner.sock").string() +
            "\n  exploration: " + std::to_string(scenario_.exploration) + "\n";
  }
  return write_file_atomic(folder_ / "ballastd.yaml", text);
}

Status ControlPlane::launch(const std::string& name) {
  for (auto& [known, member] : members_) {
    if (known != name) {
      continue;
    }
    member.process.stop(std::chrono::milliseconds(1000));
    ProcessOptions options;
    options.argv = member.argv;
    options.output = folder_ / (name + ".log");
    const auto cgroup = space_.layout().v2 / space_.cgroup("_" + name);
    std::error_code ignored;
    fs::create_directories(cgroup, ignored);
    options.cgroups = {cgroup};
    auto process = ChildProcess::spawn(options);
    if (!process) {
      return process.error();
    }
    member.process = std::move(*process);
    member.wanted = true;
  }
  return ok();
}

Status ControlPlane::start() {
  if (auto written = write_config(); !written) {
    return written;
  }
  const auto bin = binary_dir();
  const std::string global = space_.address(0, 3) + ":18100";
  if (learning_) {
    const auto state = folder_ / "global";
    std::error_code ignored;
    fs::create_directories(state, ignored);
    Member member{
        {(bin / "ballast-global").string(), "--listen", global, "--state", state.string()}, {}, false};
    if (!scenario_.forecast.empty()) {
      member.argv.insert(member.argv.end(), {"--forecast-initial", scenario_.forecast});
    }
    members_.emplace_back("global", std::move(member));
  }
  members_.emplace_back(
      "ballastd",
      Member{{(bin / "ballastd").string(), "--config", (folder_ / "ballastd.yaml").string()}, {}, false});
  if (learning_) {
    members_.emplace_back("learner",
                          Member{{(bin / "ballast-learner").string(), "--agent",
                                  "unix:" + (folder_ / "learner.sock").string(), "--global", global},
                                 {},
                                 false});
  }
  for (const auto& [name, member] : members_) {
    if (auto launched = launch(name); !launched) {
      return launched;
    }
  }
  return ok();
}

bool ControlPlane::has(const std::string& name) const {
  return std::any_of(members_.begin(), members_.end(),
                     [&](const auto& entry) { return entry.first == name; });
}

void ControlPlane::kill(const std::string& name) {
  for (auto& [known, member] : members_) {
    if (known == name) {
      member.wanted = false;
      member.process.stop(std::chrono::milliseconds(0));
    }
  }
}

void ControlPlane::terminate(const std::string& name) {
  for (auto& [known, member] : members_) {
    if (known == name) {
      member.wanted = false;
      member.process.signal(SIGTERM);
    }
  }
}

Status ControlPlane::restart(const std::string& name) {
  return launch(name);
}

Status ControlPlane::check() {
  for (auto& [name, member] : members_) {
    if (member.wanted && !member.process.running()) {
      const auto ended = member.process.wait(std::chrono::milliseconds(0));
      return Error::failed(member.argv[0] + " has ended with " + std::to_string(ended ? ended->code : -1) +
                           "; its log ends:\n" + tail(folder_ / (name + ".log")));
    }
  }
  return ok();
}

std::vector<std::pair<std::string, pid_t>> ControlPlane::running() {
  std::vector<std::pair<std::string, pid_t>> out;
  for (auto& [name, member] : members_) {
    if (member.process.running()) {
      out.emplace_back(name, member.process.pid());
    }
  }
  return out;
}

}  // namespace ballast::lab
