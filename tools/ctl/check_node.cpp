// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <filesystem>
#include <map>

#include "agent/guard/guard.h"
#include "core/base/human.h"
#include "tools/ctl/check.h"
#include "tools/ctl/decisions.h"
#include "tools/ctl/global.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

constexpr const char* kStart = "start ballastd (systemctl start ballastd, or look at its pod)";

/// What to do where there are no maps: name those beside it that some ballastd has, else start one.
std::string look_elsewhere(const std::filesystem::path& bpffs) {
  std::error_code error;
  std::string found;
  for (const auto& other : std::filesystem::directory_iterator(bpffs.parent_path(), error)) {
    if (other.path() != bpffs && std::filesystem::exists(other.path() / BALLAST_MAP_META, error)) {
      found += (found.empty() ? "" : ", or ") + std::string("--bpffs ") + other.path().string();
    }
  }
  return (found.empty() ? "" : "a ballastd has its maps elsewhere: " + found + "; else ") + kStart;
}

void check_agent(const Json& status, Findings& findings) {
  if (status["alive"] == true) {
    findings.push_back({"agent", Level::kOk,
                        fmt::format("ballastd {} lives, mode {}, sink {}", status["build"].get<std::string>(),
                                    status["mode"].get<std::string>(), status["sink"].get<std::string>()),
                        ""});
  } else {
    findings.push_back(
        {"agent", Level::kFail,
         fmt::format("ballastd is dead: its last heartbeat is {} old; the programs go on counting, weights "
                     "stay as they are",
                     human_duration_ns(status["heartbeat_age_s"].get<double>() * 1e9)),
         kStart});
  }
  if (const auto trouble = status["trouble"].get<std::string>(); !trouble.empty()) {
    findings.push_back(
        {"agent trouble", Level::kFail, trouble, "repair what it names; ballastd tries again by itself"});
  }
  for (const auto& [name, on] : status["programs"].items()) {
    if (on == false) {
      findings.push_back({"programs " + name, Level::kFail, "the programs of " + name + " are not attached",
                          "ballastd --log debug says why the kernel refused them", true});
    }
  }
  for (const Json& feature : status["features"]) {
    if (feature["available"] == false) {
      findings.push_back({"programs " + feature["name"].get<std::string>(), Level::kWarn,
                          "not on this kernel: " + feature["fallback"].get<std::string>(),
                          "nothing, or a kernel that has it (docs/support-matrix.md)"});
    }
  }
  findings.push_back({"policy", Level::kOk,
                      fmt::format("{}, epoch {}, version {}", status["policy"].get<std::string>(),
                                  status["policy_epoch"].get<std::uint64_t>(),
                                  status["policy_version"].get<std::uint64_t>()),
                      ""});
  std::map<std::string, int> gaps;
  for (const Json& gap : status["not_measured"]) {
    ++gaps[gap["kind"].get<std::string>()];
  }
  for (const auto& [kind, cgroups] : gaps) {
    findings.push_back({"coverage " + kind, Level::kWarn,
                        kind == "calls"
                            ? fmt::format("{} cgroups call more peers than the call graph keeps", cgroups)
                            : fmt::format("{} cgroups have traffic that is not measured: {}", cgroups, kind),
                        "ballastctl loss names them and the reasons"});
  }
}

/// What became of the weights of each Service that this agent decided about.
void check_decisions(const View& view, Findings& findings) {
  const auto rows = decisions(view, "");
  if (!rows) {
    return;
  }
  std::map<std::string, const ballast_decision_value*> services;
  for (const auto& row : *rows) {
    services.emplace(service_label(name_of(row.key)), &row.value);
  }
  for (const auto& [name, value] : services) {
    const bool refused = value->outcome == static_cast<std::uint32_t>(guard::Outcome::kRefused);
    findings.push_back({"service " + name, refused ? Level::kFail : Level::kOk,
                        fmt::format("mode {}, weights {}, {}{}", mode_name(value->mode),
                                    value->neutral != 0 ? "equal" : "unequal", outcome_name(*value),
                                    refused ? ": " + field(value->outcome_detail) : ""),
                        "ballastctl explain " + name});
  }
}

void check_global(const std::string& address, Findings& findings) {
  const auto said = global(address);
  if (!said) {
    findings.push_back({"global", Level::kFail, said.error().message,
                        "start ballast-global, or name its --operations address"});
    return;
  }
  const bool ready = said->json.value("ready", false);
  const bool leader = said->json.value("leader", false);
  findings.push_back({"global", ready || !leader ? Level::kOk : Level::kFail,
                      fmt::format("{} {}, {} workers push", address,
                                  ready    ? "leads"
                                  : leader ? "leads and does not listen"
                                           : "follows",
                                  said->json.value("workers_pushing", 0)),
                      "its log says what it waits for"});
}

}  // namespace

void check_node(const CheckOptions& options, Findings& findings) {
  auto view = open_view(options.bpffs);
  const auto said = view ? status(*view, "") : Result<Report>(view.error());
  if (!said) {
    const bool other = said.error().message.find("wire version") != std::string::npos;
    const bool privilege = said.error().kind == Error::Kind::kPrivilege;
    findings.push_back({"pins", Level::kFail, said.error().message,
                        other       ? "ballastctl of the same version as ballastd; after an upgrade "
                                      "ballastd --unload, then start it"
                        : privilege ? "run it as root"
                                    : look_elsewhere(options.bpffs),
                        privilege});
  } else {
    findings.push_back({"pins", Level::kOk, "maps at " + options.bpffs.string(), ""});
    check_agent(said->json, findings);
    check_decisions(*view, findings);
  }
  if (!options.operations.empty()) {
    check_global(options.operations, findings);
  }
}

}  // namespace ballast::ctl
