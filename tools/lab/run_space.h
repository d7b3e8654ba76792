// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <string>

#include "core/base/result.h"
#include "core/base/unique_fd.h"
#include "tools/lab/cgroups.h"
#include "tools/lab/http.h"

namespace ballast::lab {

/// All that one run may call its own: a folder, a cgroup prefix, a bpffs folder and 127.R.0.0/16,
/// so that runs stand side by side. A janitor in a session of its own waits on a pipe from us; when
/// we end, by whatever signal, it kills what runs in the run's cgroups and removes cgroups, pins
/// and folder. It is the only way of cleaning up, so it is used on every run.
class RunSpace {
 public:
  /// REQUIRES that no other thread runs yet (it forks). kPrivilege without root.
  static Result<RunSpace> create();
  RunSpace(RunSpace&& other) noexcept;
  RunSpace& operator=(RunSpace&&) = delete;
  RunSpace(const RunSpace&) = delete;
  RunSpace& operator=(const RunSpace&) = delete;
  /// Lets the janitor work and waits for it.
  ~RunSpace();

  const std::string& id() const { return id_; }
  const std::filesystem::path& folder() const { return folder_; }
  const std::filesystem::path& bpffs() const { return bpffs_; }
  const CgroupLayout& layout() const { return layout_; }
  /// Relative cgroup path of a pod, or of a helper process when `name` starts with "_".
  std::string cgroup(const std::string& name) const { return prefix() + "/" + name; }
  std::string prefix() const { return "ballast-lab-" + id_; }
  /// 127.R.`net`.`host`
  std::string address(int net, int host) const;
  /// The folder is left behind for reading; everything else is still removed.
  void keep_folder();

 private:
  RunSpace() = default;
  Status claim_network();
  Status start_janitor();

  std::string id_;
  int network_ = 0;
  std::filesystem::path folder_;
  std::filesystem::path bpffs_;
  CgroupLayout layout_;
  UniqueFd claim_;     ///< holds 127.R for as long as we or the janitor live
  UniqueFd lifeline_;  ///< write end; the janitor reads its end of file
  pid_t janitor_ = -1;
};

}  // namespace ballast::lab
