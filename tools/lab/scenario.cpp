// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/scenario.h"

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <optional>
#include <set>

#include "core/base/file.h"
#include "core/base/process.h"

namespace ballast::lab {

namespace {

/// Reads the keys of one YAML map. The first error is kept, later calls do nothing; finish()
/// also refuses keys that nobody asked for.
class Fields {
 public:
  Fields(std::string file, const YAML::Node& node, std::string prefix, std::optional<Error>& error)
      : file_(std::move(file)), node_(node), prefix_(std::move(prefix)), error_(error) {
    if (!node_.IsMap()) {
      fail(node_, "", "has to be a map of keys");
      return;
    }
    for (const auto& entry : node_) {
      const auto key = entry.first.Scalar();
      if (!seen_.insert(key).second) {
        fail(entry.first, key, "stands twice");
      }
    }
  }

  bool has(const std::string& key) const { return node_.IsMap() && node_[key].IsDefined(); }

  YAML::Node get(const std::string& key) {
    asked_.insert(key);
    return node_.IsMap() ? node_[key] : YAML::Node(YAML::NodeType::Undefined);
  }

  void number(const std::string& key, double& target, double least, double most, bool required = false) {
    const auto value = get(key);
    if (!present(value, key, required)) {
      return;
    }
    double got = 0;
    if (!value.IsScalar() || !YAML::convert<double>::decode(value, got) || !(got >= least && got <= most)) {
      fail(value, key, "has to be a number from " + plain(least) + " to " + plain(most) + given(value));
      return;
    }
    target = got;
  }

  void whole(const std::string& key, int& target, int least, int most) {
    const auto value = get(key);
    if (!present(value, key, false)) {
      return;
    }
    int got = 0;
    if (!value.IsScalar() || !YAML::convert<int>::decode(value, got) || got < least || got > most) {
      fail(value, key,
           "has to be a whole number from " + std::to_string(least) + " to " + std::to_string(most) +
               given(value));
      return;
    }
    target = got;
  }

  void flag(const std::string& key, bool& target) {
    const auto value = get(key);
    if (present(value, key, false) && (!value.IsScalar() || !YAML::convert<bool>::decode(value, target))) {
      fail(value, key, "has to be true or false" + given(value));
    }
  }

  void text(const std::string& key, std::string& target, bool required = false) {
    const auto value = get(key);
    if (!present(value, key, required)) {
      return;
    }
    if (!value.IsScalar() || value.Scalar().empty()) {
      fail(value, key, "has to be a text");
      return;
    }
    target = value.Scalar();
  }

  /// A name becomes a cgroup folder and part of an EDS resource, so it is as a Kubernetes name.
  void name(const std::string& key, std::string& target, bool required = false) {
    text(key, target, required);
    const auto good = [](unsigned char c) { return std::islower(c) || std::isdigit(c) || c == '-'; };
    if (!error_ && has(key) &&
        (target.size() > 63 || target.front() == '-' || !std::all_of(target.begin(), target.end(), good))) {
      fail(node_[key], key, "has to be lower-case letters, digits and dashes" + given(node_[key]));
    }
  }

  void fail(const YAML::Node& at, const std::string& key, const std::string& what) {
    if (!error_) {
      const int line = at.IsDefined() ? at.Mark().line + 1 : node_.Mark().line + 1;
      error_ = Error::usage(file_ + ":" + std::to_string(std::max(line, 1)) + ": " +
                            (key.empty() ? "" : prefix_ + key + ": ") + what);
    }
  }

  void finish() {
    if (!node_.IsMap()) {
      return;
    }
    for (const auto& entry : node_) {
      if (!asked_.contains(entry.first.Scalar())) {
        std::string known;
        for (const auto& key : asked_) {
          known += (known.empty() ? "" : ", ") + key;
        }
        fail(entry.first, entry.first.Scalar(), "unknown key; known here: " + known);
      }
    }
  }

 private:
  bool present(const YAML::Node& value, const std::string& key, bool required) {
    if (value.IsDefined() && !value.IsNull()) {
      return !error_;
    }
    if (value.IsDefined() || required) {
      fail(value.IsDefined() ? value : node_, key, value.IsDefined() ? "is empty" : "is missing");
    }
    return false;
  }

  static std::string plain(double value) {
    std::string text = std::to_string(value);
    text.erase(text.find_last_not_of('0') + 1);
    return text.back() == '.' ? text.substr(0, text.size() - 1) : text;
  }

  static std::string given(const YAML::Node& value) {
    return value.IsScalar() ? ", not \"" + value.Scalar() + "\"" : "";
  }

