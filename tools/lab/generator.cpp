// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/generator.h"

#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <mutex>
#include <optional>
#include <string>

#include "core/base/statistics.h"

namespace ballast::lab {

namespace {

constexpr MonotonicNs kLeadNs = 50'000'000;      // connections are opened in it
constexpr MonotonicNs kMaxSleepNs = 50'000'000;  // how late a wish to stop is heard
constexpr int kConnectionsAhead = 16;
constexpr std::size_t kRecent = 1024;

std::string request_text(const std::string& host, const Arrival& arrival) {
  return "GET /work?us=" + std::to_string(arrival.demand_us) +
         (arrival.wait_us > 0 ? "&wait=" + std::to_string(arrival.wait_us) : "") +
         " HTTP/1.1\r\nHost: " + host + "\r\nx-session: " + std::to_string(arrival.session) + "\r\n\r\n";
}

struct Connection {
  UniqueFd fd;
  ResponseParser parser;
  std::string out;                     ///< not sent yet
  std::optional<std::size_t> arrival;  ///< the request that is outstanding
};

}  // namespace

struct Generator::Loop {
  explicit Loop(LoadOptions o) : options(std::move(o)), answers(options.arrivals.size()) {}

  LoadOptions options;
  std::vector<Answer> answers;
  UniqueFd epoll;
  SystemClock clock;
  MonotonicNs zero = 0;
  std::vector<std::unique_ptr<Connection>> connections;  ///< by slot; a slot is used again
  std::vector<std::size_t> free_slots;
  std::vector<std::size_t> idle;    ///< slots, the one used last on top
  std::deque<std::size_t> waiting;  ///< due arrivals for which there is no connection
  std::size_t outstanding = 0;
  std::size_t open = 0;

  mutable std::mutex mutex;  ///< of what follows
  LoadSnapshot seen;
  std::array<double, kRecent> recent{};
  std::size_t recent_count = 0;

  std::optional<std::size_t> open_connection() {
    auto fd = connect_nonblocking(options.target);
    if (!fd) {
      return std::nullopt;
    }
    std::size_t slot = connections.size();
    if (free_slots.empty()) {
      connections.push_back(nullptr);
    } else {
      slot = free_slots.back();
      free_slots.pop_back();
    }
    connections[slot] = std::make_unique<Connection>();
    connections[slot]->fd = std::move(*fd);
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLET;
    event.data.u64 = slot;
    ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, connections[slot]->fd.get(), &event);
    ++open;
    return slot;
  }

  void drop(std::size_t slot) {
    if (connections[slot]->arrival) {
      finish(*connections[slot]->arrival, Outcome::kError);
    }
    std::erase(idle, slot);
    connections[slot].reset();
    free_slots.push_back(slot);
    --open;
  }

  void finish(std::size_t arrival, Outcome outcome) {
    Answer& answer = answers[arrival];
    answer.outcome = outcome;
    answer.latency_ns = clock.now() - (zero + options.arrivals[arrival].at_ns);
    --outstanding;
    const std::scoped_lock lock(mutex);
    ++seen.done;
    if (outcome == Outcome::kError) {
      ++seen.errors;
    } else {
      recent[recent_count++ % kRecent] = static_cast<double>(answer.latency_ns) * 1e-6;
    }
  }

  /// The arrival is due: counted as outstanding until finish().
  void due(std::size_t arrival) {
    ++outstanding;
    {
      const std::scoped_lock lock(mutex);
      ++seen.sent;
    }
    assign(arrival);
  }

  void assign(std::size_t arrival) {
    std::optional<std::size_t> slot;
    if (!idle.empty()) {
      slot = idle.back();
      idle.pop_back();
    } else if (open >= static_cast<std::size_t>(options.max_connections)) {
      waiting.push_back(arrival);
      return;
    } else {
      slot = open_connection();
    }
    if (!slot) {
      finish(arrival, Outcome::kError);
      return;
    }
    Connection& connection = *connections[*slot];
    connection.arrival = arrival;
    connection.parser.reset();
    connection.out = request_text(options.host, options.arrivals[arrival]);
    flush(*slot);
  }

  void flush(std::size_t slot) {
    Connection& connection = *connections[slot];
    while (!connection.out.empty()) {
      const ssize_t n =
          ::send(connection.fd.get(), connection.out.data(), connection.out.size(), MSG_NOSIGNAL);
      if (n < 0) {
        if (errno == EINTR) {
          continue;
        }
        if (errno != EAGAIN && errno != ENOTCONN) {
          drop(slot);
        }
        return;
      }
      connection.out.erase(0, static_cast<std::size_t>(n));
      if (connection.out.empty()) {
        const std::size_t arrival = *connection.arrival;
        answers[arrival].lateness_ns = clock.now() - (zero + options.arrivals[arrival].at_ns);
      }
    }
  }

