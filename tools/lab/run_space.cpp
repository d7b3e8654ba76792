// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/run_space.h"

#include <fcntl.h>
#include <linux/close_range.h>
#include <signal.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace ballast::lab {

namespace {

namespace fs = std::filesystem;

constexpr char kKeep = 'k';

struct Estate {
  CgroupLayout layout;
  std::string prefix;
  fs::path folder;
  fs::path bpffs;
};

void clear_estate(const Estate& estate, bool keep_folder) {
  remove_cgroups(estate.layout, estate.prefix);
  std::error_code ignored;
  // Links are pinned, so that removing the pins takes the programs out of the kernel.
  fs::remove_all(estate.bpffs, ignored);
  if (fs::exists(estate.bpffs, ignored)) {
    ::umount2(estate.bpffs.c_str(), MNT_DETACH);
    fs::remove_all(estate.bpffs, ignored);
  }
  if (!keep_folder) {
    fs::remove_all(estate.folder, ignored);
  }
}

/// Keeps 0..2 as /dev/null and the two given, closes all else: a socket or pipe that we held open
/// would look alive to its other end.
void close_others(int a, int b) {
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3; ++fd) {
    ::dup2(null, fd);
  }
  const auto low = static_cast<unsigned>(std::min(a, b));
  const auto high = static_cast<unsigned>(std::max(a, b));
  if (low > 3) {
    ::close_range(3, low - 1, 0);
  }
  if (high > low + 1) {
    ::close_range(low + 1, high - 1, 0);
  }
  ::close_range(high + 1, ~0U, 0);
}

[[noreturn]] void run_janitor(const Estate& estate, int lifeline, int claim) {
  ::setsid();
  ::prctl(PR_SET_NAME, "lab-janitor");
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGPIPE, SIGQUIT}) {
    ::signal(number, SIG_IGN);
  }
  close_others(lifeline, claim);
  if (::chdir("/") != 0) {
    ::_exit(1);
  }
  bool keep = false;
  char byte = 0;
  while (true) {
    const ssize_t n = ::read(lifeline, &byte, 1);
    if (n == 1) {
      keep |= byte == kKeep;
    } else if (n == 0 || errno != EINTR) {
      break;
    }
  }
  clear_estate(estate, keep);
  ::_exit(0);
}

}  // namespace

Status RunSpace::claim_network() {
  // An abstract socket is a lock that the kernel gives back whatever happens to us. The janitor
  // holds it too, so that the addresses stay ours until it is done.
  std::uint32_t start = 0;
  if (::getrandom(&start, sizeof start, 0) != static_cast<ssize_t>(sizeof start)) {
    return Error::failed(std::string("getrandom: ") + std::strerror(errno));
  }
  std::array<char, 16> id{};
  std::snprintf(id.data(), id.size(), "%08x", start);
  id_ = id.data();
  for (std::uint32_t i = 0; i < 250; ++i) {
    const int network = static_cast<int>((start + i) % 250) + 2;
    UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    const int length =
        std::snprintf(address.sun_path + 1, sizeof address.sun_path - 1, "ballast-lab-127.%d", network);
    if (fd && ::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address),
                     static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 +
                                            static_cast<std::size_t>(length))) == 0) {
      network_ = network;
      claim_ = std::move(fd);
      return ok();
    }
  }
  return Error::failed("all 250 loopback networks of the lab are in use");
}

Status RunSpace::start_janitor() {
  std::array<int, 2> ends{};
  if (::pipe2(ends.data(), O_CLOEXEC) != 0) {
    return Error::failed(std::string("pipe: ") + std::strerror(errno));
  }
  UniqueFd read_end(ends[0]);
  lifeline_ = UniqueFd(ends[1]);
  const Estate estate{layout_, prefix(), folder_, bpffs_};
  janitor_ = ::fork();
  if (janitor_ < 0) {
    return Error::failed(std::string("starting the janitor: ") + std::strerror(errno));
  }
  if (janitor_ == 0) {
    run_janitor(estate, read_end.get(), claim_.get());
  }
  return ok();
}

Result<RunSpace> RunSpace::create() {
  if (::geteuid() != 0) {
    return Error::privilege("ballast-lab makes cgroups and loads eBPF: run it as root");
  }
  RunSpace space;
  auto layout = detect_cgroup_layout();
  if (!layout) {
    return layout.error();
  }
  space.layout_ = std::move(*layout);
  if (auto claimed = space.claim_network(); !claimed) {
    return claimed.error();
  }
  const char* parent = std::getenv("TMPDIR");
  space.folder_ = fs::path(parent != nullptr && *parent != '\0' ? parent : "/tmp") / space.prefix();
  space.bpffs_ = fs::path("/sys/fs/bpf") / space.prefix();
  if (auto started = space.start_janitor(); !started) {
    return started.error();
  }
  if (::mkdir(space.folder_.c_str(), 0700) != 0) {
    return Error::failed("making " + space.folder_.string() + ": " + std::strerror(errno));
  }
  return space;
}

RunSpace::RunSpace(RunSpace&& other) noexcept
    : id_(std::move(other.id_)),
      network_(other.network_),
      folder_(std::move(other.folder_)),
      bpffs_(std::move(other.bpffs_)),
      layout_(std::move(other.layout_)),
      claim_(std::move(other.claim_)),
      lifeline_(std::move(other.lifeline_)),
      janitor_(std::exchange(other.janitor_, -1)) {}

RunSpace::~RunSpace() {
  lifeline_.reset();
  claim_.reset();
  if (janitor_ > 0) {
    while (::waitpid(janitor_, nullptr, 0) < 0 && errno == EINTR) {
    }
  }
}

std::string RunSpace::address(int net, int host) const {
  return "127." + std::to_string(network_) + "." + std::to_string(net) + "." + std::to_string(host);
}

void RunSpace::keep_folder() {
  const ssize_t ignored = ::write(lifeline_.get(), &kKeep, 1);
  static_cast<void>(ignored);
}

}  // namespace ballast::lab
