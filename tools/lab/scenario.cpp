// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/scenario.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <set>

#include "core/base/file.h"
#include "core/base/process.h"
#include "core/yaml/section.h"

namespace ballast::lab {

namespace {

constexpr double kMinQuota = 0.01;
constexpr double kMaxQuota = 64;
constexpr std::size_t kMostPods = 200;

/// A name becomes a cgroup folder and part of an EDS resource, so it is as a Kubernetes name.
std::string name(YamlSection& section, const std::string& key, const std::string& standard) {
  std::string value = section.text(key, standard);
  const auto good = [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '-'; };
  if (section.has(key) && (value.empty() || value.size() > 63 || value.front() == '-' ||
                           !std::all_of(value.begin(), value.end(), good))) {
    section.fail(key, "has to be lower-case letters, digits and dashes, not \"" + value + "\"");
  }
  return value;
}

int whole(YamlSection& section, const std::string& key, int standard, std::uint64_t least,
          std::uint64_t most) {
  return static_cast<int>(section.whole(key, static_cast<std::uint64_t>(standard), least, most));
}

double quota(YamlSection& section) {
  section.require("quota");
  return section.number("quota", kMinQuota, kMinQuota, kMaxQuota);
}

void read_pods(YamlSection& root, Scenario& scenario) {
  std::vector<YamlSection> pods = root.list("pods");
  if (pods.empty() || pods.size() > kMostPods) {
    root.fail("pods", root.has("pods") ? "has to be a list of 1 to 200 pods" : "is missing");
  }
  for (YamlSection& section : pods) {
    PodSpec pod;
    section.require("name");
    pod.name = name(section, "name", "");
    pod.quota = quota(section);
    pod.workers = whole(section, "workers", pod.workers, 1, 1000);
    pod.wait_factor = section.number("wait_factor", pod.wait_factor, 0.01, 100);
    if (section.has("workers") && scenario.server != ServerKind::kFifo) {
      section.fail("workers", "only server: fifo holds them");
    }
    if (section.has("wait_factor") && scenario.wait_ms <= 0) {
      section.fail("wait_factor", "says nothing without demand.wait_ms");
    }
    section.refuse_unknown();
    for (const auto& other : scenario.pods) {
      if (other.name == pod.name) {
        section.fail("name", "two pods are called " + pod.name);
      }
    }
    scenario.pods.push_back(pod);
  }
}

void read_tenants(YamlSection& root, Scenario& scenario) {
  for (YamlSection& section : root.list("tenants")) {
    Tenant tenant;
    for (const char* key : {"pod", "every_s", "burn_s"}) {
      section.require(key);
    }
    tenant.pod = name(section, "pod", "");
    tenant.every_s = section.number("every_s", 1, 0.1, 3600);
    tenant.burn_s = section.number("burn_s", 0.01, 0.01, 3600);
    tenant.phase_s = section.number("phase_s", 0, 0, 3600);
    tenant.cores = whole(section, "cores", tenant.cores, 1, 64);
    section.refuse_unknown();
    if (tenant.burn_s >= tenant.every_s) {
      section.fail("burn_s", "has to be shorter than every_s");
    }
    if (std::none_of(scenario.pods.begin(), scenario.pods.end(),
                     [&](const PodSpec& pod) { return pod.name == tenant.pod; })) {
      section.fail("pod", "there is no pod " + tenant.pod);
    }
    scenario.tenants.push_back(tenant);
  }
}

void read_event(YamlSection& section, std::set<std::string>& alive, Event& event) {
  static const std::vector<std::pair<std::string, EventKind>> kKinds = {
      {"set_quota", EventKind::kSetQuota}, {"kill_pod", EventKind::kKillPod},
      {"add_pod", EventKind::kAddPod},     {"kill", EventKind::kKill},
      {"stop", EventKind::kStop},          {"restart", EventKind::kRestart}};
  static const std::set<std::string> kProcesses = {"ballastd", "learner", "global", "envoy"};
  section.require("at_s");
  event.at_s = section.number("at_s", 0, 0, 86400);
  std::string verb;
  for (const auto& [key, kind] : kKinds) {
    if (section.has(key)) {
      if (!verb.empty()) {
        section.fail(key, "an event does one thing, and this one has " + verb + " too");
      }
      verb = key;
      event.kind = kind;
      event.target = name(section, key, "");
    }
  }
  if (verb.empty()) {
    section.fail("", "an event needs one of set_quota, kill_pod, add_pod, kill, stop, restart");
    return;
  }
  if (event.kind == EventKind::kSetQuota || event.kind == EventKind::kAddPod) {
    event.quota = quota(section);
  }
  if (event.kind == EventKind::kKill || event.kind == EventKind::kStop || event.kind == EventKind::kRestart) {
    if (!kProcesses.contains(event.target)) {
      section.fail(verb, "\"" + event.target + "\" is not one of ballastd, learner, global, envoy");
    }
  } else if (event.kind == EventKind::kAddPod) {
    if (!alive.insert(event.target).second) {
      section.fail(verb, "there is a pod " + event.target + " already");
    }
  } else {
    if (!alive.contains(event.target)) {
      section.fail(verb, "there is no pod " + event.target + " at this time");
    }
    if (event.kind == EventKind::kKillPod) {
      alive.erase(event.target);
    }
  }
}

void read_events(YamlSection& root, Scenario& scenario) {
  std::set<std::string> alive;
  for (const auto& pod : scenario.pods) {
    alive.insert(pod.name);
  }
  double last = 0;
  for (YamlSection& section : root.list("events")) {
    Event event;
    read_event(section, alive, event);
    section.refuse_unknown();
    if (event.at_s < last) {
      section.fail("at_s", "events have to stand in order of time");
    }
    last = event.at_s;
    scenario.events.push_back(event);
  }
}

void read_document(YamlSection& root, Scenario& scenario) {
  root.require("about");
  scenario.about = root.text("about", "");
  scenario.ns = name(root, "namespace", scenario.ns);
  scenario.service = name(root, "service", scenario.service);
  scenario.period_ms = whole(root, "period_ms", scenario.period_ms, 1, 1000);
  scenario.server =
      root.choice("server", {"ps", "fifo"}, 0) == 1 ? ServerKind::kFifo : ServerKind::kProcessorSharing;
  if (auto demand = root.section("demand")) {
    scenario.demand_mean_ms = demand->number("mean_ms", scenario.demand_mean_ms, 0.01, 1000);
    scenario.demand_sigma = demand->number("sigma", scenario.demand_sigma, 0, 3);
    scenario.wait_ms = demand->number("wait_ms", scenario.wait_ms, 0, 10000);
    scenario.wait_sigma = demand->number("wait_sigma", scenario.wait_sigma, 0, 3);
    demand->refuse_unknown();
  }
  scenario.load = root.number("load", scenario.load, 0.01, 2);
  scenario.sessions = whole(root, "sessions", scenario.sessions, 1, 1000000);
  scenario.warmup_s = root.number("warmup_s", scenario.warmup_s, 0, 3600);
  scenario.tick_ms = whole(root, "tick_ms", scenario.tick_ms, 20, 60000);
  scenario.learner = root.flag("learner", scenario.learner);
  scenario.exploration = root.number("exploration", scenario.exploration, 0, 1);
  read_pods(root, scenario);
  read_tenants(root, scenario);
  read_events(root, scenario);
  root.refuse_unknown();
}

}  // namespace

double Scenario::carried_rps(const PodSpec& pod) const {
  const double by_cpu = pod.quota / (demand_mean_ms * 1e-3);
  if (server == ServerKind::kProcessorSharing) {
    return by_cpu;
  }
  return std::min(by_cpu, pod.workers / ((demand_mean_ms + wait_ms * pod.wait_factor) * 1e-3));
}

double Scenario::capacity_cores() const {
  double sum = 0;
  for (const auto& pod : pods) {
    sum += carried_rps(pod) * demand_mean_ms * 1e-3;
  }
  return sum;
}

Result<Scenario> parse_scenario(const std::string& text, const std::string& file) {
  Scenario scenario;
  YamlErrors errors(file);
  const auto document = load_yaml(text, errors);
  if (!document) {
    return document.error();
  }
  YamlSection root(*document, "", errors);
  read_document(root, scenario);
  if (errors.first()) {
    return *errors.first();
  }
  scenario.name = std::filesystem::path(file).stem().string();
  return scenario;
}

std::filesystem::path scenario_dir() {
  const char* given = std::getenv("BALLAST_SCENARIOS");
  return given != nullptr ? std::filesystem::path(given)
                          : (binary_dir() / "../share/ballast/scenarios").lexically_normal();
}

Result<Scenario> load_scenario(const std::string& name_or_file) {
  std::error_code ignored;
  std::filesystem::path path = name_or_file;
  if (!std::filesystem::is_regular_file(path, ignored)) {
    path = scenario_dir() / (name_or_file + ".yaml");
    if (!std::filesystem::is_regular_file(path, ignored)) {
      return Error::usage("--scenario: " + name_or_file +
                          " is neither a file nor one of `ballast-lab scenarios` (looked in " +
                          scenario_dir().string() + ")");
    }
  }
  const auto text = read_file(path);
  if (!text) {
    return Error::usage("--scenario: " + text.error().message);
  }
  return parse_scenario(*text, path.string());
}

Result<std::vector<Scenario>> builtin_scenarios() {
  std::vector<Scenario> found;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(scenario_dir(), error)) {
    if (entry.path().extension() == ".yaml") {
      auto scenario = load_scenario(entry.path().string());
      if (!scenario) {
        return scenario.error();
      }
      found.push_back(std::move(*scenario));
    }
  }
  if (error) {
    return Error::failed("reading the built-in scenarios in " + scenario_dir().string() + ": " +
                         error.message());
  }
  std::sort(found.begin(), found.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return found;
}

}  // namespace ballast::lab