  void on_event(std::size_t slot) {
    if (connections[slot] == nullptr) {
      return;
    }
    flush(slot);
    std::array<char, 4096> buffer{};
    while (connections[slot] != nullptr) {
      Connection& connection = *connections[slot];
      const ssize_t n = ::recv(connection.fd.get(), buffer.data(), buffer.size(), 0);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n < 0 && (errno == EAGAIN || errno == ENOTCONN)) {
        return;
      }
      on_bytes(slot, std::string_view(buffer.data(), static_cast<std::size_t>(std::max<ssize_t>(n, 0))));
    }
  }

  /// No bytes: the peer is gone.
  void on_bytes(std::size_t slot, std::string_view bytes) {
    Connection& connection = *connections[slot];
    if (!connection.arrival) {
      drop(slot);
      return;
    }
    const auto state = bytes.empty() ? connection.parser.close() : connection.parser.feed(bytes);
    if (state == ResponseParser::State::kMore) {
      return;
    }
    const bool whole = state == ResponseParser::State::kDone;
    if (whole) {
      const int status = connection.parser.status();
      finish(*connection.arrival, status >= 200 && status < 300 ? Outcome::kOk : Outcome::kError);
      connection.arrival.reset();
    }
    if (!whole || !connection.parser.keep_alive()) {
      drop(slot);
    } else {
      idle.push_back(slot);
    }
    if (!waiting.empty() && (!idle.empty() || open < static_cast<std::size_t>(options.max_connections))) {
      const std::size_t next = waiting.front();
      waiting.pop_front();
      assign(next);
    }
  }

  void wait_until(MonotonicNs when) {
    const MonotonicNs now = clock.now();
    const MonotonicNs sleep = when > now ? std::min(when - now, kMaxSleepNs) : 0;
    timespec timeout{static_cast<time_t>(sleep / 1'000'000'000), static_cast<long>(sleep % 1'000'000'000)};
    std::array<epoll_event, 256> events{};
    const int n =
        ::epoll_pwait2(epoll.get(), events.data(), static_cast<int>(events.size()), &timeout, nullptr);
    for (int i = 0; i < n; ++i) {
      on_event(events[static_cast<std::size_t>(i)].data.u64);
    }
  }

  void run(const std::atomic<bool>& stop) {
    ::prctl(PR_SET_TIMERSLACK, 1UL);
    for (int i = 0; i < kConnectionsAhead; ++i) {
      if (const auto slot = open_connection()) {
        idle.push_back(*slot);
      }
    }
    std::size_t next = 0;
    const MonotonicNs end = zero + static_cast<MonotonicNs>(options.seconds * 1e9);
    const MonotonicNs give_up = end + static_cast<MonotonicNs>(options.drain_s * 1e9);
    while (!stop) {
      const MonotonicNs now = clock.now();
      while (next < options.arrivals.size() && zero + options.arrivals[next].at_ns <= now) {
        due(next++);
      }
      if (next == options.arrivals.size() && now >= end && (outstanding == 0 || now >= give_up)) {
        break;
      }
      wait_until(next < options.arrivals.size() ? zero + options.arrivals[next].at_ns
                 : now < end                    ? end
                                                : give_up);
    }
    const MonotonicNs now = clock.now();
    for (std::size_t i = 0; i < answers.size(); ++i) {
      const MonotonicNs intended = zero + options.arrivals[i].at_ns;
      if (answers[i].outcome == Outcome::kUnfinished && now > intended) {
        answers[i].latency_ns = now - intended;
      }
    }
  }
};

Generator::Generator(LoadOptions options) : loop_(std::make_unique<Loop>(std::move(options))) {}

Result<std::unique_ptr<Generator>> Generator::start(LoadOptions options) {
  std::unique_ptr<Generator> generator(new Generator(std::move(options)));
  generator->loop_->epoll = UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
  if (!generator->loop_->epoll) {
    return Error::failed(std::string("generator: epoll: ") + std::strerror(errno));
  }
  generator->began_ = generator->loop_->clock.now() + kLeadNs;
  generator->loop_->zero = generator->began_;
  generator->thread_ = std::thread([self = generator.get()] {
    self->loop_->run(self->stop_);
    self->finished_ = true;
  });
  return generator;
}

Generator::~Generator() {
  stop_ = true;
  if (thread_.joinable()) {
    thread_.join();
  }
}

LoadSnapshot Generator::snapshot() const {
  const std::scoped_lock lock(loop_->mutex);
  LoadSnapshot out = loop_->seen;
  std::vector<double> recent(
      loop_->recent.begin(),
      loop_->recent.begin() + static_cast<long>(std::min(loop_->recent_count, kRecent)));
  std::sort(recent.begin(), recent.end());
  out.p50_ms = quantile_of_sorted(recent, 0.5);
  out.p99_ms = quantile_of_sorted(recent, 0.99);
  return out;
}

std::vector<Answer> Generator::wait() {
  if (thread_.joinable()) {
    thread_.join();
  }
  return std::move(loop_->answers);
}

}  // namespace ballast::lab
