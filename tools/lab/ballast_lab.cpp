// SPDX-License-Identifier: Apache-2.0
//
// Composition root of ballast-lab: flags -> run space -> arms -> report.
#include <fmt/format.h>
#include <signal.h>

#include <atomic>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/cli/program.h"
#include "tools/lab/arm.h"
#include "tools/lab/envoy.h"
#include "tools/lab/pod_server.h"

namespace {

using namespace ballast;
using namespace ballast::lab;

std::atomic<bool> interrupted{false};

struct RunFlags {
  std::string scenario;
  std::string policies;
  double duration_s = 20;
  std::string report;
  std::string page;
  int pairs = 1;
  std::uint64_t seed = 1;
  std::optional<double> warmup_s;
  std::optional<double> load;
  bool live = true;
  bool learner = true;
  std::string forecast;
  bool keep = false;
  bool access_log = false;
  std::string client;
};

int fail(const Error& error) {
  fmt::print(stderr, "ballast-lab: {}\n", error.message);
  return error.exit_code();
}

void catch_signals() {
  struct sigaction action {};
  action.sa_handler = [](int) { interrupted = true; };
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
    ::sigaction(number, &action, nullptr);
  }
  ::signal(SIGPIPE, SIG_IGN);
}

/// Every second round runs the arms backwards (ABBA), so that drift of the machine hits all alike.
Status run_rounds(const RunFlags& flags, const std::vector<ArmPolicy>& policies, const ArmSetting& setting,
                  Report& report) {
  PodFleet pods(setting.scenario, setting.space);
  LiveTable live(LiveTable::pick(flags.live));
  for (int round = 0; round < flags.pairs; ++round) {
    for (std::size_t i = 0; i < policies.size(); ++i) {
      const auto& policy = policies[round % 2 == 0 ? i : policies.size() - 1 - i];
      fmt::print("round {} of {}: {}\n", round + 1, flags.pairs, policy.name);
      std::fflush(stdout);
      auto run =
          run_arm(setting, pods, policy, round + 1, flags.seed + static_cast<std::uint64_t>(round), live);
      if (!run) {
        return run.error();
      }
      report.runs.push_back(std::move(*run));
    }
  }
  return ok();
}

void print_closing(const Report& report, const RunFlags& flags) {
  const auto& scenario = report.scenario;
  fmt::print("\n{}: {}\n", scenario.name, scenario.about);
  fmt::print(
      "load {:.0f} %, {:.0f} requests/s, {:.0f} s after {:.0f} s of warm-up, {} run{} an arm, seed {}; "
      "latency from the {}\n\n{}",
      100 * scenario.load, scenario.rate(), report.duration_s, scenario.warmup_s, flags.pairs,
      flags.pairs == 1 ? "" : "s", report.seed, flags.client.empty() ? "intended start" : "actual send",
      comparison_table(report));
  for (const auto& run : report.runs) {
    for (const auto& event : run.events) {
      if (event.reaction) {
        fmt::print(
            "{}: the weight of {} moved {:.2f} s after the event and was within 10 % of its end after {:.2f} "
            "s\n",
            run.policy, event.event.target, event.reaction->first_s, event.reaction->done_s);
      }
    }
    if (run.convergence_s) {
      fmt::print(
          "{} (round {}): the split had settled within 10 % of the traffic {:.2f} s after ballastd's "
          "start, {}\n",
          run.policy, run.round, *run.convergence_s,
          // JMeter's first request comes seconds after its start.
          *run.convergence_s < run.first_request_s
              ? "before the first request"
              : fmt::format("{:.2f} s after the first request", *run.convergence_s - run.first_request_s));
    }
    for (const auto& use : run.processes) {
      if (use.name == "ballastd") {
        fmt::print("{} (round {}): ballastd took {:.1f} MB and {:.1f} millicores\n", run.policy, run.round,
                   use.rss_peak_mb, use.millicores);
      }
    }
  }
}

int run(const RunFlags& flags) {
  auto scenario = load_scenario(flags.scenario);
  if (!scenario) {
    return fail(scenario.error());
  }
  scenario->warmup_s = flags.warmup_s.value_or(scenario->warmup_s);
  scenario->load = flags.load.value_or(scenario->load);
  scenario->learner = scenario->learner && flags.learner;
  scenario->forecast = flags.forecast;
  const auto policies = parse_policies(flags.policies);
  if (!policies) {
    return fail(policies.error());
  }
  if (!scenario->events.empty() && scenario->events.back().at_s >= flags.duration_s) {
    return fail(Error::usage(fmt::format("--duration: the scenario's last event is at {} s, after the end",
                                         scenario->events.back().at_s)));
  }
  const auto envoy = find_envoy();
  if (!envoy) {
    return fail(envoy.error());
  }
  catch_signals();
  auto space = RunSpace::create();
  if (!space) {
    return fail(space.error());
  }
  if (flags.keep) {
    space->keep_folder();
    fmt::print("folder of the run: {}\n", space->folder().string());
  }
  Report report{*scenario, flags.seed, flags.duration_s, {}};
  const ArmSetting setting{*scenario,  *space,           *envoy,       flags.duration_s,
                           5,          flags.access_log, flags.client, !flags.page.empty(),
                           interrupted};
  if (auto done = run_rounds(flags, *policies, setting, report); !done) {
    return fail(done.error());
  }
  if (!flags.report.empty()) {
    if (auto written = write_file_atomic(flags.report, to_json(report).dump(1) + "\n"); !written) {
      return fail(written.error());
    }
  }
  if (!flags.page.empty()) {
    if (auto written = write_file_atomic(flags.page, report_page(report)); !written) {
      return fail(written.error());
    }
  }
  print_closing(report, flags);
  if (!flags.report.empty()) {
    fmt::print("report: {}\n", flags.report);
  }
  if (!flags.page.empty()) {
    fmt::print("page: {}\n", flags.page);
  }
  return 0;
}

