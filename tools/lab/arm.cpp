// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/arm.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <sstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/statistics.h"
#include "tools/lab/envoy.h"
#include "tools/lab/external_client.h"
#include "tools/lab/kernel_view.h"
#include "tools/lab/plane.h"

namespace ballast::lab {

namespace {

namespace fs = std::filesystem;
using std::chrono::milliseconds;

constexpr auto kPoll = milliseconds(100);
constexpr auto kFinePoll = milliseconds(20);  // for a while after an event
constexpr double kFineFor = 5;
constexpr int kReadyMs = 120000;  // a busy machine takes a minute to load the probes
constexpr double kSettledWithin = 0.10;

/// A counter that may start again from zero with a new Envoy.
struct Counter {
  std::uint64_t last = 0;
  std::uint64_t total = 0;
  void see(std::uint64_t now) {
    total += now >= last ? now - last : now;
    last = now;
  }
};

struct PodTrack {
  Counter requests;
  std::uint64_t at_window = 0;
  double cpu_at_window = 0;
  double quota_s_used = 0;  ///< quota integrated over the window
  double cpu_end = 0;
  std::uint64_t active = 0;
  std::uint64_t shown_requests = 0;
  double shown_cpu = 0;
};

/// What the loop asks of a load, whoever makes it.
struct LoadView {
  std::function<bool()> finished;
  std::function<LoadSnapshot()> snapshot;
};

class Arm {
 public:
  Arm(const ArmSetting& setting, PodFleet& pods, const ArmPolicy& policy, LiveTable& live)
      : setting_(setting),
        scenario_(setting.scenario),
        pods_(pods),
        policy_(policy),
        live_(live),
        kernel_(setting.space.bpffs(), setting.space.layout().v2) {}

  Result<RunResult> run(int round, std::uint64_t seed);

 private:
  bool by_ballast() const { return policy_.weights == WeightSource::kBallast; }
  double clock_s() const { return static_cast<double>(clock_.now() - zero_) * 1e-9; }
  Status set_up(int round);
  Status start_envoy();
  Status publish();
  Status generate(std::uint64_t seed);
  Status run_client(std::uint64_t seed);
  void open_load(double first_request_s);
  Status loop(const LoadView& load);
  Status fire(EventResult& result);
  Status fire_process(const Event& event);
  void poll_weights();
  void read_cpu(double dt_s, bool in_window);
  void begin_track(const PodFleet::Member& member);
  void open_window();
  const std::map<std::string, KernelPod>& read_kernel();
  void show(const LoadView& load, double dt_s);
  void finish_processes();
  void finish_pods();
  void read_access_log();
  std::map<std::string, std::string> cgroups() const;

