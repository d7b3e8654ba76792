// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/types.h>

#include <atomic>
#include <chrono>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/base/result.h"

namespace ballast {

struct ProcessOptions {
  std::vector<std::string> argv;               ///< argv[0] is the program, found through PATH
  std::vector<std::string> env;                ///< KEY=VALUE added to ours
  std::filesystem::path output;                ///< stdout and stderr appended here; empty: inherited
  std::vector<std::filesystem::path> cgroups;  ///< cgroup folders the child enters before exec
  std::vector<int> cpus;                       ///< CPU affinity; empty: inherited
  bool die_with_parent = true;                 ///< SIGKILL when the spawning thread's process ends
};

/// How a child ended: exit code, or 128 + signal as a shell says it.
struct ExitStatus {
  int code = 0;
};

/// Owns one child process: it is killed and reaped when the owner goes.
class ChildProcess {
 public:
  /// Fails with the reason (also exec's own errno) when the program could not be started.
  static Result<ChildProcess> spawn(const ProcessOptions& options);
  ChildProcess() = default;
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&& other) noexcept;
  ChildProcess(const ChildProcess&) = delete;
  ChildProcess& operator=(const ChildProcess&) = delete;
  ~ChildProcess();

  pid_t pid() const { return pid_; }
  bool running();
  void signal(int number) const;
  /// nullopt when it still runs after the time.
  std::optional<ExitStatus> wait(std::chrono::milliseconds timeout);
  /// SIGTERM, then SIGKILL after the grace time; reaps. Does nothing on an empty object.
  ExitStatus stop(std::chrono::milliseconds grace);

 private:
  explicit ChildProcess(pid_t pid) : pid_(pid) {}
  pid_t pid_ = -1;
  std::optional<ExitStatus> ended_;
};

/// For a thread that others wait for and that works little: it asks the scheduler for slices as short as
/// there are, so that whoever computes gives way to it when it wakes (sched_setattr(2), sched_runtime;
/// Linux 6.12). No right is needed, nothing of what it may use in all changes, and an older kernel takes no
/// notice.
void ask_for_short_slices();

/// Set once SIGTERM or SIGINT has come; both are caught, and SIGPIPE ignored, from the first call on.
const std::atomic<bool>& stop_on_signals();

/// Folder of the running binary, to find its siblings.
std::filesystem::path binary_dir();

}  // namespace ballast
