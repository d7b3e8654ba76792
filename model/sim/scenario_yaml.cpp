// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <sstream>

#include "core/base/file.h"
#include "core/yaml/section.h"
#include "model/sim/scenario.h"

namespace ballast::sim {
namespace {

/// `over` on top of `base`: mappings are joined key by key, everything else is replaced.
YAML::Node joined(const YAML::Node& base, const YAML::Node& over) {
  if (!base.IsDefined() || !base.IsMap() || !over.IsMap()) {
    return over;
  }
  YAML::Node result(YAML::NodeType::Map);
  // By text: yaml-cpp takes two key nodes of two maps for different keys.
  for (const auto& item : base) {
    result[item.first.Scalar()] = item.second;
  }
  const YAML::Node& readable = base;
  for (const auto& item : over) {
    result[item.first.Scalar()] = joined(readable[item.first.Scalar()], item.second);
  }
  return result;
}

/// Numbers of a text file, parted by anything that is not a number; relative to the scenario's folder.
std::vector<double> read_trace(YamlSection& section, const std::string& key,
                               const std::string& scenario_file) {
  const std::string name = section.text(key, "");
  if (name.empty()) {
    return {};
  }
  const auto path = std::filesystem::path(scenario_file).parent_path() / name;
  const auto bytes = read_file(path);
  if (!bytes) {
    section.fail(key, bytes.error().message);
    return {};
  }
  std::vector<double> values;
  std::istringstream lines(*bytes);
  for (double value = 0; lines >> value;) {
    values.push_back(value);
  }
  if (!lines.eof() || values.empty()) {
    section.fail(key, fmt::format("{} has to hold numbers, one a line", path.string()));
  }
  return values;
}

ServerSpec read_server(YamlSection& section) {
  ServerSpec spec;
  spec.speed = section.number("speed", 1, 1e-6, 1e6);
  spec.workers = static_cast<std::uint32_t>(section.whole("workers", 1, 1, 100'000));
  spec.zone = static_cast<std::uint32_t>(section.whole("zone", 0, 0, 1000));
  spec.weight = section.number("weight", 0);
  spec.limit = section.number("limit", 0, 1e-6, 1e6);
  spec.serial = section.flag("serial", false);
  spec.wait_factor = section.number("wait_factor", 1, 1e-3, 1e3);
  if (spec.serial && spec.workers > 1) {
    section.fail("serial", fmt::format("one request at a time, and workers: {}", spec.workers));
  }
  return spec;
}

std::vector<ServerSpec> read_servers(YamlSection& parent, const std::string& key) {
  std::vector<ServerSpec> servers;
  for (auto& section : parent.list(key)) {
    const auto count = section.whole("count", 1, 1, 100'000);
    servers.insert(servers.end(), count, read_server(section));
    section.refuse_unknown();
  }
  return servers;
}

void read_service(YamlSection& root, const std::string& file, Scenario& scenario) {
  auto section = root.section("service");
  if (!section) {
    root.fail("service", "is missing: the law of the works");
    return;
  }
  LawSpec& law = scenario.service;
  law.kind = static_cast<LawSpec::Kind>(
      section->choice("law", {"constant", "exponential", "lognormal", "pareto", "bimodal", "trace"}, 2));
  law.mean_s = section->number("mean_ms", 10, 1e-6) / 1000;
  law.cv = section->number("cv", 1, 1e-6, 100);
  law.shape = section->number("shape", 1.5, 1.01, 100);
  law.long_share = section->number("long_share", 0.05, 0, 1);
  law.long_factor = section->number("long_factor", 20, 1);
  scenario.wait.mean_s = section->number("wait_ms", 0, 0, 1e6) / 1000;
  scenario.wait.cv = section->number("wait_cv", 1, 1e-6, 100);
  if (scenario.wait.mean_s <= 0 && section->has("wait_cv")) {
    section->fail("wait_cv", "says nothing without wait_ms");
  }
  law.trace_s = section->numbers("trace_ms", 1e-6);
  for (const double work : read_trace(*section, "trace_file", file)) {
    law.trace_s.push_back(work);
  }
  for (double& work : law.trace_s) {
    work /= 1000;
    if (work <= 0) {
      section->fail("trace_file", "a work has to be greater than 0 ms");
    }
  }
  if ((law.kind == LawSpec::Kind::kTrace) == law.trace_s.empty()) {
    section->fail("law", "trace asks for trace_ms or trace_file, and only trace takes them");
  }
  section->refuse_unknown();
}

std::vector<Point> read_points(YamlSection& section, const std::string& key) {
  std::vector<Point> points;
  for (const auto& row : section.table(key)) {
    if (row.size() != 2 || (!points.empty() && row[0] <= points.back().at_s)) {
      section.fail(key, "has to be a list of [second, factor], seconds rising");
      return {};
    }
    points.push_back({row[0], row[1]});
  }
  if (!points.empty() &&
      std::all_of(points.begin(), points.end(), [](const Point& p) { return p.factor <= 0; })) {
    section.fail(key, "has to have a factor greater than 0");
  }
  return points;
}

void read_arrivals(YamlSection& root, const std::string& file, Scenario& scenario) {
  auto section = root.section("arrivals");
  if (!section) {
    root.fail("arrivals", "is missing: rate_rps, rho or a trace");
    return;
  }
  ArrivalSpec& a = scenario.arrivals;
  a.rate_rps = section->number("rate_rps", 0, 1e-6);
  a.rho = section->number("rho", 0, 1e-6);
  a.steps = read_points(*section, "steps");
  a.ramp = read_points(*section, "ramp");
  for (auto& spike : section->list("spikes")) {
    a.spikes.push_back({spike.number("at_s", 0), spike.number("duration_s", 1, 1e-6),
                        spike.number("factor", 2), spike.number("every_s", 0)});
    spike.refuse_unknown();
  }
  if (auto diurnal = section->section("diurnal")) {
    a.diurnal_period_s = diurnal->number("period_s", 60, 1e-6);
    a.diurnal_amplitude = diurnal->number("amplitude", 0.5, 0, 1);
    diurnal->refuse_unknown();
  }
  for (auto& state : section->list("mmpp")) {
    a.mmpp.push_back({state.number("factor", 1), state.number("mean_s", 1, 1e-6)});
    state.refuse_unknown();
  }
  if (!a.mmpp.empty() &&
      std::all_of(a.mmpp.begin(), a.mmpp.end(), [](const MmppState& s) { return s.factor <= 0; })) {
    section->fail("mmpp", "has to have a state with a factor greater than 0");
  }
  a.trace_s = section->numbers("trace_s");
  for (const double at : read_trace(*section, "trace_file", file)) {
    a.trace_s.push_back(at);
  }
  if (!std::is_sorted(a.trace_s.begin(), a.trace_s.end())) {
    section->fail(section->has("trace_file") ? "trace_file" : "trace_s", "arrival times have to rise");
  }
  const int given = (a.rate_rps > 0) + (a.rho > 0) + !a.trace_s.empty();
  if (given != 1) {
    section->fail(a.rho > 0 ? "rho" : "rate_rps", "exactly one of rate_rps, rho and a trace has to be given");
  }
  section->refuse_unknown();
}

void check_servers(YamlSection& section, const std::string& key, const std::vector<std::uint32_t>& servers,
                   std::size_t limit) {
  for (const auto server : servers) {
    if (server >= limit) {
      section.fail(key, fmt::format("there is no server {}; the last is {}", server, limit - 1));
    }
  }
}

void read_churn(YamlSection& root, Scenario& scenario) {
  std::size_t known = scenario.servers.size();
  for (auto& section : root.list("churn")) {
    Churn churn;
    churn.at_s = section.number("at_s", 0);
    churn.add = read_servers(section, "add");
    churn.remove = section.indices("remove");
    churn.cold_factor = section.number("cold_factor", 1, 1, 1000);
    churn.cold_decay_s = section.number("cold_decay_s", 0);
    check_servers(section, "remove", churn.remove, known);
    known += churn.add.size();
    if (!scenario.churn.empty() && churn.at_s < scenario.churn.back().at_s) {
      section.fail("at_s", "events have to be in order of time");
    }
    if (churn.add.empty() && churn.remove.empty()) {
      section.fail("add", "neither add nor remove is given");
    }
    section.refuse_unknown();
    scenario.churn.push_back(std::move(churn));
  }
}

std::size_t servers_ever(const Scenario& scenario) {
  std::size_t n = scenario.servers.size();
  for (const auto& churn : scenario.churn) {
    n += churn.add.size();
  }
  return n;
}

void check_periodic(YamlSection& section, const Slowness& slow) {
  if (slow.kind != Slowness::Kind::kPeriodic) {
    for (const char* key : {"phase_s", "jitter_s", "stagger_s"}) {
      if (section.has(key)) {
        section.fail(key, "only kind: periodic takes it");
      }
    }
    return;
  }
  if (slow.every_s <= 0 || slow.duration_s <= 0) {
    section.fail("kind", "periodic asks for every_s and duration_s");
  } else if (slow.duration_s + slow.jitter_s >= slow.every_s) {
    section.fail(slow.duration_s >= slow.every_s ? "duration_s" : "jitter_s",
                 fmt::format("{} s long and up to {} s late do not fit into every_s: {}", slow.duration_s,
                             slow.jitter_s, slow.every_s));
  }
}

void read_slowness(YamlSection& root, Scenario& scenario) {
  for (auto& section : root.list("slowness")) {
    Slowness slow;
    slow.kind =
        static_cast<Slowness::Kind>(section.choice("kind", {"set", "rotate", "pause", "periodic"}, 0));
    slow.shows = static_cast<Slowness::Shows>(section.choice("shows", {"wait", "work", "io"}, 0));
    slow.factor = section.number("factor", slow.kind == Slowness::Kind::kPause ? 0 : 0.5, 0, 100);
    slow.servers = section.indices("servers");
    slow.count = static_cast<std::uint32_t>(section.whole("count", 0, 0, 100'000));
    slow.every_s = section.number("every_s", 0, 1e-3);
    slow.duration_s = section.number("duration_s", 0, 1e-6);
    slow.phase_s = section.number("phase_s", 0);
    slow.jitter_s = section.number("jitter_s", 0);
    slow.stagger_s = section.number("stagger_s", 0);
    slow.at_s = section.number("at_s", 0);
    slow.until_s = section.number("until_s", 0);
    check_servers(section, "servers", slow.servers, servers_ever(scenario));
    if (slow.kind == Slowness::Kind::kRotate && (slow.count == 0 || slow.every_s <= 0)) {
      section.fail("kind", "rotate asks for count and every_s");
    }
    if (slow.kind == Slowness::Kind::kPause && (slow.duration_s <= 0 || slow.every_s <= 0)) {
      section.fail("kind", "pause asks for every_s and duration_s");
    }
    check_periodic(section, slow);
    if (slow.shows == Slowness::Shows::kIo && scenario.wait.mean_s <= 0) {
      section.fail("shows", "io asks for service.wait_ms");
    }
    if (slow.shows == Slowness::Shows::kWait && slow.factor > 1) {
      section.fail("factor",
                   "other tenants cannot make a pod faster than its limit: more than 1 with shows: wait");
    }
    section.refuse_unknown();
    scenario.slowness.push_back(std::move(slow));
  }
}

void read_faults(YamlSection& root, Scenario& scenario) {
  for (auto& section : root.list("faults")) {
    Fault fault;
    fault.kind = static_cast<Fault::Kind>(section.choice("kind", {"fast_fail", "black_hole"}, 0));
    fault.servers = section.indices("servers");
    fault.at_s = section.number("at_s", 0);
    fault.until_s = section.number("until_s", 0);
    fault.probability = section.number("probability", 1, 0, 1);
    fault.latency_s = section.number("latency_ms", 1, 0) / 1000;
    check_servers(section, "servers", fault.servers, servers_ever(scenario));
    if (fault.servers.empty()) {
      section.fail("servers", "is missing");
    }
    section.refuse_unknown();
    scenario.faults.push_back(std::move(fault));
  }
}

void read_zones(YamlSection& root, Scenario& scenario) {
  std::uint32_t zones = 0;
  if (auto section = root.section("zones")) {
    scenario.zone_delay_s = section->table("delay_ms");
    for (auto& row : scenario.zone_delay_s) {
      for (double& each : row) {
        each /= 1000;
      }
      if (row.size() != scenario.zone_delay_s.size()) {
        section->fail("delay_ms", "has to be square: a row a client's zone, a column a server's");
      }
    }
    zones = static_cast<std::uint32_t>(scenario.zone_delay_s.size());
    section->refuse_unknown();
  }
  const auto outside = [&](const ServerSpec& s) { return s.zone >= std::max(zones, 1U); };
  bool wrong = std::any_of(scenario.servers.begin(), scenario.servers.end(), outside);
  for (const auto& churn : scenario.churn) {
    wrong = wrong || std::any_of(churn.add.begin(), churn.add.end(), outside);
  }
  if (wrong) {
    root.fail("servers", "a server's zone is not in zones.delay_ms");
  }
}

void read_telemetry(YamlSection& root, Scenario& scenario) {
  auto section = root.section("telemetry");
  if (!section) {
    return;
  }
  TelemetrySpec& t = scenario.telemetry;
  t.delay_s = section->number("delay_s", 0);
  t.noise_cv = section->number("noise_cv", 0, 0, 10);
  t.loss = section->number("loss", 0, 0, 1);
  t.zeros = section->number("zeros", 0, 0, 1);
  t.frozen_from_s = section->has("frozen_from_s") ? section->number("frozen_from_s", 0) : -1;
  t.dead_from_s = section->has("dead_from_s") ? section->number("dead_from_s", 0) : -1;
  t.lease_s = section->number("lease_s", t.lease_s, 0, 1e6);
  t.tick_s = section->number("tick_s", 0, 0.01, 3600);
  section->refuse_unknown();
}

void read_length(YamlSection& root, Scenario& scenario) {
  scenario.requests = root.whole("requests", 0, 1, 1'000'000'000);
  scenario.duration_s = root.number("duration_s", 0, 1e-3, 1e7);
  scenario.warmup_s = root.number("warmup_s", 0);
  if ((scenario.requests > 0) == (scenario.duration_s > 0)) {
    root.fail("duration_s", "exactly one of requests and duration_s has to be given");
  }
}

void read_client_side(YamlSection& root, Scenario& scenario) {
  scenario.clients = static_cast<std::uint32_t>(root.whole("clients", 1, 1, 10'000));
  scenario.deadline_s = root.number("deadline_ms", 0, 1e-3) / 1000;
  scenario.try_timeout_s = root.number("try_timeout_ms", 0, 1e-3) / 1000;
  scenario.retries = static_cast<std::uint32_t>(root.whole("retries", 0, 0, 100));
  scenario.backoff_s = root.number("backoff_ms", 25) / 1000;
  scenario.cancel = root.flag("cancel", false);
  scenario.overload = root.flag("overload", false);
  scenario.eds_delay_s = root.number("eds_delay_ms", 100) / 1000;
  if (auto keys = root.section("keys")) {
    scenario.sources = static_cast<std::uint32_t>(keys->whole("sources", 1000, 1));
    scenario.paths = static_cast<std::uint32_t>(keys->whole("paths", 200, 1));
    keys->refuse_unknown();
  }
}

/// Keys of the servers that the service contradicts; the file's list is gone through once more for
/// their lines.
void check_limits(YamlSection& root, const Scenario& scenario) {
  for (auto& section : root.list("servers")) {
    const ServerSpec server = read_server(section);
    const double used = carried_work(server, scenario);
    if (server.limit > 0 && server.limit < used * (1 - 1e-9)) {
      section.fail("limit",
                   fmt::format("{} CPUs, and at full load its requests use {:.3g}", server.limit, used));
    }
    if (server.wait_factor != 1 && scenario.wait.mean_s <= 0) {
      section.fail("wait_factor", "says nothing without service.wait_ms");
    }
  }
}

void check_load(YamlSection& root, const Scenario& scenario) {
  const double load = mean_load(scenario);
  if (load >= 1 && scenario.deadline_s <= 0 && !scenario.overload) {
    root.fail("arrivals",
              fmt::format("mean load {:.2f} is not below 1 and there is no deadline, so queues grow "
                          "without end; set deadline_ms, or overload: true if that is meant",
                          load));
  }
  if (scenario.warmup_s >= expected_duration(scenario)) {
    root.fail("warmup_s", fmt::format("the run is over after {:.1f} s", expected_duration(scenario)));
  }
}

Scenario read(YamlSection& root, const std::string& file, YamlErrors& errors) {
  Scenario scenario;
  scenario.title = root.text("title", "");
  root.has("variants");
  read_length(root, scenario);
  scenario.discipline = static_cast<Discipline>(root.choice("discipline", {"ps", "fifo"}, 0));
  scenario.servers = read_servers(root, "servers");
  if (scenario.servers.empty()) {
    root.fail("servers", "is missing: at least one server");
  }
  read_service(root, file, scenario);
  read_arrivals(root, file, scenario);
  read_client_side(root, scenario);
  read_churn(root, scenario);
  read_slowness(root, scenario);
  read_faults(root, scenario);
  read_zones(root, scenario);
  read_telemetry(root, scenario);
  root.refuse_unknown();
  if (!errors.first()) {
    check_limits(root, scenario);
  }
  if (!errors.first()) {
    check_load(root, scenario);
  }
  return scenario;
}

}  // namespace

Result<std::vector<std::string>> scenario_variants(const std::string& text, const std::string& file) {
  YamlErrors errors(file);
  const auto root = load_yaml(text, errors);
  if (!root) {
    return root.error();
  }
  std::vector<std::string> names;
  if (root->IsMap()) {
    const YAML::Node& readable = *root;
    for (const auto& item : readable["variants"]) {
      names.push_back(item.first.Scalar());
    }
  }
  return names;
}

Result<Scenario> parse_scenario(const std::string& text, const std::string& file,
                                const std::string& variant) {
  YamlErrors errors(file);
  auto root = load_yaml(text, errors);
  if (!root) {
    return root.error();
  }
  YAML::Node tree = *root;
  if (!variant.empty()) {
    const YAML::Node& readable = tree;
    const YAML::Node over =
        tree.IsMap() && readable["variants"] ? readable["variants"][variant] : YAML::Node();
    if (!over.IsDefined() || !over.IsMap()) {
      const auto names = scenario_variants(text, file);
      return Error::usage(fmt::format("{}: there is no variant '{}'; known: {}", file, variant,
                                      names ? fmt::format("{}", fmt::join(*names, ", ")) : ""));
    }
    tree = joined(tree, over);
  }
  YamlSection section(tree, "", errors);
  if (errors.first()) {
    return *errors.first();
  }
  Scenario scenario = read(section, file, errors);
  if (errors.first()) {
    return *errors.first();
  }
  const std::string stem = std::filesystem::path(file).stem().string();
  scenario.name = variant.empty() ? stem : stem + ":" + variant;
  return scenario;
}

namespace {

Result<Scenario> load_builtin(const BuiltinScenario& builtin, const std::string& variant) {
  auto scenario = parse_scenario(builtin.text, builtin.file, variant);
  if (scenario) {
    scenario->name = variant.empty() ? builtin.name : builtin.name + ":" + variant;
  }
  return scenario;
}

}  // namespace

Result<Scenario> load_scenario(const std::string& reference) {
  const std::size_t colon = reference.rfind(':');
  const std::string name = reference.substr(0, colon);
  const std::string variant = colon == std::string::npos ? "" : reference.substr(colon + 1);
  std::uint64_t seed = 0;
  const auto [end, error] = std::from_chars(variant.data(), variant.data() + variant.size(), seed);
  if (name == "random" && !variant.empty() && error == std::errc() && *end == '\0') {
    return random_world(seed);
  }
  if (name == "habit" && !variant.empty() && error == std::errc() && *end == '\0') {
    return habit_world(seed);
  }
  std::string known;
  for (const auto& builtin : builtin_scenarios()) {
    if (builtin.name == name) {
      return load_builtin(builtin, variant);
    }
    known += (known.empty() ? "" : ", ") + builtin.name;
  }
  for (const auto& [path, part] : {std::pair{reference, std::string()}, std::pair{name, variant}}) {
    if (std::filesystem::is_regular_file(path)) {
      const auto text = read_file(path);
      return text ? parse_scenario(*text, path, part) : Result<Scenario>(text.error());
    }
  }
  return Error::usage("there is no scenario '" + reference +
                      "' (neither a file nor built in); built in: " + known);
}

}  // namespace ballast::sim