  const ArmSetting& setting_;
  const Scenario& scenario_;
  PodFleet& pods_;
  const ArmPolicy& policy_;
  LiveTable& live_;
  double printed_s_ = -1e9;
  KernelView kernel_;
  std::map<std::string, KernelPod> seen_by_kernel_;
  SystemClock clock_;
  MonotonicNs zero_ = 0;
  fs::path folder_;
  std::unique_ptr<ControlPlane> plane_;
  EnvoyOptions envoy_options_;
  std::optional<Envoy> envoy_;
  bool envoy_wanted_ = true;
  std::uint64_t eds_version_ = 0;
  std::map<std::string, PodTrack> tracks_;
  std::map<std::string, double> process_cpu_;
  RunResult result_;
};

std::map<std::string, std::string> Arm::cgroups() const {
  std::map<std::string, std::string> out;
  for (const auto& [name, endpoint] : pods_.known()) {
    out[name] = "/" + setting_.space.cgroup(name);
  }
  return out;
}

Status Arm::publish() {
  if (by_ballast()) {
    return write_file_atomic(plane_->identity_file(), pods_.identity_yaml());
  }
  std::vector<double> quotas;
  for (const auto& member : pods_.members()) {
    quotas.push_back(scenario_.carried_rps(member.spec) * scenario_.demand_mean_ms * 1e-3);
  }
  const auto weights = weights_by_hand(policy_.weights, quotas, scenario_.load * scenario_.capacity_cores());
  std::vector<EdsEndpoint> endpoints;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    endpoints.push_back({pods_.members()[i].endpoint, weights[i]});
  }
  return write_eds_file(envoy_options_.eds_file, envoy_options_.eds_service, endpoints, ++eds_version_);
}

Status Arm::start_envoy() {
  auto envoy = Envoy::start(envoy_options_);
  if (!envoy) {
    return envoy.error();
  }
  envoy_ = std::move(*envoy);
  envoy_wanted_ = true;
  return ok();
}

Status Arm::set_up(int round) {
  folder_ = setting_.space.folder() / fmt::format("{}-{}", policy_.name, round);
  std::error_code error;
  fs::create_directories(folder_ / "eds", error);
  const auto cgroup = setting_.space.layout().v2 / setting_.space.cgroup("_envoy");
  fs::create_directories(cgroup, error);
  if (error) {
    return Error::failed("making " + cgroup.string() + ": " + error.message());
  }
  if (auto fresh = pods_.reset(policy_.reports); !fresh) {
    return fresh;
  }
  for (const auto& member : pods_.members()) {
    begin_track(member);
  }
  envoy_options_.binary = setting_.envoy;
  envoy_options_.folder = folder_;
  envoy_options_.cgroup = cgroup;
  envoy_options_.listener = {setting_.space.address(0, 1), 10000};
  envoy_options_.admin = {setting_.space.address(0, 1), 9901};
  envoy_options_.lb_policy = policy_.lb_policy;
  envoy_options_.eds_service = scenario_.ns + "/" + scenario_.service;
  if (setting_.access_log) {
    envoy_options_.access_log = folder_ / "access.log";
  }
  if (by_ballast()) {
    envoy_options_.eds_server = ControlPlane::xds(setting_.space);
    plane_ = std::make_unique<ControlPlane>(scenario_, setting_.space, folder_.string(), policy_);
  } else {
    envoy_options_.eds_file = folder_ / "eds" / "web.json";
  }
  if (auto published = publish(); !published) {
    return published;
  }
  zero_ = clock_.now();
  if (plane_) {
    if (auto started = plane_->start(); !started) {
      return started;
    }
  }
  if (auto started = start_envoy(); !started) {
    return started;
  }
  auto ready = envoy_->wait_ready(pods_.members().size(), kReadyMs);
  if (plane_) {
    if (auto alive = plane_->check(); !alive) {
      return alive;
    }
  }
  return ready;
}

void Arm::poll_weights() {
  const auto hosts = envoy_->hosts();
  if (!hosts || hosts->empty()) {
    return;  // Envoy is being restarted
  }
  WeightPoint point{clock_s(), {}};
  for (const auto& host : *hosts) {
    const auto name = pods_.name_of(host.endpoint);
    auto& track = tracks_[name];
    track.requests.see(host.rq_total);
    track.active = host.rq_active;
    point.weights[name] = host.weight;
  }
  if (result_.timeline.empty() || result_.timeline.back().weights != point.weights) {
    result_.timeline.push_back(std::move(point));
  }
}

void Arm::read_cpu(double dt_s, bool in_window) {
  for (const auto& member : pods_.members()) {
    auto& track = tracks_[member.spec.name];
    if (const auto used = member.cgroup.cpu_seconds()) {
      track.cpu_end = *used;
    }
    track.quota_s_used += in_window ? member.spec.quota * dt_s : 0;
  }
}

/// Cgroups outlive the arms, so their CPU time does not begin at zero.
void Arm::begin_track(const PodFleet::Member& member) {
  auto& track = tracks_[member.spec.name];
  if (const auto used = member.cgroup.cpu_seconds()) {
    track.cpu_at_window = track.cpu_end = track.shown_cpu = *used;
  }
}

void Arm::open_window() {
  for (const auto& member : pods_.members()) {
    auto& track = tracks_[member.spec.name];
    track.at_window = track.requests.total;
    track.cpu_at_window = track.cpu_end;
  }
  if (plane_) {
    for (const auto& [name, pid] : plane_->running()) {
      if (const auto figures = process_figures(pid)) {
        process_cpu_[name] = figures->cpu_s;
      }
    }
  }
}

Status Arm::fire_process(const Event& event) {
  const bool start = event.kind == EventKind::kRestart;
  if (event.target == "envoy") {
    if (start) {
      return start_envoy();
    }
    envoy_wanted_ = false;
    envoy_->process().stop(milliseconds(0));
    return ok();
  }
  if (start) {
    return plane_->restart(event.target);
  }
  if (event.kind == EventKind::kStop) {
    plane_->terminate(event.target);
  } else {
    plane_->kill(event.target);
  }
  return ok();
}

Status Arm::fire(EventResult& result) {
  const Event& event = result.event;
  result.t_s = clock_s();
  read_kernel();
  if (event.kind == EventKind::kKill || event.kind == EventKind::kStop || event.kind == EventKind::kRestart) {
    result.done = event.target == "envoy" || (plane_ && plane_->has(event.target));
    return result.done ? fire_process(event) : ok();
  }
  result.done = true;
  if (event.kind == EventKind::kKillPod) {
    pods_.kill(event.target);
    return publish();
  }
  const auto changed = event.kind == EventKind::kSetQuota ? pods_.set_quota(event.target, event.quota)
                                                          : pods_.add({event.target, event.quota});
  if (!changed) {
    return changed;
  }
  if (event.kind == EventKind::kAddPod) {
    begin_track(pods_.members().back());
  }
  // Nobody tells Ballast of a quota; only the hand that sets the oracle's weights knows it.
  return event.kind == EventKind::kSetQuota && by_ballast() ? ok() : publish();
}

/// Also those of pods that have gone, as they were last: ballastd forgets them after some minutes.
const std::map<std::string, KernelPod>& Arm::read_kernel() {
  if (plane_) {
    for (auto& [name, pod] : kernel_.read(cgroups())) {
      seen_by_kernel_[name] = std::move(pod);
    }
  }
  return seen_by_kernel_;
}

void Arm::show(const LoadView& load, double dt_s) {
  const auto& kernel = read_kernel();
  std::vector<LiveRow> rows;
  for (const auto& member : pods_.members()) {
    const auto& name = member.spec.name;
    auto& track = tracks_[name];
    LiveRow row;
    row.service = scenario_.ns + "/" + scenario_.service;
    row.pod = name;
    row.quota = member.spec.quota;
    row.cpu_cores = std::max(0.0, track.cpu_end - track.shown_cpu) / dt_s;
    row.rps = static_cast<double>(track.requests.total - track.shown_requests) / dt_s;
    row.in_flight = static_cast<std::int64_t>(track.active);
    if (!result_.timeline.empty()) {
      const auto& weights = result_.timeline.back().weights;
      const auto found = weights.find(name);
      row.weight = found == weights.end() ? 0 : found->second;
    }
    if (const auto found = kernel.find(name); found != kernel.end()) {
      row.rps = found->second.rps > 0 ? found->second.rps : row.rps;  // 0 at the first reading
      row.p50_ms = found->second.p50_ms;
      row.p99_ms = found->second.p99_ms;
      row.in_flight = found->second.in_flight;
      row.why = found->second.why;
    } else {
      row.why =
          "Envoy " + policy_.lb_policy + (policy_.weights == WeightSource::kEqual ? "" : ", weights by hand");
    }
    track.shown_cpu = track.cpu_end;
    track.shown_requests = track.requests.total;
    rows.push_back(std::move(row));
  }
  if (setting_.looks) {
    result_.looks.push_back(
        {1e-3 * static_cast<double>(std::chrono::duration_cast<std::chrono::milliseconds>(
                                        std::chrono::system_clock::now().time_since_epoch())
                                        .count()),
         rows});
  }
  const double t = clock_s() - result_.window_begin_s;
  if (live_.mode() == LiveTable::Mode::kOff || clock_s() - printed_s_ < live_.interval_s()) {
    return;
  }
  printed_s_ = clock_s();
  const auto seen = load.snapshot();
  live_.show(fmt::format("{}  {}  {}  sent {}  failed {}  client p50 {:.1f} ms, p99 {:.1f} ms",
                         scenario_.name, policy_.name,
                         t < 0 ? fmt::format("warm-up, {:.0f} s to go", -t) : fmt::format("{:.0f} s", t),
                         seen.sent, seen.errors, seen.p50_ms, seen.p99_ms),
             rows);
}

Status Arm::loop(const LoadView& load) {
  const double window_begin_s = result_.window_begin_s;
  const double window_end_s = window_begin_s + setting_.duration_s;
  bool opened = false;
  std::size_t next_event = 0;
  double last_event_s = -1e9;
  double last_s = clock_s();
  double shown_s = last_s;
  while (!load.finished()) {
    if (setting_.interrupted) {
      return Error::failed("interrupted");
    }
    while (next_event < result_.events.size() &&
           clock_s() >= window_begin_s + result_.events[next_event].event.at_s) {
      if (auto fired = fire(result_.events[next_event]); !fired) {
        return fired;
      }
      last_event_s = result_.events[next_event++].t_s;
    }
    poll_weights();
    const double now = clock_s();
    const bool in_window = now >= window_begin_s && now < window_end_s;
    if (now < window_end_s || !opened) {
      read_cpu(now - last_s, in_window && opened);
    }
    if (!opened && now >= window_begin_s) {
      opened = true;
      open_window();
    }
    last_s = now;
    if (plane_) {
      if (auto alive = plane_->check(); !alive) {
        return alive;
      }
    }
    if (envoy_wanted_ && !envoy_->process().running()) {
      return Error::failed("Envoy has ended; its log is " + (folder_ / "envoy.log").string() +
                           " (use --keep)");
    }
    if (now - shown_s >= (setting_.looks ? 1.0 : live_.interval_s()) && now < window_end_s) {
      if (setting_.looks || live_.mode() != LiveTable::Mode::kOff) {
        show(load, now - shown_s);
      }
      shown_s = now;
    }
    double pause_s = 1e-3 * static_cast<double>((now - last_event_s < kFineFor ? kFinePoll : kPoll).count());
    if (next_event < result_.events.size()) {
      pause_s = std::clamp(window_begin_s + result_.events[next_event].event.at_s - now, 0.0, pause_s);
    }
    std::this_thread::sleep_for(std::chrono::duration<double>(pause_s));
  }
  return ok();
}

void Arm::finish_processes() {
  if (!plane_) {
    return;
  }
  for (const auto& [name, pid] : plane_->running()) {
    if (const auto figures = process_figures(pid)) {
      const auto before = process_cpu_.find(name);
      // A process that was started anew in the window has less behind it than its predecessor had.
      const double since =
          before != process_cpu_.end() && before->second <= figures->cpu_s ? before->second : 0;
      result_.processes.push_back(
          {name, figures->rss_peak_mb, 1000 * (figures->cpu_s - since) / (setting_.duration_s)});
    }
  }
}

void Arm::finish_pods() {
  const auto& kernel = read_kernel();
  for (const auto& [name, endpoint] : pods_.known()) {
    const auto& track = tracks_[name];
    PodResult pod;
    pod.pod = name;
    pod.requests = track.requests.total - track.at_window;
    pod.requests_total = track.requests.total;
    pod.utilisation = track.quota_s_used > 0 ? (track.cpu_end - track.cpu_at_window) / track.quota_s_used : 0;
    for (const auto& member : pods_.members()) {
      pod.quota = member.spec.name == name ? member.spec.quota : pod.quota;
    }
    if (!result_.timeline.empty() && result_.timeline.back().weights.contains(name)) {
      pod.weight = result_.timeline.back().weights.at(name);
    }
    if (const auto found = kernel.find(name); found != kernel.end()) {
      pod.kernel = PodAccuracy{found->second.requests, found->second.last_byte.quantile_ns(0.5) * 1e-6,
                               found->second.last_byte.quantile_ns(0.99) * 1e-6,
                               found->second.first_byte.quantile_ns(0.5) * 1e-6,
                               found->second.first_byte.quantile_ns(0.99) * 1e-6};
    }
    result_.pods.push_back(std::move(pod));
  }
}

void Arm::read_access_log() {
  const auto text = read_file(envoy_options_.access_log);
  if (!text) {
    return;
  }
  std::map<std::string, std::pair<std::vector<double>, std::vector<double>>> by_host;
  std::istringstream lines(*text);
  std::string host;
  std::string status;
  std::string first;
  std::string last;
  while (lines >> host >> status >> first >> last) {
    if (status == "200" && first != "-" && last != "-") {
      by_host[host].first.push_back(std::strtod(first.c_str(), nullptr) * 1e-3);
      by_host[host].second.push_back(std::strtod(last.c_str(), nullptr) * 1e-3);
    }
  }
  for (auto& pod : result_.pods) {
    for (const auto& [name, endpoint] : pods_.known()) {
      if (name == pod.pod && by_host.contains(endpoint.text())) {
        auto& [to_first, to_last] = by_host[endpoint.text()];
        std::sort(to_first.begin(), to_first.end());
        std::sort(to_last.begin(), to_last.end());
        pod.upstream_first_p50_ms = nearest_rank_of_sorted(to_first, 0.5);
        pod.upstream_first_p99_ms = nearest_rank_of_sorted(to_first, 0.99);
        pod.upstream_last_p50_ms = nearest_rank_of_sorted(to_last, 0.5);
        pod.upstream_last_p99_ms = nearest_rank_of_sorted(to_last, 0.99);
      }
    }
  }
}

void Arm::open_load(double first_request_s) {
  result_.first_request_s = first_request_s;
  result_.window_begin_s = first_request_s + scenario_.warmup_s;
}

Status Arm::generate(std::uint64_t seed) {
  LoadOptions options;
  options.target = envoy_options_.listener;
  options.seconds = scenario_.warmup_s + setting_.duration_s;
  options.drain_s = setting_.drain_s;
  options.arrivals =
      make_arrivals({scenario_.rate(), options.seconds, scenario_.demand_mean_ms, scenario_.demand_sigma,
                     scenario_.sessions, seed, scenario_.wait_ms, scenario_.wait_sigma});
  const auto arrivals = options.arrivals;
  auto load = Generator::start(std::move(options));
  if (!load) {
    return load.error();
  }
  open_load(static_cast<double>((*load)->began() - zero_) * 1e-9);
  if (auto done = loop({[&] { return (*load)->finished(); }, [&] { return (*load)->snapshot(); }}); !done) {
    return done;
  }
  poll_weights();
  finish_processes();
  add_answers(result_, arrivals, (*load)->wait(), static_cast<std::uint64_t>(scenario_.warmup_s * 1e9),
              ~0ULL);
  return ok();
}

Status Arm::run_client(std::uint64_t seed) {
  auto client = ExternalClient::start(
      setting_.client,
      {"BALLAST_LAB_TARGET=" + envoy_options_.listener.text(),
       fmt::format("BALLAST_LAB_SECONDS={}", scenario_.warmup_s + setting_.duration_s),
       fmt::format("BALLAST_LAB_RATE={}", scenario_.rate()),
       fmt::format("BALLAST_LAB_MEAN_US={:.0f}", 1000 * scenario_.demand_mean_ms),
       fmt::format("BALLAST_LAB_SESSIONS={}", scenario_.sessions), fmt::format("BALLAST_LAB_SEED={}", seed)},
      folder_);
  if (!client) {
    return client.error();
  }
  const auto sent = [&] {
    LoadSnapshot seen;
    for (const auto& [name, track] : tracks_) {
      seen.sent += track.requests.total;
    }
    return seen;
  };
  // Such a program takes its time to start (a JVM: seconds), so the clock begins with the first request.
  while (sent().sent == 0 && !client->finished() && !setting_.interrupted) {
    std::this_thread::sleep_for(kPoll);
    poll_weights();
  }
  open_load(clock_s());
  if (auto done = loop({[&] { return client->finished(); }, sent}); !done) {
    return done;
  }
  poll_weights();
  finish_processes();
  const auto requests = client->result();
  if (!requests) {
    return requests.error();
  }
  add_answers(result_, requests->arrivals, requests->answers,
              static_cast<std::uint64_t>(scenario_.warmup_s * 1e9), ~0ULL);
  return ok();
}

Result<RunResult> Arm::run(int round, std::uint64_t seed) {
  result_.policy = policy_.name;
  result_.round = round;
  result_.seed = seed;
  result_.window_s = setting_.duration_s;
  for (const auto& event : scenario_.events) {
    result_.events.push_back({event, false, 0, std::nullopt});
  }
  if (auto set = set_up(round); !set) {
    return set.error().in(policy_.name);
  }
  const auto loaded = setting_.client.empty() ? generate(seed) : run_client(seed);
  if (!loaded) {
    return loaded.error().in(policy_.name);
  }
  const double begin_s = result_.window_begin_s;
  const double end_s = begin_s + setting_.duration_s;
  finish_pods();
  if (auto counters = envoy_->counters()) {
    result_.envoy = std::move(*counters);
  }
  envoy_->stop();
  if (setting_.access_log) {
    read_access_log();
  }
  if (by_ballast()) {
    const double until = result_.events.empty() ? end_s : begin_s + result_.events.front().event.at_s;
    result_.convergence_s = settled_at(result_.timeline, 0, until, kSettledWithin);
  }
  for (auto& event : result_.events) {
    if (event.event.kind == EventKind::kSetQuota || event.event.kind == EventKind::kAddPod) {
      event.reaction = reaction_of(result_.timeline, event.event.target, event.t_s, end_s);
    }
  }
  return std::move(result_);
}

}  // namespace

Result<RunResult> run_arm(const ArmSetting& setting, PodFleet& pods, const ArmPolicy& policy, int round,
                          std::uint64_t seed, LiveTable& live) {
  Arm arm(setting, pods, policy, live);
  auto result = arm.run(round, seed);
  live.settle();
  pods.stop();
  return result;
}

}  // namespace ballast::lab
