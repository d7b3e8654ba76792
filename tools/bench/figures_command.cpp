// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/figures_command.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <sstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "model/train/train.h"
#include "tools/bench/sim_command.h"

namespace ballast::bench {
namespace {

constexpr double kBinS = 5;
const std::vector<std::string> kTraffics = {"normal", "stressful"};

struct Technique {
  const char* policy;
  const char* label;
};

const std::vector<Technique> kTechniques = {{"round_robin", "round robin"},
                                            {"ring_hash", "source-based"},
                                            {"maglev", "destination-based"},
                                            {"least_connections", "least connection"},
                                            {"peak_ewma", "least response time"},
                                            {"least_request", "least request (Istio's default)"},
                                            {"ballast", "Ballast"}};

Result<FiguresOptions> with_defaults(FiguresOptions o) {
  CellOptions& cells = o.matrix.cells;
  cells.folder = o.out;
  const auto seeds = parse_seeds(!o.seeds.empty() ? o.seeds : o.quick ? "1..3" : "1..10");
  if (!seeds) {
    return seeds.error();
  }
  cells.first_seed = seeds->first;
  cells.last_seed = seeds->last;
  if (o.quick) {
    cells.most_requests = cells.most_requests > 0 ? cells.most_requests : 20'000;
    if (o.matrix.scenarios.empty()) {
      o.matrix.scenarios = {"null", "static", "antagonist", "faults", "bad_telemetry", "normal", "stressful"};
    }
    if (o.matrix.ticks.empty()) {
      o.matrix.ticks = {0.25};
    }
  }
  o.steps = o.steps > 0 ? o.steps : o.quick ? 4'000 : 20'000;
  auto matrix = completed(std::move(o.matrix));
  if (!matrix) {
    return matrix.error();
  }
  o.matrix = std::move(*matrix);
  return o;
}

/// At most a line a second on stderr.
Progress to_stderr() {
  const auto last = std::make_shared<std::chrono::steady_clock::time_point>();
  return [last](std::size_t done, std::size_t all, const Cell& cell) {
    const auto now = std::chrono::steady_clock::now();
    if (done == all || now - *last > std::chrono::seconds(1)) {
      *last = now;
      std::cerr << fmt::format("{}/{} cells, {} in {}\n", done, all, cell.policy, cell.scenario);
    }
  };
}

constexpr std::uint64_t kLooks = 5;

// Of a look; the same ones for learners and lines.
constexpr std::size_t kEpisodes = 2;

const std::vector<std::string> kLines = {"queue_rule", "prior", "oracle_foresight"};

struct Training {
  std::string learner;
  std::string world;
  std::uint64_t seed;
  std::vector<std::string> settings;  // flags
  std::filesystem::path folder;
};

using Curve = std::map<double, double>;  // steps -> return

using Row = std::map<std::string, std::string>;  // by the names in the file's first line

std::vector<Row> read_csv(const std::filesystem::path& file) {
  const auto bytes = read_file(file);
  std::istringstream lines(bytes ? *bytes : "");
  std::vector<std::string> head;
  std::vector<Row> rows;
  for (std::string line; std::getline(lines, line);) {
    std::vector<std::string> fields;
    std::istringstream in(line);
    for (std::string field; std::getline(in, field, ',');) {
      fields.push_back(field);
    }
    if (head.empty()) {
      head = fields;
      continue;
    }
    Row& row = rows.emplace_back();
    for (std::size_t i = 0; i < std::min(head.size(), fields.size()); ++i) {
      row[head[i]] = fields[i];
    }
  }
  return rows;
}

/// nullopt when there is none.
std::optional<Curve> read_curve(const std::filesystem::path& file) {
  Curve curve;
  for (Row& row : read_csv(file)) {
    curve[std::strtod(row["steps"].c_str(), nullptr)] =
        std::strtod(row["evaluation_return"].c_str(), nullptr);
  }
  return curve.empty() ? std::nullopt : std::optional(curve);
}

/// Flags of `train` by the trial that was chosen for the learner; none where there were no trials.
std::vector<std::string> settings_of(const std::string& learner, const std::filesystem::path& trials) {
  std::vector<std::string> flags;
  const auto name = train::canonical_learner(learner);
  for (Row& row : read_csv(trials)) {
    if (name && row["learner"] == *name && row["chosen"] == "yes") {
      for (const auto& [column, flag] :
           {std::pair{"learning_rate", "--learning-rate"}, {"horizon", "--horizon"}, {"gamma", "--gamma"}}) {
        if (!row[column].empty()) {
          flags.insert(flags.end(), {flag, row[column]});
        }
      }
    }
  }
  return flags;
}

bool can_train(const std::filesystem::path& program, const std::filesystem::path& log) {
  if (program.empty()) {
    return false;
  }
  auto child = ChildProcess::spawn({.argv = {program, "train", "--help"}, .output = log});
  const auto ended = child ? child->wait(std::chrono::seconds(60)) : std::nullopt;
  return ended && ended->code == 0;
}

/// Empty when the training is done; else why not.
std::string train(const FiguresOptions& o, const Training& t) {
  if (std::filesystem::exists(t.folder / "summary.json")) {
    return "";
  }
  std::error_code error;
  std::filesystem::create_directories(t.folder, error);
  // Evaluations at the same steps in every run, so that curves can be averaged point by point.
  ProcessOptions process;
  process.argv = {o.program, "train", "--learner", t.learner, "--env", "queue", "--scenario", t.world,
                  "--seed", std::to_string(t.seed), "--steps", std::to_string(o.steps), "--out", t.folder,
                  "--evaluate-every", std::to_string(std::max<std::uint64_t>(o.steps / kLooks, 1)),
                  // A point of the figure is of all seeds, so few episodes of each are enough.
                  "--episodes", std::to_string(kEpisodes), "--final-episodes", "2"};
  process.argv.insert(process.argv.end(), t.settings.begin(), t.settings.end());
  if (!o.quick) {
    process.argv.emplace_back("--resume");
  }
  process.output = t.folder / "log";
  auto child = ChildProcess::spawn(process);
  if (!child) {
    return child.error().message;
  }
  const auto ended = child->wait(o.quick ? std::chrono::minutes(5) : std::chrono::hours(2));
  if (!ended) {
    return "took too long";
  }
  return ended->code == 0 ? "" : fmt::format("exit code {}, see {}", ended->code, process.output.string());
}

LearningCurve merged(const std::string& learner, const std::string& world, const std::vector<Curve>& curves) {
  LearningCurve out{.learner = learner, .world = world, .seeds = curves.size()};
  // Look by look: A3C's workers do not end at the same step in every run.
  std::size_t looks = curves.empty() ? 0 : curves.front().size();
  for (const auto& curve : curves) {
    looks = std::min(looks, curve.size());
  }
  for (std::size_t look = 0; look < looks; ++look) {
    std::vector<double> values;
    double steps = 0;
    for (const auto& curve : curves) {
      const auto& [at, value] = *std::next(curve.begin(), static_cast<std::ptrdiff_t>(look));
      values.push_back(value);
      steps += at / static_cast<double>(curves.size());
    }
    out.steps.push_back(std::round(steps));
    out.returns.push_back(bootstrap_iqm(values));
  }
  return out;
}

Status write_all(const std::filesystem::path& folder, const std::map<std::string, std::string>& files) {
  for (const auto& [name, bytes] : files) {
    if (Status status = write_file_atomic(folder / name, bytes); !status.ok()) {
      return status;
    }
  }
  return ok();
}

std::map<std::string, std::string> csv_of(const Matrix& matrix) {
  return {{"matrix.csv", rows_csv(matrix)},
          {"comparisons.csv", comparisons_csv(matrix)},
          {"verdicts.csv", judgements_csv(matrix)}};
}

}  // namespace

std::vector<LearningCurve> learning_curves(const FiguresOptions& o, std::string& note) {
  const std::filesystem::path folder = o.out / "train";
  if (o.learners.empty()) {
    note = "Not run: --without-learning.";
    return {};
  }
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (!can_train(o.program, folder / "help.log")) {
    note = "Not available: this build has no `ballast-bench train`.";
    return {};
  }
  std::vector<Training> trainings;
  // Seeds outside: a run that is stopped has as many of each learner.
  for (const auto& world : o.worlds) {
    for (std::uint64_t seed = o.matrix.cells.first_seed; seed <= o.matrix.cells.last_seed; ++seed) {
      for (const auto& learner : o.learners) {
        const auto settings = settings_of(learner, o.trials);
        // With its settings, so that what others made is not taken for it.
        std::string name = fmt::format("{}-{}-{}-{}", learner, world, o.steps, seed);
        for (std::size_t i = 1; i < settings.size(); i += 2) {
          name += "-" + settings[i];
        }
        trainings.push_back({learner, world, seed, settings, folder / name});
      }
    }
  }
  std::mutex mutex;
  std::atomic<std::size_t> next{0};
  std::size_t done = 0;
  const auto work = [&] {
    for (std::size_t i = next++; i < trainings.size(); i = next++) {
      const std::string failed = train(o, trainings[i]);
      const std::lock_guard lock(mutex);
      std::cerr << fmt::format("{}/{} trainings, {} in {}, seed {}{}\n", ++done, trainings.size(),
                               trainings[i].learner, trainings[i].world, trainings[i].seed,
                               failed.empty() ? "" : ": " + failed);
      if (!failed.empty()) {
        note += fmt::format("{} in {}, seed {}: {}. ", trainings[i].learner, trainings[i].world,
                            trainings[i].seed, failed);
      }
    }
  };
  {
    std::vector<std::jthread> threads;
    for (unsigned k = 1; k < o.matrix.cells.jobs; ++k) {
      threads.emplace_back(work);
    }
    work();
  }
  std::map<std::pair<std::string, std::string>, std::vector<Curve>> curves;
  for (const auto& t : trainings) {
    if (std::filesystem::exists(t.folder / "summary.json")) {
      if (auto curve = read_curve(t.folder / "curve.csv")) {
        curves[{t.learner, t.world}].push_back(std::move(*curve));
      }
    }
  }
  std::vector<LearningCurve> out;
  for (const auto& learner : o.learners) {
    for (const auto& world : o.worlds) {
      if (const auto found = curves.find({learner, world}); found != curves.end()) {
        out.push_back(merged(learner, world, found->second));
      }
    }
  }
  for (const auto& line : kLines) {
    for (const auto& world : o.worlds) {
      if (const auto value = train::evaluate_technique(line, {world}, kEpisodes)) {
        const Estimate same{*value, *value, *value};
        const double every = static_cast<double>(o.steps) / static_cast<double>(kLooks);
        out.push_back({line, world, 1, {every, static_cast<double>(o.steps)}, {same, same}});
      } else {
        note += fmt::format("{} in {}: {}. ", line, world, value.error().message);
      }
    }
  }
  note += fmt::format(
      "{} environment steps a learner and seed, from nothing, each learner with {}. Lines: what the strong "
      "rule (queue_rule), the prior and oracle_foresight return in the same episodes.",
      o.steps, o.trials.empty() ? "the settings of its own file" : "the best of its trials");
  return out;
}

Result<std::vector<ThroughputCurve>> throughput_curves(const FiguresOptions& o, const Progress& progress) {
  std::vector<Cell> cells;
  std::vector<ThroughputCurve> curves;
  for (const auto& traffic : kTraffics) {
    for (const auto& technique : kTechniques) {
      cells.push_back({traffic, technique.policy, has_loop(technique.policy) ? o.matrix.ticks.front() : 0});
      curves.push_back({technique.policy, technique.label, traffic, {}, {}});
    }
  }
  const auto results = run_cells(cells, o.matrix.cells, progress);
  if (!results) {
    return results.error();
  }
  for (std::size_t i = 0; i < curves.size(); ++i) {
    std::size_t seconds = 0;
    for (const auto& seed : (*results)[i]) {
      seconds = std::max(seconds, seed.goodput_by_second.size());
    }
    // The warm-up is not counted, and what is answered after the last arrival is no bin of its own.
    const auto scenario = cell_scenario(cells[i].scenario, o.matrix.cells);
    const auto warm = static_cast<std::size_t>(std::ceil((scenario ? scenario->warmup_s : 0) / kBinS));
    for (std::size_t bin = warm; static_cast<double>(bin + 1) * kBinS <= static_cast<double>(seconds);
         ++bin) {
      std::vector<double> rates;
      for (const auto& seed : (*results)[i]) {
        double sum = 0;
        for (std::size_t s = bin * 5; s < bin * 5 + 5 && s < seed.goodput_by_second.size(); ++s) {
          sum += seed.goodput_by_second[s];
        }
        rates.push_back(sum / kBinS);
      }
      curves[i].seconds.push_back((static_cast<double>(bin) + 0.5) * kBinS);
      curves[i].goodput.push_back(bootstrap_mean(rates));
    }
  }
  return curves;
}

Status run_matrix(FiguresOptions given) {
  const auto options = with_defaults(std::move(given));
  if (!options) {
    return options.error();
  }
  const auto matrix = make_matrix(options->matrix, to_stderr());
  if (!matrix) {
    return matrix.error();
  }
  std::cout << summary(*matrix);
  return write_all(options->out, csv_of(*matrix));
}

Status run_figures(FiguresOptions given) {
  const auto options = with_defaults(std::move(given));
  if (!options) {
    return options.error();
  }
  Figures figures;
  if (!options->live.empty()) {
    auto live = read_live(options->live);
    if (!live) {
      return live.error();
    }
    figures.live = std::move(*live);
  }
  figures.how = fmt::format(
      "Simulated open-loop traffic, {} seeds, paired: every technique gets the same arrivals, sizes and "
      "slowness. "
      "Intervals are 95 % by bootstrap over the seeds.{} Made by `ballast-bench figures{}`.",
      options->matrix.cells.last_seed - options->matrix.cells.first_seed + 1,
      options->quick ? " This is the quick look: short runs of few scenarios, whose figures say little." : "",
      options->quick ? " --quick" : "");
  const auto matrix = make_matrix(options->matrix, to_stderr());
  if (!matrix) {
    return matrix.error();
  }
  figures.matrix = *matrix;
  const auto throughput = throughput_curves(*options, to_stderr());
  if (!throughput) {
    return throughput.error();
  }
  figures.throughput = *throughput;
  figures.learning = learning_curves(*options, figures.learning_note);
  auto files = csv_of(figures.matrix);
  files["figure3.csv"] = learning_csv(figures.learning);
  files["figure4.csv"] = throughput_csv(figures.throughput);
  files["index.html"] = page(figures);
  std::cout << summary(figures.matrix) << (options->out / "index.html").string() << "\n";
  return write_all(options->out, files);
}

}  // namespace ballast::bench
