// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "tools/ctl/global.h"
#include "tools/ctl/release.h"
#include "tools/ctl/top.h"
#include "tools/ctl/verbs.h"

namespace {

using namespace ballast;

int fail(const Error& error) {
  fmt::print(stderr, "ballastctl: {}\n", error.message);
  return error.exit_code();
}

int print(const ctl::Report& report, const std::string& format) {
  fmt::print("{}", format == "json"  ? report.json.dump(2) + "\n"
                   : format == "dot" ? report.dot
                                     : report.text);
  return 0;
}

std::string verb_list() {
  std::string list;
  for (const ctl::Verb& verb : ctl::verbs()) {
    list += fmt::format("  {:<12} {}\n", verb.name, verb.help);
  }
  return list +
         fmt::format("  {:<12} {}\n", "release", "give Services back to plain Kubernetes: SERVICE or --all");
}

std::string verb_names() {
  std::string names;
  for (const ctl::Verb& verb : ctl::verbs()) {
    names += (names.empty() ? "" : ", ") + std::string(verb.name);
  }
  return names + ", release";
}

int run_release(const ctl::ReleaseOptions& options) {
  const auto said = ctl::release(options);
  if (!said) {
    return fail(said.error());
  }
  fmt::print("{}", *said);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  std::string bpffs = "/sys/fs/bpf/ballast";
  std::string format = "table";
  std::string name;
  std::string target;
  CLI::App app("Reads what ballastd measures and decides, from the pinned maps; ballastd may be dead.",
               "ballastctl");
  app.footer("Verbs:\n" + verb_list() +
             "\nTARGET limits the rows: SERVICE, POD, SERVICE/POD, each with or without NAMESPACE/,\n"
             "a cgroup path or a cgroup id.\n"
             "Exit codes: 0 done, 1 failed, 2 wrong use, 3 missing privilege.");
  app.add_option("--bpffs", bpffs, "folder of the pinned maps")->capture_default_str();
  app.add_option("-o,--output", format, "table or json; dot for calls")->capture_default_str();
  app.add_option("VERB", name, "what to show")->required();
  app.add_option("TARGET", target, "what to limit it to");
  bool alive = false;
  app.add_flag("--alive", alive, "status: exit code 1 unless ballastd is alive, for probes");
  ctl::ReleaseOptions release;
  app.add_flag("--all", release.all, "release: every Service");
  app.add_option("--server", release.server,
                 "release: https://HOST:PORT of the API server (default: in the cluster)");
  app.add_option("--ca-file", release.ca_file, "release: who signed its certificate");
  app.add_option("--token-file", release.token_file, "release: our token");
  app.add_option("--lease", release.lease, "release: NAMESPACE/NAME of the leader's Lease")
      ->capture_default_str();
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  }
  if (name == "release") {
    release.target = target;
    return run_release(release);
  }
  const ctl::Verb* verb = ctl::find_verb(name);
  if (verb == nullptr) {
    return fail(Error::usage(fmt::format("unknown verb {}; known: {}", name, verb_names())));
  }
  if (format != "table" && format != "json" && format != "dot") {
    return fail(Error::usage(fmt::format("-o {}: unknown format; use table or json", format)));
  }
  if (format == "dot" && name != "calls") {
    return fail(Error::usage(fmt::format("{} has no -o dot; use table or json", name)));
  }
  if (!target.empty() && !verb->takes_target) {
    return fail(Error::usage(fmt::format("{} takes no target; leave out {}", name, target)));
  }
  if (target.empty() && verb->needs_target) {
    return fail(Error::usage(fmt::format("{} needs a target: SERVICE or SERVICE/POD", name)));
  }
  if (name == "global") {
    const auto report = ctl::global(target);
    return report ? print(*report, format) : fail(report.error());
  }
  if (verb->run == nullptr) {
    const Status status = ctl::top(bpffs, target, format == "json");
    return status ? 0 : fail(status.error());
  }
  auto view = ctl::open_view(bpffs);
  if (!view) {
    return fail(view.error());
  }
  const auto report = verb->run(*view, target);
  if (!report) {
    return fail(report.error());
  }
  const int printed = print(*report, format);
  return alive && name == "status" && report->json["alive"] == false ? 1 : printed;
}
