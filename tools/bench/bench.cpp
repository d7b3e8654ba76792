// SPDX-License-Identifier: Apache-2.0
// ballast-bench: flags -> commands. No logic.
#include <functional>
#include <iostream>
#include <map>
#include <string>

#include "core/base/process.h"
#include "core/cli/program.h"
#include "model/sim/scenario.h"
#include "model/sim/technique.h"
#include "tools/bench/distance_command.h"
#include "tools/bench/figures_command.h"
#include "tools/bench/gate_command.h"
#include "tools/bench/habits_command.h"
#include "tools/bench/life_command.h"
#include "tools/bench/sim_command.h"
#include "tools/bench/speed_command.h"
#include "tools/bench/sync_command.h"
#include "tools/bench/train_command.h"
#include "tools/bench/worker_command.h"

namespace {

void add_sim(CLI::App& app, ballast::bench::SimOptions& options) {
  auto* sim = app.add_subcommand("sim", "simulate policies in a scenario");
  sim->add_option("--scenario", options.scenario, "NAME[:VARIANT] or FILE[:VARIANT]")->required();
  sim->add_option("--policy", options.policies, "P[,P...]; see `ballast-bench policies`")
      ->required()
      ->delimiter(',');
  sim->add_option("--seeds", options.seeds, "A..B, both included")->capture_default_str();
  sim->add_option("-o,--output", options.output, "JSON file; - is stdout")->required();
  sim->add_option("--parameters", options.parameters,
                  "file that `learned` or `forecast_rule` acts with (none: shipped)");
  sim->add_option("--gains", options.gains,
                  "learned gains that `queue_rule` and `forecast_rule` act with (ballast-learner --twin)");
  auto* tick = sim->add_option("--tick", options.loop.tick_s, "weight controllers: seconds between decisions")
                   ->check(CLI::Range(0.01, 3600.0))
                   ->capture_default_str();
  auto* apply_delay = sim->add_option("--apply-delay", options.loop.apply_delay_s,
                                      "weight controllers: seconds to the proxies")
                          ->check(CLI::Range(0.0, 3600.0))
                          ->capture_default_str();
  sim->add_option("--loop", options.loop_name,
                  "eds, istio_fast or istio: tick and delay as measured, in the place of both")
      ->excludes(tick, apply_delay);
  sim->add_option("--jobs", options.jobs, "runs at the same time")
      ->check(CLI::Range(1U, 256U))
      ->capture_default_str();
  sim->add_flag("--timeline", options.timeline, "add goodput by second to each row");
}

void add_train(CLI::App& app, ballast::train::TrainOptions& options) {
  auto* train = app.add_subcommand("train", "learn in an environment");
  train->add_option("--algo,--learner", options.learner, "q_learning (q), dqn, ppo, pg, a2c or a3c")
      ->required();
  train->add_option("--env", options.environment, "cartpole, acrobot, queue (sim) or two_servers")
      ->required();
  train
      ->add_option("--scenario", options.scenarios,
                   "queue: NAME|FILE[:VARIANT][,...], one drawn for each episode (none: its training set)")
      ->delimiter(',');
  train->add_option("--workers", options.workers, "a3c: threads (0: as tuned)")->check(CLI::Range(0U, 256U));
  train->add_option("--steps", options.steps, "of the environment")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
      ->capture_default_str();
  train->add_option("--seed", options.seed, "of all that is random")->capture_default_str();
  train->add_option("--out", options.out, "folder: curve.csv, checkpoint.bin, summary.json, parameters.bin")
      ->required();
  train->add_option("--evaluate-every", options.evaluate_every, "steps between looks (0: a fiftieth of all)");
  train->add_option("--episodes", options.evaluation_episodes, "of a look")
      ->check(CLI::Range(1U, 10'000U))
      ->capture_default_str();
  train->add_option("--final-episodes", options.final_episodes, "that the result is judged by")
      ->check(CLI::Range(1U, 10'000U))
      ->capture_default_str();
  train->add_option("--initial", options.initial, "queue: parameters to begin with (none: untrained)");
  train->add_option("--imitate", options.imitate_steps,
                    "queue: steps of imitating the square-root rule before learning begins");
  train->add_option("--learning-rate", options.learning_rate, "at the start (0: as tuned)")
      ->check(CLI::Range(0.0, 1.0));
  train->add_option("--gamma", options.gamma, "discount a step (0: as tuned)")->check(CLI::Range(0.0, 1.0));
  train
      ->add_option("--horizon", options.horizon,
                   "a2c, ppo, a3c: steps of a world before an update (0: as tuned)")
      ->check(CLI::Range(0U, 100'000U));
  train->add_option("--p50-weight", options.p50_weight, "queue: of the reward (0: as documented)")
      ->check(CLI::Range(0.0, 100.0));
  train->add_option("--without", options.without, "queue: ablations of prior, context, churn")
      ->delimiter(',');
  train->add_flag("--one-exploration", options.one_exploration, "a3c: all workers explore alike");
  train->add_flag("--resume", options.resume, "go on from the checkpoint in --out");
}

void add_worker(CLI::App& app, ballast::bench::WorkerCommand& options) {
  auto* worker =
      app.add_subcommand("worker", "an A3C worker in the simulator, whose server is ballast-global");
  worker->add_option("--global", options.client.address, "the global network, IP:PORT or any gRPC target")
      ->required();
  worker->add_option("--worker-id", options.client.worker_id, "name of this worker there")->required();
  worker->add_option("--scenario", options.scenarios, "as of train")->delimiter(',');
  worker->add_option("--steps", options.steps, "of the environment, this worker's")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 40))
      ->capture_default_str();
  worker->add_option("--seed", options.seed, "of all that is random; another for each worker")
      ->capture_default_str();
  worker->add_option("--entropy-bonus", options.entropy_bonus, "beta (negative: as tuned)");
  worker->add_option("--pushes-per-s", options.pushes_per_s, "at most")
      ->check(CLI::Range(0.01, 200.0))
      ->capture_default_str();
  worker->add_option("--patience", options.patience_s, "seconds for the global network to be there")
      ->check(CLI::Range(0.1, 86400.0))
      ->capture_default_str();
  worker->add_option("--tls-cert", options.client.tls.certificate, "PEM chain of this worker");
  worker->add_option("--tls-key", options.client.tls.key, "PEM key of it");
  worker->add_option("--tls-ca", options.client.tls.authority,
                     "PEM bundle that the server's certificate comes from");
  worker->add_option("--out", options.out, "file: the parameters at the end");
}

void add_sync(CLI::App& app, ballast::bench::SyncOptions& options) {
  auto* sync = app.add_subcommand("sync", "simulated workers against a real ballast-global");
  sync->add_option("--workers", options.workers, "N[,N...]: a run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  sync->add_option("--params", options.parameters, "numbers in the network")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  sync->add_option("--seconds", options.seconds, "measured, after a warm-up of two intervals")
      ->check(CLI::Range(0.1, 86'400.0))
      ->capture_default_str();
  sync->add_option("--interval", options.interval_s, "seconds between the syncs of one worker")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  sync->add_option("--threads", options.threads, "that drive the workers")
      ->check(CLI::Range(1U, 64U))
      ->capture_default_str();
  sync->add_option("-o,--output", options.output, "JSON file; - is stdout")->required();
  sync->add_option("--plot", options.plot, "SVG file: cost per worker over the number of workers");
  sync->add_option("--plot-with", options.beside, "JSON file of a `fleet` run to draw in the same plot");
  sync->add_option("--csv", options.csv, "CSV file: the figures as a table");
}

void add_fleet(CLI::App& app, ballast::bench::SyncOptions& options) {
  options.pods = 30;
  options.interval_s = 2;
  auto* fleet =
      app.add_subcommand("fleet", "simulated nodes that report their pods to a real ballast-global");
  fleet->add_option("--nodes", options.workers, "N[,N...]: a run each")
      ->delimiter(',')
      ->check(CLI::Range(1, 100'000))
      ->capture_default_str();
  fleet->add_option("--pods", options.pods, "of a node")->check(CLI::Range(1, 1000))->capture_default_str();
  fleet->add_flag("--writer", options.writer,
                  "beside them who writes weights: one that is shown all endpoints, twice a second");
  fleet->add_option("--seconds", options.seconds, "measured, after a warm-up of two intervals")
      ->check(CLI::Range(0.1, 86'400.0))
      ->capture_default_str();
  fleet->add_option("--interval", options.interval_s, "seconds between the reports of one node")
      ->check(CLI::Range(0.001, 3600.0))
      ->capture_default_str();
  fleet->add_option("--threads", options.threads, "that drive the nodes")
      ->check(CLI::Range(1U, 64U))
      ->capture_default_str();
  fleet->add_option("-o,--output", options.output, "JSON file; - is stdout")->required();
  fleet->add_option("--plot", options.plot, "SVG file: cost per node over the number of nodes");
  fleet->add_option("--plot-with", options.beside, "JSON file of a `sync` run to draw in the same plot");
  fleet->add_option("--csv", options.csv, "CSV file: the figures as a table");
}

void add_distance(CLI::App& app, ballast::bench::DistanceOptions& options) {
  auto* distance = app.add_subcommand(
      "distance", "A3C far from its global network, with poisoned workers, and with more and more workers");
  distance->add_option("--env", options.environment, "cartpole, acrobot, queue or two_servers")
      ->capture_default_str();
  distance->add_option("--staleness", options.staleness, "versions[,...] that a gradient lags behind")
      ->delimiter(',')
      ->check(CLI::Range(0, 1000))
      ->capture_default_str();
  distance->add_option("--workers", options.workers, "N[,N...]")
      ->delimiter(',')
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  distance
      ->add_option("--cross", options.cross,
                   "N: staleness only with N workers, workers only at staleness N (0: each with each)")
      ->capture_default_str();
  distance->add_option("--steps", options.steps, "of the environment, a run")
      ->check(CLI::Range(std::uint64_t{100}, std::uint64_t{1'000'000'000}))
      ->capture_default_str();
  distance->add_option("--seeds", options.seeds, "a run each")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  distance
      ->add_option("--poison", options.poison,
                   "none,nan,scaled,flipped,replayed: of every tenth worker (empty: none)")
      ->delimiter(',')
      ->check(CLI::IsMember({"none", "nan", "scaled", "flipped", "replayed", ""}))
      ->capture_default_str();
  distance
      ->add_option("--speed-up", options.speed_up, "N[,N...] workers of the runs for the speed-up (0: none)")
      ->delimiter(',')
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
  distance->add_option("--learning-rate", options.learning_rate, "RMSProp's (0: as tuned for a3c)")
      ->check(CLI::Range(0.0, 1.0))
      ->capture_default_str();
  distance->add_option("--threads", options.threads, "0: these in turn only, without a thread a worker")
      ->capture_default_str();
  distance->add_option("--jobs", options.jobs, "runs at the same time")
      ->check(CLI::Range(1U, 256U))
      ->capture_default_str();
  distance->add_option("--minutes", options.minutes, "after so many no further run begins (0: all are run)")
      ->capture_default_str();
  distance->add_option("-o,--output", options.output, "CSV file, a row a run; what it holds is not run again")
      ->required();
  distance->add_option("--page", options.page, "HTML file with the learning curves");
}

void add_gate(CLI::App& app, ballast::bench::GateOptions& options) {
  auto* gate = app.add_subcommand("gate", "whether parameters may be shipped; the exit code is the verdict");
  gate->add_option("--candidate", options.candidate,
                   "parameters file, of the actor-critic or of the forecast")
      ->required();
  gate->add_option("--incumbent", options.incumbent,
                   "parameters in force (none: queue_rule, the strong rule)");
  gate->add_option("--scenario", options.scenarios,
                   "held-out NAME|FILE[:VARIANT][,...] (none: the built-in set)")
      ->delimiter(',');
  gate->add_option("--seeds", options.seeds, "A..B, both included")->capture_default_str();
  gate->add_option("--tolerance", options.tolerance,
                   "upper bound of any scenario's p99 and p50 to the strong rule's and the incumbent's")
      ->check(CLI::Range(1.0, 2.0))
      ->capture_default_str();
  auto* tick = gate->add_option("--tick", options.loop.tick_s, "seconds between decisions")
                   ->check(CLI::Range(0.01, 3600.0))
                   ->capture_default_str();
  gate->add_option("--loop", options.loop_name, "eds, istio_fast or istio: a profile in the place of --tick")
      ->excludes(tick);
  gate->add_option("--jobs", options.jobs, "runs at the same time")
      ->check(CLI::Range(1U, 256U))
      ->capture_default_str();
  gate->add_option("-o,--output", options.output, "JSON file with the table");
}

void add_lighten(CLI::App& app, ballast::bench::LightenOptions& options) {
  auto* lighten = app.add_subcommand("lighten", "a parameters file with one byte a weight");
  lighten->add_option("--parameters", options.parameters, "file (none: the shipped one)");
  lighten->add_option("-o,--output", options.output, "file")->required();
}

void add_life(CLI::App& app, ballast::bench::LifeOptions& options) {
  auto* life = app.add_subcommand("life", "one long run, p50 and p99 minute by minute");
  life->add_option("--scenario", options.scenario, "NAME|FILE[:VARIANT]")->required();
  life->add_option("--policy", options.policies, "NAME[,...]")->delimiter(',')->required();
  life->add_option("--loop", options.loop_name, "eds, istio_fast or istio")->capture_default_str();
  life->add_option("--seed", options.seed, "of the run")->capture_default_str();
  life->add_option("-o,--output", options.output, "CSV")->required();
}

void add_record(CLI::App& app, ballast::bench::RecordOptions& options) {
  auto* record = app.add_subcommand("record", "what an agent records of a service (ballast-learner --twin)");
  record->add_option("--scenario", options.scenario, "NAME|FILE[:VARIANT]")->required();
  record->add_option("--policy", options.policy, "what acts: forecast_rule, as shipped, or queue_rule")
      ->capture_default_str()
      ->check(CLI::IsMember({"forecast_rule", "queue_rule"}));
  record->add_option("--loop", options.loop_name, "eds, istio_fast or istio")->capture_default_str();
  record->add_option("--seconds", options.seconds, "of the service's life")
      ->check(CLI::Range(1.0, 1e6))
      ->capture_default_str();
  record->add_option("--seed", options.seed, "of the arrivals")->capture_default_str();
  record->add_option("-o,--output", options.output, "recording")->required();
}

void add_habits(CLI::App& app, ballast::bench::HabitsOptions& options) {
  auto* habits =
      app.add_subcommand("habits", "record what the forecast is learned from (ballast-learner --fit)");
  habits->add_option("--worlds", options.worlds, "A..B: habit:A to habit:B")->capture_default_str();
  habits->add_option("-o,--output", options.output, "file of samples")->required();
}

void add_figures(CLI::App& app, ballast::bench::FiguresOptions& options) {
  auto* figures = app.add_subcommand("figures", "both figures, the matrix and one page of all, in a folder");
  auto* matrix = app.add_subcommand("matrix", "every policy in every scenario, and the verdicts on ours");
  for (auto* command : {figures, matrix}) {
    command->add_option("--out", options.out, "folder; a run that was stopped goes on there")->required();
    command->add_flag("--quick", options.quick, "a look within two minutes: few scenarios, seeds and steps");
    command->add_option("--seeds", options.seeds, "A..B, both included (none: 1..10, quick 1..3)");
    command->add_option("--scenario", options.matrix.scenarios, "NAME|FILE[:VARIANT][,...] (none: all)")
        ->delimiter(',');
    command->add_option("--policy", options.matrix.policies, "P[,P...] (none: all)")->delimiter(',');
    command->add_option("--candidate", options.matrix.candidates, "policies that are judged (none: ours)")
        ->delimiter(',');
    command->add_option("--tick", options.matrix.ticks, "seconds between decisions (none: .25,.5,1,2)")
        ->delimiter(',')
        ->check(CLI::Range(0.01, 3600.0));
    command->add_option("--parameters", options.matrix.cells.parameters, "file that `learned` acts with");
    command->add_option("--requests", options.matrix.cells.most_requests,
                        "most of a run; longer scenarios are cut (0: as they are)");
    command->add_option("--jobs", options.matrix.cells.jobs, "runs at the same time")
        ->check(CLI::Range(1U, 256U))
        ->capture_default_str();
  }
  figures->add_option("--steps", options.steps, "of a learner (none: 20000, quick 4000)");
  figures->add_flag_callback(
      "--without-learning", [&options] { options.learners.clear(); }, "figure 4 and the matrix alone");
  figures->add_option("--live", options.live, "folder of tools/jmeter/run: figure 4 live on the same page");
  figures->add_option("--world", options.worlds, "that learners learn in: NAME|FILE[:VARIANT][,...]")
      ->delimiter(',')
      ->capture_default_str();
  figures->add_option("--trials", options.trials, "table of tools/bench/trials.py: each learner's settings")
      ->check(CLI::ExistingFile);
  figures->add_option("--learner", options.learners, "L[,L...]")->delimiter(',')->capture_default_str();
}

void add_speed(CLI::App& app, ballast::bench::SpeedOptions& options) {
  auto* speed = app.add_subcommand("speed", "what a simulated request costs, by the number of servers");
  speed->add_option("--policy", options.policies, "P[,P...]")->delimiter(',')->capture_default_str();
  speed->add_option("--servers", options.servers, "N[,N...]")->delimiter(',')->capture_default_str();
  speed->add_option("--requests", options.requests, "of a run")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1'000'000'000}))
      ->capture_default_str();
  speed->add_option("--runs", options.runs, "of which the median counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
}

ballast::Status list_scenarios(bool variants) {
  for (const auto& scenario : ballast::sim::builtin_scenarios()) {
    std::cout << scenario.name << "\n";
    if (!variants) {
      continue;
    }
    const auto names = ballast::sim::scenario_variants(scenario.text, scenario.file);
    if (!names) {
      return names.error();
    }
    for (const auto& name : *names) {
      std::cout << scenario.name << ":" << name << "\n";
    }
  }
  return ballast::ok();
}

ballast::Status list_policies(bool rules) {
  for (const auto& policy : ballast::sim::techniques()) {
    std::cout << policy.name;
    if (rules) {
      std::cout << "\t" << policy.rule << (policy.oracle ? " (oracle)" : "");
    }
    std::cout << "\n";
  }
  return ballast::ok();
}

const ballast::cli::About kAbout = {
    "ballast-bench",
    1,
    "The simulator, its balancers and learners, and benchmarks of load balancing",
    "Needs no privilege. The same seeds give the same bytes, but for a3c with several workers.\n",
    {{"ballast-bench sim --scenario static --policy least_request,ballast --seeds 1..10 -o rows.json",
      "Two policies over ten seeds"},
     {"ballast-bench gate --candidate FILE", "May these parameters be shipped?"}},
    {"ballast-lab(1)", "ballast-learner(8)"}};

}  // namespace

int main(int argc, char** argv) {
  using namespace ballast::bench;
  ballast::cli::Program program(kAbout);
  CLI::App& app = program.app();
  app.require_subcommand(1);
  SimOptions sim;
  add_sim(app, sim);
  ballast::train::TrainOptions train;
  add_train(app, train);
  WorkerCommand worker;
  add_worker(app, worker);
  SyncOptions sync;
  add_sync(app, sync);
  SyncOptions fleet;
  add_fleet(app, fleet);
  DistanceOptions distance;
  add_distance(app, distance);
  GateOptions gate;
  add_gate(app, gate);
  LightenOptions lighten;
  add_lighten(app, lighten);
  HabitsOptions habits;
  RecordOptions record;
  LifeOptions life;
  add_habits(app, habits);
  add_record(app, record);
  add_life(app, life);
  FiguresOptions figures;
  figures.program = ballast::binary_dir() / "ballast-bench";
  add_figures(app, figures);
  SpeedOptions speed;
  add_speed(app, speed);
  bool variants = false;
  app.add_subcommand("scenarios", "list the built-in scenarios, one name a line")
      ->add_flag("--variants", variants, "their variants too");
  bool rules = false;
  app.add_subcommand("policies", "list the policies, one name a line")
      ->add_flag("--rules", rules, "what each does too");
  if (const auto code = program.parse(argc, argv)) {
    return *code;
  }
  sim.tick_given = app.get_subcommand("sim")->count("--tick") > 0;
  const std::map<std::string, std::function<ballast::Status()>> runs = {
      {"sim", [&] { return run_sim(sim); }},
      {"train", [&] { return run_train(train); }},
      {"worker", [&] { return run_worker(worker); }},
      {"sync", [&] { return run_sync(sync); }},
      {"fleet", [&] { return run_sync(fleet); }},
      {"distance", [&] { return run_distance(distance); }},
      {"gate", [&] { return run_gate(gate); }},
      {"lighten", [&] { return run_lighten(lighten); }},
      {"habits", [&] { return run_habits(habits); }},
      {"record", [&] { return run_record(record); }},
      {"life", [&] { return run_life(life); }},
      {"figures", [&] { return run_figures(figures); }},
      {"matrix", [&] { return run_matrix(figures); }},
      {"speed", [&] { return run_speed(speed); }},
      {"scenarios", [&] { return list_scenarios(variants); }},
      {"policies", [&] { return list_policies(rules); }},
  };
  return program.finish(runs.at(app.get_subcommands().front()->get_name())());
}
