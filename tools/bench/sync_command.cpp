// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/sync_command.h"

#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <sstream>
#include <thread>

#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/process.h"
#include "model/sync/client/fleet_client.h"
#include "tools/bench/sync_swarm.h"

namespace ballast::bench {

namespace {

using nlohmann::ordered_json;
using namespace std::chrono_literals;

struct Usage {
  double cpu_s = 0;
  double rss_mb = 0;
};

// CPU and memory of a process from /proc; zeros when it is gone.
Usage usage_of(pid_t pid) {
  Usage usage;
  const std::string folder = "/proc/" + std::to_string(pid);
  if (const auto stat = read_file(folder + "/stat")) {
    std::istringstream fields(stat->substr(stat->rfind(')') + 2));
    std::string skipped;
    double user = 0;
    double system = 0;
    for (int i = 3; i < 14; ++i) {
      fields >> skipped;
    }
    fields >> user >> system;
    usage.cpu_s = (user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK));
  }
  std::ifstream status(folder + "/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmRSS:")) {
      usage.rss_mb = std::stod(line.substr(6)) / 1024;
    }
  }
  return usage;
}

double load_average() {
  double load = 0;
  return ::getloadavg(&load, 1) == 1 ? load : 0;
}

struct Server {
  TempDir folder;
  ChildProcess process;
  std::string address;
};

Result<Server> start_server(const SyncOptions& options) {
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-bench-sync-");
  if (!folder) {
    return folder.error();
  }
  const auto log = folder->path() / "log";
  auto process = ChildProcess::spawn(
      {.argv = {(binary_dir() / "ballast-global").string(), "--listen", "127.0.0.1:0", "--state",
                (folder->path() / "state").string(), "--parameters", std::to_string(options.parameters)},
       .output = log});
  if (!process) {
    return process.error();
  }
  constexpr std::string_view kMark = "listening address=";
  for (int i = 0; i < 200; ++i) {
    std::this_thread::sleep_for(50ms);
    const auto text = read_file(log);
    const std::size_t at = text ? text->find(kMark) : std::string::npos;
    if (at != std::string::npos && text->find(' ', at + kMark.size()) != std::string::npos) {
      const std::size_t from = at + kMark.size();
      return Server{std::move(*folder), std::move(*process),
                    text->substr(from, text->find(' ', from) - from)};
    }
    if (!process->running()) {
      return Error::failed("ballast-global ended at once: " + (text ? *text : std::string()));
    }
  }
  return Error::failed("ballast-global did not listen within 10 s");
}

/// Who writes weights, as ballastd --role writer does: asks for the whole, and again half a second later.
class Writer {
 public:
  explicit Writer(const std::string& address)
      : client_(sync::FleetClient::start({.address = address, .node_id = "writer"})),
        thread_([this](const std::stop_token& stop) { run(stop); }) {}
  ordered_json row() {
    thread_.request_stop();
    thread_.join();
    std::sort(waited_ms_.begin(), waited_ms_.end());
    const auto at = [this](double q) {
      return waited_ms_.empty()
                 ? 0.0
                 : waited_ms_[static_cast<std::size_t>(q * static_cast<double>(waited_ms_.size() - 1) + 0.5)];
    };
    return {{"writer_views", waited_ms_.size()},
            {"writer_endpoints", endpoints_},
            {"writer_p50_ms", at(0.5)},
            {"writer_max_ms", at(1)}};
  }

 private:
  void run(const std::stop_token& stop) {
    MonotonicNs seen = 0;
    while (!stop.stop_requested()) {
      const MonotonicNs asked = SystemClock().now();
      client_->offer({.whole = true});
      while (!stop.stop_requested()) {
        const auto view = client_->latest();
        if (view != nullptr && view->received != seen) {
          seen = view->received;
          waited_ms_.push_back(static_cast<double>(seen - asked) * 1e-6);
          endpoints_ = 0;
          for (const auto& service : view->services) {
            endpoints_ += service.others.size();
          }
          break;
        }
        std::this_thread::sleep_for(1ms);
      }
      std::this_thread::sleep_for(500ms);
    }
  }

  std::unique_ptr<sync::FleetClient> client_;
  std::vector<double> waited_ms_;
  std::size_t endpoints_ = 0;
  std::jthread thread_;
};

double quantile(const std::vector<float>& sorted, double q) {
  if (sorted.empty()) {
    return 0;
  }
  const auto rank = static_cast<std::size_t>(q * static_cast<double>(sorted.size() - 1) + 0.5);
  return static_cast<double>(sorted[rank]);
}

struct Meter {
  pid_t server = 0;
  Usage server_before{}, server_after{};
  double client_before = 0, client_after = 0;

  static void at(bool begins, void* self) {
    auto* meter = static_cast<Meter*>(self);
    (begins ? meter->server_before : meter->server_after) = usage_of(meter->server);
    (begins ? meter->client_before : meter->client_after) = usage_of(::getpid()).cpu_s;
  }
};

