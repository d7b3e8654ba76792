// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/distance_command.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <iostream>
#include <map>
#include <mutex>
#include <thread>
#include <tuple>

#include "core/base/file.h"
#include "model/env/registry.h"
#include "tools/bench/statistics.h"

namespace ballast::bench {

namespace {

using Key = std::tuple<std::string, std::string, bool, bool, std::size_t, std::size_t, std::uint64_t, double>;

Key key_of(const DistanceRun& run) {
  return {run.environment, run.poison,    run.threads, run.rules,
          run.workers,     run.staleness, run.seed,    run.learning_rate};
}

std::vector<DistanceRun> plan(const DistanceOptions& options) {
  std::map<Key, bool> planned;
  std::vector<DistanceRun> runs;
  const auto add = [&](const DistanceRun& run) {
    if (!std::exchange(planned[key_of(run)], true)) {
      runs.push_back(run);
    }
  };
  for (std::uint64_t seed = 1; seed <= options.seeds; ++seed) {
    for (const bool rules : {true, false}) {
      const DistanceRun run{.rules = rules,
                            .seed = seed,
                            .environment = options.environment,
                            .learning_rate = options.learning_rate};
      const auto with = [&run](std::size_t staleness, std::size_t workers, const std::string& poison = "none",
                               bool threads = false) {
        DistanceRun out = run;
        out.staleness = staleness;
        out.workers = workers;
        out.poison = poison;
        out.threads = threads;
        return out;
      };
      for (const std::size_t workers : options.workers) {
        for (const std::size_t staleness : options.staleness) {
          if (options.cross == 0 || workers == options.cross || staleness == options.cross) {
            add(with(staleness, workers));
          }
        }
      }
      for (const std::string& poison : options.poison) {
        // As far from the network as workers are who never wait for each other.
        if (!poison.empty()) {
          add(with(options.poison_workers - 1, options.poison_workers, poison));
        }
      }
      for (const std::size_t workers : options.speed_up) {
        if (workers > 0) {
          add(with(workers - 1, workers));
        }
        if (workers > 0 && options.threads) {
          add(with(0, workers, "none", true));
        }
      }
    }
  }
  return runs;
}

std::string with_interval(const std::vector<double>& values) {
  const Estimate e = bootstrap_mean(values);
  return fmt::format("{:.4g} ({:.4g} to {:.4g})", e.value, e.low, e.high);
}

double median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values.empty() ? 0 : values[values.size() / 2];
}

std::string table(const DistanceRuns& all) {
  using Row = std::tuple<bool, std::string, bool, std::size_t, std::size_t>;
  std::map<Row, std::map<std::uint64_t, const DistanceResult*>> rows;
  for (const auto& [run, result] : all) {
    rows[{run.threads, run.poison, !run.rules, run.workers, run.staleness}][run.seed] = &result;
  }
  std::string out = fmt::format("{:<8} {:<9} {:<6} {:>7} {:>9} {:>7} {:>26} {:>10} {:>8} {:>26}\n", "how",
                                "poison", "rules", "workers", "staleness", "solved", "final return (95 %)",
                                "steps", "seconds", "of the clean runs' return");
  for (const auto& [row, seeds] : rows) {
    const auto& [threads, poison, off, workers, staleness] = row;
    std::vector<double> returns, at, seconds, own, clean;
    const auto beside = rows.find({threads, "none", off, workers, staleness});
    for (const auto& [seed, result] : seeds) {
      returns.push_back(result->final_return);
      if (result->solved_at > 0) {
        at.push_back(static_cast<double>(result->solved_at));
        seconds.push_back(result->seconds);
      }
      if (poison != "none" && beside != rows.end() && beside->second.contains(seed)) {
        own.push_back(result->final_return);
        clean.push_back(beside->second.at(seed)->final_return);
      }
    }
    const Estimate ratio = paired_ratio(own, clean);
    out += fmt::format(
        "{:<8} {:<9} {:<6} {:>7} {:>9} {:>7} {:>26} {:>10} {:>8} {:>26}\n", threads ? "threads" : "in turn",
        poison, off ? "off" : "on", workers, threads ? "-" : std::to_string(staleness),
        fmt::format("{}/{}", at.size(), seeds.size()), threads ? "-" : with_interval(returns),
        at.empty() ? "-" : fmt::format("{:.0f}", median(at)),
        threads && !at.empty() ? fmt::format("{:.2f}", median(seconds)) : "-",
        own.empty() ? "-" : fmt::format("{:.2f} ({:.2f} to {:.2f})", ratio.value, ratio.low, ratio.high));
  }
  return out;
}

// Runs what is not done yet, and keeps the file up to date all the while.
class Campaign {
 public:
  Campaign(const DistanceOptions& options, DistanceRuns before)
      : options_(options), done_(std::move(before)), plan_(plan(options)) {
    std::map<Key, bool> known;
    for (const auto& [run, result] : done_) {
      known[key_of(run)] = true;
    }
    std::erase_if(plan_, [&](const DistanceRun& run) { return known.contains(key_of(run)); });
    // Those that take a thread a worker have the machine to themselves, at the end.
    std::stable_partition(plan_.begin(), plan_.end(), [](const DistanceRun& run) { return !run.threads; });
    in_turn_ = static_cast<std::size_t>(
        std::count_if(plan_.begin(), plan_.end(), [](const DistanceRun& run) { return !run.threads; }));
  }

