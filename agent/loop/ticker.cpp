// SPDX-License-Identifier: Apache-2.0
#include "agent/loop/ticker.h"

#include <poll.h>
#include <signal.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>

namespace ballast::loop {
namespace {

Error system_error(const char* what) {
  return Error::failed(std::string(what) + ": " + std::strerror(errno));
}

}  // namespace

Result<Ticker> Ticker::create(std::chrono::milliseconds period) {
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) {
    ::sigaddset(&set, number);
  }
  if (::pthread_sigmask(SIG_BLOCK, &set, nullptr) != 0) {
    return system_error("blocking signals");
  }
  UniqueFd signals(::signalfd(-1, &set, SFD_CLOEXEC));
  if (!signals) {
    return system_error("signalfd");
  }
  UniqueFd timer(::timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
  if (!timer) {
    return system_error("timerfd");
  }
  return Ticker(std::move(timer), std::move(signals), period);
}

Status Ticker::start() {
  const auto seconds = std::chrono::duration_cast<std::chrono::seconds>(period_);
  const auto rest = std::chrono::duration_cast<std::chrono::nanoseconds>(period_ - seconds);
  itimerspec spec{};
  spec.it_interval = {seconds.count(), rest.count()};
  spec.it_value.tv_nsec = 1;
  return ::timerfd_settime(timer_.get(), 0, &spec, nullptr) == 0 ? ok() : Status(system_error("timerfd"));
}

Result<Ticker::Event> Ticker::wait() {
  while (true) {
    pollfd fds[] = {{signals_.get(), POLLIN, 0}, {timer_.get(), POLLIN, 0}};
    if (::poll(fds, 2, -1) < 0) {
      if (errno == EINTR) {
        continue;
      }
      return system_error("waiting for the next tick");
    }
    signalfd_siginfo info{};
    if ((fds[0].revents & POLLIN) != 0 && ::read(signals_.get(), &info, sizeof info) == sizeof info) {
      return info.ssi_signo == SIGHUP ? Event::kReload : Event::kStop;
    }
    std::uint64_t expired = 0;
    if ((fds[1].revents & POLLIN) != 0 && ::read(timer_.get(), &expired, sizeof expired) == sizeof expired) {
      missed_ += expired - 1;
      return Event::kTick;
    }
  }
}

}  // namespace ballast::loop
