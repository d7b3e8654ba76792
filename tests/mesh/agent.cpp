// SPDX-License-Identifier: Apache-2.0
#include "agent.h"

#include <fmt/format.h>
#include <unistd.h>

#include <fstream>
#include <sstream>

#include "tools/lab/cgroups.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

fs::path sibling(const char* name) {
  return binary_dir().parent_path() / name;
}

/// The configuration of the DaemonSet with what is this machine's.
std::string configuration(ControlPlane& plane, const AgentOptions& options, const fs::path& token) {
  // Named by its content.
  std::string whole;
  const Json maps = plane.must("GET", "/api/v1/namespaces/ballast-system/configmaps");
  for (const Json& map : maps["items"]) {
    const std::string text = kube::text_at(map, {"data", "ballastd.yaml"});
    whole = text.empty() ? whole : text;
  }
  std::istringstream shipped(whole);
  std::string text;
  bool left_out = false;
  for (std::string line; std::getline(shipped, line);) {
    // What is this machine's, and what needs ballast-global.
    const bool begins = !line.empty() && line[0] != ' ';
    left_out = begins ? line.starts_with("bpffs:") || line.starts_with("cgroup_root:") ||
                            line.starts_with("fleet:") || line.starts_with("learner:") ||
                            line.starts_with("policy:") || line.starts_with("metrics")
                      : left_out;
    text += left_out ? "" : line + "\n";
  }
  text += "policy: {name: prior}\n";  // what is taught at ballast-global has no place here
  const auto layout = lab::detect_cgroup_layout();
  text += fmt::format("cgroup_root: {}\n", layout ? layout->v2.string() : "");
  text += options.metrics == 0 ? "" : fmt::format("metrics: 127.0.0.1:{}\n", options.metrics);
  text +=
      fmt::format("kubernetes:\n  server: {}\n  ca_file: {}\n  token_file: {}\n  node: {}\n  istiod: {}:{}\n",
                  plane.server(), (options.ca.empty() ? plane.ca() : options.ca).string(), token.string(),
                  options.node, kHost, kIstiodPort);
  text += options.fast ? "  istio_fast: true\n" : "";
  text += options.lease_s == 0 ? "" : fmt::format("  lease_duration_s: {}\n", options.lease_s);
  return text;
}

}  // namespace

fs::path Agent::bpffs() const {
  return fs::path("/sys/fs/bpf") / fmt::format("ballast-mesh-{}-{}", ::getpid(), name_);
}

Result<std::unique_ptr<Agent>> Agent::start(ControlPlane& plane, const AgentOptions& options) {
  static int agents = 0;
  std::unique_ptr<Agent> agent(new Agent(plane, options));
  agent->name_ = fmt::format("agent{}", ++agents);
  if (agent->options_.token.empty()) {
    agent->options_.token = plane.account_token("ballast-global");
  }
  std::ofstream(agent->file(".yaml")) << configuration(plane, options, agent->options_.token);
  ProcessOptions spawned;
  spawned.argv = {sibling("ballastd").string(),
                  "--config",
                  agent->file(".yaml").string(),
                  "--bpffs",
                  agent->bpffs(),
                  "--mode",
                  options.mode};
  if (!options.policy.empty()) {
    spawned.argv.insert(spawned.argv.end(), {"--policy", options.policy});
  }
  spawned.output = agent->file(".log");
  auto process = ChildProcess::spawn(spawned);
  if (!process) {
    return process.error();
  }
  agent->process_ = std::move(*process);
  const bool up = eventually(
      [&] {
        return agent->ctl({"status", "--alive"}).code == 0 || !agent->process_.running();
      },
      seconds(60), milliseconds(100));
  if (!up || !agent->process_.running()) {
    return Error::failed("ballastd did not come up:\n" + agent->log());
  }
  return agent;
}

Agent::~Agent() {
  process_.stop(seconds(15));
  ProcessOptions unload;
  unload.argv = {sibling("ballastd").string(), "--unload", "--bpffs", bpffs()};
  unload.output = file(".log");
  if (auto process = ChildProcess::spawn(unload)) {
    process->wait(seconds(20));
  }
  std::error_code ignored;
  fs::remove_all(bpffs(), ignored);
}

Ended Agent::ctl(std::vector<std::string> arguments) {
  std::vector<std::string> argv = {sibling("ballastctl").string(), "--bpffs", bpffs()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  if (!arguments.empty() && arguments[0] == "release") {
    argv.insert(argv.end(), {"--server", plane_.server(), "--ca-file", plane_.ca().string(), "--token-file",
                             options_.token.string()});
  }
  return plane_.run(std::move(argv), seconds(30));
}

std::string Agent::log() const {
  const auto text = read_file(file(".log"));
  return text ? *text : "";
}

}  // namespace ballast::mesh