  Status run() {
    run_all(options_.jobs, 0, in_turn_);
    run_all(1, in_turn_, plan_.size());
    return status_;
  }
  const DistanceRuns& done() const { return done_; }
  std::size_t left() const { return left_; }

 private:
  void run_all(unsigned jobs, std::size_t from, std::size_t to) {
    next_ = from;
    std::vector<std::jthread> threads;
    for (unsigned t = 0; t < jobs; ++t) {
      threads.emplace_back([this, to] {
        while (const DistanceRun* run = next(to)) {
          keep(*run, learn_at_distance(*run, options_.steps));
        }
      });
    }
  }
  const DistanceRun* next(std::size_t to) {
    const std::lock_guard lock(mutex_);
    const double minutes =
        std::chrono::duration<double, std::ratio<60>>(std::chrono::steady_clock::now() - began_).count();
    if (next_ >= to || !status_) {
      return nullptr;
    }
    if (options_.minutes > 0 && minutes >= options_.minutes) {
      left_ += to - next_;
      next_ = to;
      return nullptr;
    }
    return &plan_[next_++];
  }
  void keep(const DistanceRun& run, const DistanceResult& result) {
    const std::lock_guard lock(mutex_);
    done_.emplace_back(run, result);
    if (auto written = write_file_atomic(options_.output, distance_csv(done_)); !written) {
      status_ = written;
    }
  }

  const DistanceOptions& options_;
  const std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  std::mutex mutex_;
  DistanceRuns done_;
  std::vector<DistanceRun> plan_;
  std::size_t next_ = 0, in_turn_ = 0, left_ = 0;
  Status status_ = ok();
};

}  // namespace

Status run_distance(const DistanceOptions& options) {
  if (const auto known = env::find_environment(options.environment); !known) {
    return known.error();
  }
  DistanceRuns before;
  if (const auto text = read_file(options.output)) {
    auto rows = distance_from_csv(*text);
    if (!rows) {
      return rows.error().in(options.output);
    }
    before = std::move(*rows);
  }
  spdlog::set_level(spdlog::level::err);  // a worker shut out is told each time
  Campaign campaign(options, std::move(before));
  if (auto status = campaign.run(); !status) {
    return status;
  }
  std::cout << table(campaign.done());
  if (campaign.left() > 0) {
    std::cout << campaign.left() << " runs are left: the time was over\n";
  }
  if (options.page.empty()) {
    return ok();
  }
  return write_file_atomic(
      options.page,
      distance_page(
          campaign.done(), options.steps,
          fmt::format("A3C on {} through the global network, {} steps of all workers together. Lines "
                      "are means over seeds, bands 95 % intervals (bootstrap).",
                      options.environment, options.steps)));
}

}  // namespace ballast::bench
