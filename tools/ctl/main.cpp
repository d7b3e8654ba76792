// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <string>

#include "core/cli/program.h"
#include "tools/ctl/check.h"
#include "tools/ctl/global.h"
#include "tools/ctl/release.h"
#include "tools/ctl/top.h"
#include "tools/ctl/ui.h"
#include "tools/ctl/verbs.h"

namespace {

using namespace ballast;

const cli::About kAbout = {
    "ballastctl",
    1,
    "Shows what ballastd measures and decides, from the pinned maps; ballastd may be dead",
    "A SERVICE or POD may have NAMESPACE/ in front.\n",
    {{"ballastctl check", "What is missing, and what to do about it"},
     {"ballastctl top", "A live table"},
     {"ballastctl explain shop/web", "Why web's endpoints have their weights"},
     {"ballastctl requests -o json", "For scripts"}},
    {"ballastd(8)", "ballast-global(8)"}};

struct Flags {
  std::string bpffs = "/sys/fs/bpf/ballast";
  std::string format = "table";
  bool alive = false;
  bool pre = false;
  std::string operations;
  ctl::UiOptions ui;
  ctl::ReleaseOptions release;  ///< its target is that of all verbs
};

void add_verbs(CLI::App& app, Flags& flags) {
  app.require_subcommand(1);
  for (const ctl::Verb& verb : ctl::verbs()) {
    CLI::App* command = app.add_subcommand(verb.name, verb.help)->fallthrough();
    if (*verb.target != '\0') {
      command->add_option("TARGET", flags.release.target, verb.target)->required(verb.needs_target);
    }
  }
  app.get_subcommand("status")->add_flag("--alive", flags.alive,
                                         "exit code 1 unless ballastd is alive, for probes");
  CLI::App& release = *app.get_subcommand("release");
  release.add_flag("--all", flags.release.all, "every Service");
  CLI::App& ui =
      *app.add_subcommand("ui", "a page for a browser: service map, charts, explanations")->fallthrough();
  ui.add_option("--listen", flags.ui.listen, "IP:PORT, of loopback alone")->capture_default_str();
  ui.add_option("--report", flags.ui.report, "write the page to this file instead, as it is now");
  ui.add_option("--seconds", flags.ui.seconds, "of a report")
      ->check(CLI::Range(1, 600))
      ->capture_default_str();
  CLI::App& check =
      *app.add_subcommand("check", "what is missing here and in the cluster, and what to do about it")
           ->fallthrough();
  check.add_flag("--pre", flags.pre, "before Ballast is installed; needs no privilege");
  check.add_option("--operations", flags.operations, "IP:PORT of a ballast-global's --operations");
  for (CLI::App* command : {&release, &check}) {
    command->add_option("--server", flags.release.server,
                        "https://HOST:PORT of the API server (none: in the cluster)");
    command->add_option("--ca-file", flags.release.ca_file, "who signed its certificate");
    command->add_option("--token-file", flags.release.token_file, "our token");
    command->add_option("--lease", flags.release.lease, "NAMESPACE/NAME of the leader's Lease")
        ->capture_default_str();
  }
}

Result<ctl::Report> report(const ctl::Verb& verb, const Flags& flags) {
  if (verb.run == nullptr) {
    return ctl::global(flags.release.target);
  }
  auto view = ctl::open_view(flags.bpffs);
  return view ? verb.run(*view, flags.release.target) : view.error();
}

}  // namespace

int main(int argc, char** argv) {
  cli::Program program(kAbout);
  Flags flags;
  program.app()
      .add_option("--bpffs", flags.bpffs, "folder of the pinned maps")
      ->envname("BALLAST_BPFFS")
      ->capture_default_str();
  program.app()
      .add_option("-o,--output", flags.format, "table or json; dot for calls")
      ->check(CLI::IsMember({"table", "json", "dot"}))
      ->capture_default_str();
  add_verbs(program.app(), flags);
  if (const auto code = program.parse(argc, argv)) {
    return *code;
  }
  const std::string name = program.app().get_subcommands().front()->get_name();
  if (flags.format == "dot" && name != "calls") {
    return program.finish(Error::usage(name + " has no -o dot; use table or json"));
  }
  if (name == "check") {
    const auto checked = ctl::check({flags.pre, flags.bpffs, flags.release, flags.operations});
    fmt::print("{}", flags.format == "json" ? checked.report.json.dump(2) + "\n" : checked.report.text);
    return checked.exit_code;
  }
  if (name == "release") {
    const auto said = ctl::release(flags.release);
    fmt::print("{}", said ? *said : "");
    return program.finish(said ? ok() : Status(said.error()));
  }
  if (name == "ui") {
    flags.ui.bpffs = flags.bpffs;
    return program.finish(ctl::ui(flags.ui));
  }
  if (name == "top") {
    return program.finish(ctl::top(flags.bpffs, flags.release.target, flags.format == "json"));
  }
  const auto verb = std::find_if(ctl::verbs().begin(), ctl::verbs().end(),
                                 [&](const ctl::Verb& one) { return one.name == name; });
  const auto shown = report(*verb, flags);
  if (!shown) {
    return program.finish(shown.error());
  }
  fmt::print("{}", flags.format == "json"  ? shown->json.dump(2) + "\n"
                   : flags.format == "dot" ? shown->dot
                                           : shown->text);
  return flags.alive && shown->json["alive"] == false ? 1 : 0;
}
