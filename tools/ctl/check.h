// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "tools/ctl/release.h"
#include "tools/ctl/view.h"

/// `ballastctl check`: what is missing, before it fails. It looks, and changes nothing.
namespace ballast::ctl {

struct CheckOptions {
  bool pre = false;  ///< before anything of Ballast is installed
  std::filesystem::path bpffs;
  ReleaseOptions api;
  std::string operations;  ///< IP:PORT of a ballast-global; empty: the cluster's is asked for alone
};

enum class Level { kOk, kSkipped, kWarn, kFail };

/// One line. `check` is one of check_kinds(), with what it is about behind a blank ("service shop/web").
struct Finding {
  std::string check;
  Level level = Level::kOk;
  std::string what;
  std::string fix;
  bool privilege = false;  ///< what fails is a privilege or a feature of the kernel
};
using Findings = std::vector<Finding>;

/// Each has a heading "check KIND" in docs/troubleshooting.md.
const std::vector<std::string>& check_kinds();

/// This machine, as ballastd would find it.
void check_host(const CheckOptions& options, Findings& findings);
/// The agent of this machine, by its pinned maps, and the ballast-global that is named.
void check_node(const CheckOptions& options, Findings& findings);
/// The API server, rights, Istio, all nodes' agents, the leader, each Service.
void check_cluster(const CheckOptions& options, Findings& findings);

struct Checked {
  Report report;      ///< [{"check","status","what","fix","link"}]
  int exit_code = 0;  ///< 0: no failure; 3: a failure is a missing privilege or kernel feature; else 1
};
Checked check(const CheckOptions& options);

}  // namespace ballast::ctl