Result<ordered_json> measure(const SyncOptions& options, std::size_t workers) {
  auto server = start_server(options);
  if (!server) {
    return server.error();
  }
  Meter meter{.server = server->process.pid()};
  const double load_before = load_average();
  std::optional<Writer> writer;
  if (options.writer) {
    writer.emplace(server->address);
  }
  const SwarmResult r = run_swarm(
      {.address = server->address,
       .workers = workers,
       .interval_s = options.interval_s,
       .seconds = options.seconds,
       .threads = options.threads},
      [&] {
        return options.pods > 0 ? fleet_script(workers, options.pods) : sync_script(options.parameters);
      },
      &Meter::at, &meter);
  const double cpu = (meter.server_after.cpu_s - meter.server_before.cpu_s) / options.seconds;
  const double rate = static_cast<double>(r.syncs) / options.seconds;
  const ordered_json of_writer = writer ? writer->row() : ordered_json::object();
  writer.reset();
  server->process.stop(5s);
  const double seconds = options.seconds;
  ordered_json row = {{options.pods > 0 ? "nodes" : "workers", workers}};
  if (options.pods > 0) {
    row["pods"] = options.pods;
  } else {
    row["params"] = options.parameters;
    row["versions"] = r.last_version - r.first_version;
  }
  row.update(ordered_json{{"interval_s", options.interval_s},
                          {"seconds", options.seconds},
                          {"syncs", r.syncs},
                          {"syncs_per_s", rate},
                          {"p50_ms", quantile(r.latency_ms, 0.5)},
                          {"p90_ms", quantile(r.latency_ms, 0.9)},
                          {"p99_ms", quantile(r.latency_ms, 0.99)},
                          {"p999_ms", quantile(r.latency_ms, 0.999)},
                          {"max_ms", quantile(r.latency_ms, 1)},
                          {"lost", r.lost},
                          {"broken_streams", r.broken},
                          {"broken_why", r.broken_why},
                          {"verdicts", r.verdicts},
                          {"sent_mb_per_s", static_cast<double>(r.sent_bytes) / 1e6 / seconds},
                          {"pulled_mb_per_s", static_cast<double>(r.received_bytes) / 1e6 / seconds},
                          {"server_cpu_cores", cpu},
                          {"server_rss_mb", meter.server_after.rss_mb},
                          {"server_cpu_us_per_sync", rate > 0 ? cpu * 1e6 / rate : 0},
                          {options.pods > 0 ? "server_kib_per_node" : "server_kib_per_worker",
                           meter.server_after.rss_mb * 1024 / static_cast<double>(workers)},
                          {"client_cpu_cores", (meter.client_after - meter.client_before) / options.seconds},
                          {"load_average_before", load_before},
                          {"load_average_after", load_average()}});
  row.update(of_writer);
  return row;
}

SyncCost cost_of(const ordered_json& row) {
  const bool fleet = row.contains("nodes");
  return {fleet, row[fleet ? "nodes" : "workers"], row["server_cpu_us_per_sync"],
          row[fleet ? "server_kib_per_node" : "server_kib_per_worker"]};
}

// Rows of an earlier run's JSON: one, or a list of them.
Result<std::vector<SyncCost>> costs_of(const std::string& file) {
  const auto text = read_file(file);
  if (!text) {
    return text.error();
  }
  std::vector<SyncCost> out;
  try {
    const auto rows = ordered_json::parse(*text);
    for (const auto& row : rows.is_array() ? rows : ordered_json::array({rows})) {
      out.push_back(cost_of(row));
    }
  } catch (const nlohmann::json::exception& error) {
    return Error::usage(file + ": not what ballast-bench sync or fleet wrote: " + error.what());
  }
  return out;
}

std::string csv_of(const ordered_json& rows) {
  std::string head;
  std::string lines;
  for (const auto& row : rows) {
    std::string line;
    for (const auto& [name, value] : row.items()) {
      if (value.is_number()) {
        head += &row == &rows.front() ? (head.empty() ? "" : ",") + name : "";
        line += (line.empty() ? "" : ",") + fmt::format("{:.6g}", value.get<double>());
      }
    }
    lines += line + "\n";
  }
  return head + "\n" + lines;
}

// Two files a worker: its socket here and a spare for gRPC's own.
Status raise_file_limit(std::size_t workers) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < workers + 256) {
    return Error::usage("--workers " + std::to_string(workers) + ": this session may open " +
                        std::to_string(limit.rlim_max) + " files; raise it with ulimit -n");
  }
  return ok();
}

}  // namespace

Status run_sync(const SyncOptions& options) {
  if (auto raised = raise_file_limit(*std::max_element(options.workers.begin(), options.workers.end()));
      !raised) {
    return raised;
  }
  ordered_json rows = ordered_json::array();
  std::vector<SyncCost> costs;
  if (!options.beside.empty()) {
    auto earlier = costs_of(options.beside);
    if (!earlier) {
      return earlier.error();
    }
    costs = std::move(*earlier);
  }
  for (const std::size_t workers : options.workers) {
    auto row = measure(options, workers);
    if (!row) {
      return row.error();
    }
    costs.push_back(cost_of(*row));
    rows.push_back(std::move(*row));
  }
  if (!options.plot.empty()) {
    if (auto written = write_file_atomic(options.plot, sync_cost_svg(costs)); !written) {
      return written;
    }
  }
  if (!options.csv.empty()) {
    if (auto written = write_file_atomic(options.csv, csv_of(rows)); !written) {
      return written;
    }
  }
  const std::string text = (rows.size() == 1 ? rows.front() : rows).dump(1) + "\n";
  if (options.output == "-") {
    std::cout << text;
    return ok();
  }
  return write_file_atomic(options.output, text);
}

}  // namespace ballast::bench