int list_scenarios() {
  const auto scenarios = builtin_scenarios();
  if (!scenarios) {
    return fail(scenarios.error());
  }
  for (const auto& scenario : *scenarios) {
    fmt::print("{:<14}{}\n", scenario.name, scenario.about);
  }
  return 0;
}

int pod(const std::string& listen, const PodOptions& options) {
  const auto colon = listen.rfind(':');
  if (colon == std::string::npos) {
    return fail(Error::usage("--listen: \"" + listen + "\" is not ADDRESS:PORT"));
  }
  const Endpoint endpoint{listen.substr(0, colon),
                          static_cast<std::uint16_t>(std::strtoul(listen.c_str() + colon + 1, nullptr, 10))};
  return fail(serve_pod(endpoint, options).error());
}

const cli::About kAbout = {
    "ballast-lab",
    1,
    "Real Envoys, real processes in cgroups as pods, real load: Ballast's live experiments",
    "Needs root: it makes cgroups and loads programs into the kernel.\n",
    {{"ballast-lab run --scenario demo --policy least_request,ballast --duration 30 --report r.json",
      "Envoy's default against Ballast"}},
    {"ballastd(8)", "ballast-bench(1)"}};

}  // namespace

int main(int argc, char** argv) {
  cli::Program program(kAbout);
  CLI::App& app = program.app();
  app.require_subcommand(1);
  RunFlags flags;
  auto* run_command = app.add_subcommand("run", "run a scenario under one or more policies");
  run_command->add_option("--scenario", flags.scenario, "name of a built-in scenario, or a file")->required();
  std::string names;
  for (const auto& policy : arm_policies()) {
    names += (names.empty() ? "" : ", ") + policy.name;
  }
  run_command->add_option("--policy", flags.policies, "comma-separated: " + names)->required();
  run_command->add_option("--duration", flags.duration_s, "measured seconds of each arm, after the warm-up")
      ->check(CLI::Range(1.0, 86400.0))
      ->capture_default_str();
  run_command->add_option("--report", flags.report, "JSON report");
  run_command->add_option("--report-page", flags.page, "the run as a page for a browser: one HTML file");
  run_command->add_option("--pairs", flags.pairs, "rounds; every second one runs the arms backwards")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  run_command->add_option("--seed", flags.seed, "of arrivals and demands; the same for all arms of a round")
      ->capture_default_str();
  run_command->add_option("--warmup", flags.warmup_s, "seconds of load before the measured window")
      ->check(CLI::Range(0.0, 3600.0));
  run_command->add_option("--load", flags.load, "offered CPU time over the sum of the quotas")
      ->check(CLI::Range(0.01, 2.0));
  run_command->add_flag("--live,!--no-live", flags.live, "show the live table (default) or not");
  run_command->add_option("--forecast", flags.forecast,
                          "file of the forecast that learning begins with (none: the shipped one)");
  run_command->add_flag("!--no-learner", flags.learner,
                        "the shipped policy acts, even where the scenario has a learner");
  run_command->add_flag("--keep", flags.keep, "leave the run's folder (logs, configurations) behind");
  run_command->add_flag("--access-log", flags.access_log, "measure each pod from Envoy's side too");
  run_command->add_option("--client", flags.client,
                          "command that makes the load in the generator's place (tools/jmeter/client)");
  auto* list_command = app.add_subcommand("scenarios", "list the built-in scenarios");
  std::string listen;
  std::string server = "ps";
  auto* pod_command = app.add_subcommand("pod", "the application of a lab pod (used by run)");
  pod_command->add_option("--listen", listen, "ADDRESS:PORT")->required();
  PodOptions pod_options;
  pod_command->add_option("--report", pod_options.quota_file,
                          "file of its CPUs: answers tell its load (ORCA)");
  pod_command->add_option("--server", server)->check(CLI::IsMember({"ps", "fifo"}))->capture_default_str();
  pod_command->add_option("--workers", pod_options.workers, "of a fifo pod: requests at a time");
  pod_command->add_option("--wait-factor", pod_options.wait_factor, "on the waiting of its requests");
  Tenant tenant;
  auto* tenant_command =
      app.add_subcommand("tenant", "burns CPU beside a lab pod on a schedule (used by run)");
  tenant_command->add_option("--every", tenant.every_s, "seconds")->required();
  tenant_command->add_option("--burn", tenant.burn_s, "seconds")->required();
  tenant_command->add_option("--phase", tenant.phase_s, "seconds to the first time");
  tenant_command->add_option("--cores", tenant.cores, "threads");
  if (const auto code = program.parse(argc, argv)) {
    return *code;
  }
  if (*run_command) {
    return run(flags);
  }
  if (*tenant_command) {
    burn_on_schedule(tenant);
  }
  pod_options.kind = server == "fifo" ? ServerKind::kFifo : ServerKind::kProcessorSharing;
  return *list_command ? list_scenarios() : pod(listen, pod_options);
}
