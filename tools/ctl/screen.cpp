// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/screen.h"

#include <poll.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace ballast::ctl {
namespace {

constexpr const char* kEnter = "\x1b[?1049h\x1b[?25l";
constexpr const char* kLeave = "\x1b[?25h\x1b[?1049l";
constexpr const char* kHome = "\x1b[H";
constexpr const char* kClearLine = "\x1b[K";
constexpr const char* kClearBelow = "\x1b[J";

void put(const std::string& text) {
  for (std::size_t at = 0; at < text.size();) {
    const ssize_t wrote = ::write(STDOUT_FILENO, text.data() + at, text.size() - at);
    if (wrote <= 0) {
      if (wrote < 0 && errno == EINTR) {
        continue;
      }
      return;
    }
    at += static_cast<std::size_t>(wrote);
  }
}

winsize size_of_terminal() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_col == 0) {
    size.ws_col = 80;
    size.ws_row = 24;
  }
  return size;
}

}  // namespace

Result<Screen> Screen::open() {
  termios before{};
  if (::isatty(STDOUT_FILENO) != 1 || ::tcgetattr(STDIN_FILENO, &before) != 0) {
    return Error::failed("stdin and stdout are not a terminal");
  }
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGWINCH}) {
    ::sigaddset(&set, number);
  }
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!signals) {
    return Error::failed(std::string("signalfd: ") + std::strerror(errno));
  }
  termios raw = before;
  raw.c_lflag &= ~static_cast<tcflag_t>(ICANON | ECHO);
  ::tcsetattr(STDIN_FILENO, TCSANOW, &raw);
  put(kEnter);
  return Screen(before, std::move(signals));
}

Screen::Screen(Screen&& other) noexcept
    : before_(other.before_), signals_(std::move(other.signals_)), owns_(std::exchange(other.owns_, false)) {}

Screen::~Screen() {
  if (owns_) {
    put(kLeave);
    ::tcsetattr(STDIN_FILENO, TCSANOW, &before_);
  }
}

std::size_t Screen::width() const {
  return size_of_terminal().ws_col;
}

void Screen::draw(const std::string& text) const {
  std::string out = kHome;
  std::size_t lines_left = size_of_terminal().ws_row;
  for (std::size_t at = 0; at < text.size() && lines_left > 0; --lines_left) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += text.substr(at, end - at) + kClearLine;
    at = end + 1;
    if (at < text.size() && lines_left > 1) {
      out += "\r\n";
    }
  }
  put(out + kClearBelow);
}

Screen::Event Screen::wait(std::chrono::milliseconds timeout) const {
  using Clock = std::chrono::steady_clock;
  const auto until = Clock::now() + timeout;
  while (true) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0) {
      return Event::kTimeout;
    }
    pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {signals_.get(), POLLIN, 0}};
    if (::poll(fds, 2, static_cast<int>(left)) <= 0) {
      continue;
    }
    if ((fds[1].revents & POLLIN) != 0) {
      signalfd_siginfo info{};
      if (::read(signals_.get(), &info, sizeof info) == sizeof info) {
        return info.ssi_signo == SIGWINCH ? Event::kResized : Event::kQuit;
      }
    }
    if (fds[0].revents != 0) {
      char key = 0;
      if (::read(STDIN_FILENO, &key, 1) != 1 || key == 'q' || key == 'Q') {
        return Event::kQuit;
      }
    }
  }
}

}  // namespace ballast::ctl