  std::string file_;
  YAML::Node node_;
  std::string prefix_;
  std::optional<Error>& error_;
  std::set<std::string> seen_;
  std::set<std::string> asked_;
};

constexpr double kMinQuota = 0.01;
constexpr double kMaxQuota = 64;

void read_pods(const YAML::Node& node, const std::string& file, Scenario& scenario,
               std::optional<Error>& error) {
  std::size_t i = 0;
  for (const auto& entry : node) {
    Fields fields(file, entry, "pods[" + std::to_string(i++) + "].", error);
    PodSpec pod;
    fields.name("name", pod.name, true);
    fields.number("quota", pod.quota, kMinQuota, kMaxQuota, true);
    fields.finish();
    for (const auto& other : scenario.pods) {
      if (other.name == pod.name) {
        fields.fail(entry, "name", "two pods are called " + pod.name);
      }
    }
    scenario.pods.push_back(pod);
  }
}

void read_event(const YAML::Node& node, Fields& fields, std::set<std::string>& alive, Event& event) {
  static const std::vector<std::pair<std::string, EventKind>> kKinds = {
      {"set_quota", EventKind::kSetQuota}, {"kill_pod", EventKind::kKillPod},
      {"add_pod", EventKind::kAddPod},     {"kill", EventKind::kKill},
      {"stop", EventKind::kStop},          {"restart", EventKind::kRestart}};
  static const std::set<std::string> kProcesses = {"ballastd", "learner", "global", "envoy"};
  fields.number("at_s", event.at_s, 0, 86400, true);
  std::string verb;
  for (const auto& [key, kind] : kKinds) {
    if (fields.has(key)) {
      if (!verb.empty()) {
        fields.fail(node, key, "an event does one thing, and this one has " + verb + " too");
      }
      verb = key;
      event.kind = kind;
      fields.name(key, event.target);
    }
  }
  if (verb.empty()) {
    fields.fail(node, "", "an event needs one of set_quota, kill_pod, add_pod, kill, stop, restart");
    return;
  }
  if (event.kind == EventKind::kSetQuota || event.kind == EventKind::kAddPod) {
    fields.number("quota", event.quota, kMinQuota, kMaxQuota, true);
  }
  if (event.kind == EventKind::kKill || event.kind == EventKind::kStop || event.kind == EventKind::kRestart) {
    if (!kProcesses.contains(event.target)) {
      fields.fail(node, verb, "\"" + event.target + "\" is not one of ballastd, learner, global, envoy");
    }
  } else if (event.kind == EventKind::kAddPod) {
    if (!alive.insert(event.target).second) {
      fields.fail(node, verb, "there is a pod " + event.target + " already");
    }
  } else {
    if (!alive.contains(event.target)) {
      fields.fail(node, verb, "there is no pod " + event.target + " at this time");
    }
    if (event.kind == EventKind::kKillPod) {
      alive.erase(event.target);
    }
  }
}

void read_events(const YAML::Node& node, const std::string& file, Scenario& scenario,
                 std::optional<Error>& error) {
  std::set<std::string> alive;
  for (const auto& pod : scenario.pods) {
    alive.insert(pod.name);
  }
  std::size_t i = 0;
  double last = 0;
  for (const auto& entry : node) {
    Fields fields(file, entry, "events[" + std::to_string(i++) + "].", error);
    Event event;
    read_event(entry, fields, alive, event);
    fields.finish();
    if (event.at_s < last) {
      fields.fail(entry, "at_s", "events have to stand in order of time");
    }
    last = event.at_s;
    scenario.events.push_back(event);
  }
}

void read_document(const YAML::Node& root, const std::string& file, Scenario& scenario,
                   std::optional<Error>& error) {
  Fields fields(file, root, "", error);
  fields.text("about", scenario.about, true);
  fields.name("namespace", scenario.ns);
  fields.name("service", scenario.service);
  fields.whole("period_ms", scenario.period_ms, 1, 1000);
  std::string server = "ps";
  fields.text("server", server);
  if (server != "ps" && server != "fifo") {
    fields.fail(root["server"], "server", "\"" + server + "\" is not one of ps, fifo");
  }
  scenario.server = server == "fifo" ? ServerKind::kFifo : ServerKind::kProcessorSharing;
  if (const auto demand = fields.get("demand"); demand.IsDefined()) {
    Fields inner(file, demand, "demand.", error);
    inner.number("mean_ms", scenario.demand_mean_ms, 0.01, 1000);
    inner.number("sigma", scenario.demand_sigma, 0, 3);
    inner.finish();
  }
  fields.number("load", scenario.load, 0.01, 2);
  fields.whole("sessions", scenario.sessions, 1, 1000000);
  fields.number("warmup_s", scenario.warmup_s, 0, 3600);
  fields.whole("tick_ms", scenario.tick_ms, 100, 60000);
  fields.flag("learner", scenario.learner);
  fields.number("exploration", scenario.exploration, 0, 1);
  const auto pods = fields.get("pods");
  const auto events = fields.get("events");
  fields.finish();
  if (!pods.IsDefined() || !pods.IsSequence() || pods.size() == 0 || pods.size() > 200) {
    fields.fail(pods, "pods", pods.IsDefined() ? "has to be a list of 1 to 200 pods" : "is missing");
    return;
  }
  read_pods(pods, file, scenario, error);
  if (events.IsDefined()) {
    if (!events.IsSequence()) {
      fields.fail(events, "events", "has to be a list");
      return;
    }
    read_events(events, file, scenario, error);
  }
}

}  // namespace

double Scenario::capacity_cores() const {
  double sum = 0;
  for (const auto& pod : pods) {
    sum += pod.quota;
  }
  return sum;
}

Result<Scenario> parse_scenario(const std::string& text, const std::string& file) {
  Scenario scenario;
  std::optional<Error> error;
  try {
    const YAML::Node root = YAML::Load(text);
    read_document(root, file, scenario, error);
  } catch (const YAML::Exception& e) {
    return Error::usage(file + ":" + std::to_string(std::max(e.mark.line + 1, 1)) + ": not YAML: " + e.msg);
  }
  if (error) {
    return *error;
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
