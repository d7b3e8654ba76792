// SPDX-License-Identifier: Apache-2.0
// ballast-bench-telemetry: the parts of tools/bench/telemetry.sh that have to be fast. Each prints
// one JSON object.
#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>

#include "tools/bench/telemetry/capture.h"
#include "tools/bench/telemetry/empty_pair.h"
#include "tools/bench/telemetry/load.h"

namespace {

using namespace ballast;
using nlohmann::json;

int finish(const Status& status) {
  if (!status) {
    std::cerr << "ballast-bench-telemetry: " << status.error().message << "\n";
    return status.error().exit_code();
  }
  return 0;
}

int load(const bench::LoadOptions& options) {
  const auto report = bench::run_load(options);
  if (!report) {
    return finish(report.error());
  }
  std::cout << json{{"sent", report->sent},           {"answered", report->answered},
                    {"failed", report->failed},       {"broken", report->broken},
                    {"longest_s", report->longest_s}, {"seconds", report->seconds}}
            << "\n";
  return 0;
}

int capture(const bench::CaptureOptions& options) {
  const auto report = bench::run_capture(options);
  if (!report) {
    return finish(report.error());
  }
  std::cout << json{{"pairs", report->pairs},   {"dropped", report->dropped}, {"p50_ns", report->p50_ns},
                    {"p90_ns", report->p90_ns}, {"p99_ns", report->p99_ns},   {"p999_ns", report->p999_ns}}
            << "\n";
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Load, packet capture and an empty program pair for tools/bench/telemetry.sh",
               "ballast-bench-telemetry");
  app.require_subcommand(1);
  bench::LoadOptions o;
  auto* load_command = app.add_subcommand("load", "send HTTP/1.1 requests and count the answers");
  load_command->add_option("--address", o.address)->capture_default_str();
  load_command->add_option("--port", o.port)->capture_default_str();
  load_command->add_option("--path", o.path)->capture_default_str();
  load_command->add_option("--connections", o.connections)
      ->check(CLI::Range(1U, 20000U))
      ->capture_default_str();
  load_command->add_option("--seconds", o.seconds)->check(CLI::Range(0.01, 3600.0))->capture_default_str();
  load_command->add_option("--rate", o.rate, "requests a second; 0: as fast as answers come")
      ->check(CLI::Range(0.0, 1e7))
      ->capture_default_str();
  load_command->add_option("--pipeline", o.pipeline)->check(CLI::Range(1U, 1024U))->capture_default_str();
  load_command->add_option("--body", o.body, "bytes of each request's body")
      ->check(CLI::Range(std::uint64_t{0}, std::uint64_t{1} << 28))
      ->capture_default_str();
  load_command->add_flag("--chunked", o.chunked, "the body in chunks, and gzip is accepted");
  load_command->add_option("--chunk", o.chunk, "bytes of each chunk")
      ->check(CLI::Range(std::uint64_t{1}, std::uint64_t{1} << 20))
      ->capture_default_str();
  load_command->add_flag("--close", o.close, "a connection a request");
  load_command->add_option("--proxy", o.proxy, "version of a PROXY protocol header before the first request")
      ->check(CLI::Range(0U, 2U));
  load_command->add_flag("--fast-open", o.fast_open, "the first request with the SYN");
  load_command->add_flag("--mptcp", o.mptcp);
  bench::CaptureOptions c;
  auto* capture_command = app.add_subcommand("capture", "first-byte latency from packets, until stdin ends");
  capture_command->add_option("--interface", c.interface)->required();
  capture_command->add_option("--port", c.port)->capture_default_str();
  std::string cgroup_root;
  auto* empty_command = app.add_subcommand("empty", "hold an empty cgroup_skb pair until stdin ends");
  empty_command->add_option("CGROUP", cgroup_root, "the cgroup v2 root")->required();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    return app.exit(error) == 0 ? 0 : 2;
  }
  if (load_command->parsed()) {
    return load(o);
  }
  return capture_command->parsed() ? capture(c) : finish(bench::hold_empty_pair(cgroup_root));
}
