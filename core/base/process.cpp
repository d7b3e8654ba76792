// SPDX-License-Identifier: Apache-2.0
#include "core/base/process.h"

#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <thread>
#include <tuple>
#include <utility>

#include "core/base/unique_fd.h"

namespace ballast {

namespace {

// Everything the child touches between fork and exec is laid out before the fork: a thread of the
// parent may hold the allocator's lock at that moment.
struct ChildPlan {
  std::vector<char*> argv;
  std::vector<char*> env;
  std::vector<std::string> cgroup_procs;
  cpu_set_t cpus{};
  bool pin = false;
  const char* output = nullptr;
  bool die_with_parent = true;
  pid_t parent = -1;
};

[[noreturn]] void fail_child(int report, int error) {
  const ssize_t ignored = ::write(report, &error, sizeof error);
  static_cast<void>(ignored);
  ::_exit(127);
}

[[noreturn]] void run_child(const ChildPlan& plan, int report) {
  if (plan.die_with_parent) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::getppid() != plan.parent) {
      ::_exit(127);
    }
  }
  for (const auto& procs : plan.cgroup_procs) {
    const int fd = ::open(procs.c_str(), O_WRONLY | O_CLOEXEC);
    if (fd < 0 || ::write(fd, "0", 1) != 1) {
      fail_child(report, errno);
    }
    ::close(fd);
  }
  if (plan.pin && ::sched_setaffinity(0, sizeof plan.cpus, &plan.cpus) != 0) {
    fail_child(report, errno);
  }
  const int in = ::open("/dev/null", O_RDONLY);
  if (in >= 0) {
    ::dup2(in, STDIN_FILENO);
  }
  if (plan.output != nullptr) {
    const int out = ::open(plan.output, O_WRONLY | O_CREAT | O_APPEND, 0644);
    if (out < 0) {
      fail_child(report, errno);
    }
    ::dup2(out, STDOUT_FILENO);
    ::dup2(out, STDERR_FILENO);
  }
  sigset_t none;
  ::sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  ::execvpe(plan.argv[0], plan.argv.data(), plan.env.data());
  fail_child(report, errno);
}

ExitStatus decode(int status) {
  if (WIFSIGNALED(status)) {
    return {128 + WTERMSIG(status)};
  }
  return {WEXITSTATUS(status)};
}

}  // namespace

Result<ChildProcess> ChildProcess::spawn(const ProcessOptions& options) {
  if (options.argv.empty()) {
    return Error::failed("starting a process: no program given");
  }
  ChildPlan plan;
  for (const auto& argument : options.argv) {
    plan.argv.push_back(const_cast<char*>(argument.c_str()));  // NOLINT: execvpe does not write
  }
  plan.argv.push_back(nullptr);
  for (char** entry = environ; *entry != nullptr; ++entry) {
    plan.env.push_back(*entry);
  }
  for (const auto& entry : options.env) {
    plan.env.push_back(const_cast<char*>(entry.c_str()));  // NOLINT: execvpe does not write
  }
  plan.env.push_back(nullptr);
  for (const auto& folder : options.cgroups) {
    plan.cgroup_procs.push_back((folder / "cgroup.procs").string());
  }
  CPU_ZERO(&plan.cpus);
  for (const int cpu : options.cpus) {
    CPU_SET(static_cast<std::size_t>(cpu), &plan.cpus);
    plan.pin = true;
  }
  const std::string output = options.output.string();
  plan.output = output.empty() ? nullptr : output.c_str();
  plan.die_with_parent = options.die_with_parent;
  plan.parent = ::getpid();

  int pipe_fds[2];
  if (::pipe2(pipe_fds, O_CLOEXEC) != 0) {
    return Error::failed("starting " + options.argv[0] + ": pipe: " + ::strerror(errno));
  }
  UniqueFd report_read(pipe_fds[0]);
  UniqueFd report_write(pipe_fds[1]);
  const pid_t pid = ::fork();
  if (pid < 0) {
    return Error::failed("starting " + options.argv[0] + ": fork: " + ::strerror(errno));
  }
  if (pid == 0) {
    run_child(plan, report_write.get());
  }
  report_write.reset();
  int child_errno = 0;
  ssize_t n = 0;
  do {
    n = ::read(report_read.get(), &child_errno, sizeof child_errno);
  } while (n < 0 && errno == EINTR);
  if (n == sizeof child_errno) {
    ::waitpid(pid, nullptr, 0);
    return Error::failed("starting " + options.argv[0] + ": " + ::strerror(child_errno));
  }
  return ChildProcess(pid);
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)), ended_(std::exchange(other.ended_, std::nullopt)) {}

ChildProcess& ChildProcess::operator=(ChildProcess&& other) noexcept {
  if (this != &other) {
    stop(std::chrono::milliseconds(0));
    pid_ = std::exchange(other.pid_, -1);
    ended_ = std::exchange(other.ended_, std::nullopt);
  }
  return *this;
}

ChildProcess::~ChildProcess() {
  stop(std::chrono::milliseconds(0));
}

bool ChildProcess::running() {
  return pid_ > 0 && !wait(std::chrono::milliseconds(0));
}

void ChildProcess::signal(int number) const {
  if (pid_ > 0 && !ended_) {
    ::kill(pid_, number);
  }
}

std::optional<ExitStatus> ChildProcess::wait(std::chrono::milliseconds timeout) {
  if (pid_ <= 0 || ended_) {
    return ended_;
  }
  const auto deadline = std::chrono::steady_clock::now() + timeout;
  while (true) {
    int status = 0;
    const pid_t got = ::waitpid(pid_, &status, WNOHANG);
    if (got == pid_) {
      ended_ = decode(status);
      return ended_;
    }
    if (got < 0 && errno != EINTR) {
      ended_ = ExitStatus{127};
      return ended_;
    }
    if (std::chrono::steady_clock::now() >= deadline) {
      return std::nullopt;
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

ExitStatus ChildProcess::stop(std::chrono::milliseconds grace) {
  if (pid_ <= 0) {
    return {};
  }
  if (!wait(std::chrono::milliseconds(0))) {
    if (grace.count() > 0) {
      signal(SIGTERM);
    }
    if (!wait(grace)) {
      signal(SIGKILL);
      // A killed process is reaped as soon as the kernel lets go of it.
      while (!wait(std::chrono::milliseconds(1000))) {
      }
    }
  }
  return *ended_;
}

void ask_for_short_slices() {
  // struct sched_attr of linux/sched/types.h, which Debian 12's glibc does not have and later ones have
  // twice.
  struct {
    std::uint32_t size = sizeof *this;
    std::uint32_t policy = SCHED_OTHER;
    std::uint64_t flags = 0;
    std::int32_t nice = ::getpriority(PRIO_PROCESS, 0);
    std::uint32_t priority = 0;
    std::uint64_t runtime_ns = 100'000;  // the least that the kernel takes
    std::uint64_t deadline = 0;
    std::uint64_t period = 0;
  } wanted;
  std::ignore = ::syscall(SYS_sched_setattr, 0, &wanted, 0);
}

const std::atomic<bool>& stop_on_signals() {
  static std::atomic<bool> stopping{false};
  struct sigaction action {};
  action.sa_handler = [](int) { stopping = true; };
  ::sigaction(SIGTERM, &action, nullptr);
  ::sigaction(SIGINT, &action, nullptr);
  ::signal(SIGPIPE, SIG_IGN);
  return stopping;
}

std::filesystem::path binary_dir() {
  std::error_code error;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path(".") : self.parent_path();
}

}  // namespace ballast
