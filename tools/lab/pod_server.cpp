// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/pod_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sys/socket.h>
#include <time.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <memory>
#include <mutex>
#include <semaphore>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include "core/base/unique_fd.h"
#include "tools/lab/load_report.h"

namespace ballast::lab {

namespace {

constexpr int kMaxConnections = 4096;
constexpr std::size_t kStackBytes = 128UL * 1024;
constexpr std::size_t kMaxHead = 16384;
constexpr std::string_view kAnswerHead = "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n";
constexpr std::string_view kAnswerRest = "\r\nok\n";
constexpr std::string_view kWrong =
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";

/// So many at a time, in the order of arrival (a std::mutex promises no order).
class Turns {
 public:
  void allow(int workers) { free_ = workers; }
  void take() {
    std::binary_semaphore mine(0);
    {
      const std::scoped_lock lock(mutex_);
      if (free_ > 0) {
        --free_;
        return;
      }
      waiting_.push_back(&mine);
    }
    mine.acquire();
  }
  void give() {
    const std::scoped_lock lock(mutex_);
    if (waiting_.empty()) {
      ++free_;
      return;
    }
    waiting_.front()->release();
    waiting_.pop_front();
  }

 private:
  std::mutex mutex_;
  int free_ = 1;
  std::deque<std::binary_semaphore*> waiting_;
};

struct Shared {
  ServerKind kind = ServerKind::kProcessorSharing;
  Turns turns;  ///< of kFifo
  double wait_factor = 1;
  std::atomic<int> connections{0};
  std::unique_ptr<LoadReport> report;  ///< null: none
};

struct Connection {
  Shared* shared;
  int fd;
};

std::uint64_t thread_cpu_ns() {
  timespec t{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return static_cast<std::uint64_t>(t.tv_sec) * 1'000'000'000ULL + static_cast<std::uint64_t>(t.tv_nsec);
}

void burn_until(std::uint64_t thread_ns) {
  volatile std::uint64_t sink = 1;
  while (thread_cpu_ns() < thread_ns) {
    for (int i = 0; i < 500; ++i) {
      sink = sink * 6364136223846793005ULL + 1;
    }
  }
}

constexpr std::uint64_t kMostUs = 60'000'000;

/// µs asked for by "GET /work?us=N[&wait=M] ..."; false when the line says anything else.
bool parse_demand(std::string_view head, std::uint64_t& us, std::uint64_t& wait_us) {
  constexpr std::string_view kStart = "GET /work?us=";
  constexpr std::string_view kWait = "&wait=";
  if (!head.starts_with(kStart)) {
    return false;
  }
  const char* end = head.data() + head.size();
  auto parsed = std::from_chars(head.data() + kStart.size(), end, us);
  wait_us = 0;
  if (parsed.ec == std::errc{} && std::string_view(parsed.ptr, end).starts_with(kWait)) {
    parsed = std::from_chars(parsed.ptr + kWait.size(), end, wait_us);
  }
  return parsed.ec == std::errc{} && us <= kMostUs && wait_us <= kMostUs;
}

void work(std::uint64_t until_thread_ns, std::uint64_t wait_us, double factor) {
  burn_until(until_thread_ns);
  if (wait_us > 0) {
    std::this_thread::sleep_for(
        std::chrono::microseconds(static_cast<std::int64_t>(static_cast<double>(wait_us) * factor)));
  }
}

bool send_all(int fd, std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n < 0 && errno != EINTR) {
      return false;
    }
    bytes.remove_prefix(n > 0 ? static_cast<std::size_t>(n) : 0);
  }
  return true;
}

void* serve_connection(void* argument) {
  const auto* connection = static_cast<Connection*>(argument);
  Shared& shared = *connection->shared;
  {
    const UniqueFd fd(connection->fd);
    delete connection;
    std::string head;
    char buffer[4096];
    // CPU time since the last answer belongs to this request: waking up and reading count too.
    std::uint64_t begun = thread_cpu_ns();
    while (head.size() < kMaxHead) {
      const ssize_t n = ::recv(fd.get(), buffer, sizeof buffer, 0);
      if (n < 0 && errno == EINTR) {
        continue;
      }
      if (n <= 0) {
        break;
      }
      head.append(buffer, static_cast<std::size_t>(n));
      const auto end = head.find("\r\n\r\n");
      if (end == std::string::npos) {
        continue;
      }
      std::uint64_t us = 0;
      std::uint64_t wait_us = 0;
      if (!parse_demand(head, us, wait_us)) {
        send_all(fd.get(), kWrong);
        break;
      }
      head.erase(0, end + 4);
      if (shared.kind == ServerKind::kFifo) {
        shared.turns.take();
        work(begun + us * 1000, wait_us, shared.wait_factor);
        shared.turns.give();
      } else {
        work(begun + us * 1000, wait_us, shared.wait_factor);
      }
      begun = thread_cpu_ns();
      std::string answer(kAnswerHead);
      answer += shared.report ? shared.report->answered() : std::string();
      answer += kAnswerRest;
      if (!send_all(fd.get(), answer)) {
        break;
      }
    }
  }
  shared.connections.fetch_sub(1);
  return nullptr;
}

}  // namespace

Status serve_pod(const Endpoint& endpoint, const PodOptions& options) {
  auto listener = listen_on(endpoint, false);
  if (!listener) {
    return listener.error();
  }
  // Detached threads may use it until the process ends, and the process ends with this function.
  static Shared shared;
  shared.kind = options.kind;
  shared.wait_factor = options.wait_factor;
  shared.turns.allow(options.workers);
  shared.report = options.quota_file.empty() ? nullptr : std::make_unique<LoadReport>(options.quota_file);
  pthread_attr_t attributes;
  ::pthread_attr_init(&attributes);
  ::pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  ::pthread_attr_setstacksize(&attributes, kStackBytes);
  while (true) {
    UniqueFd fd(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
    if (!fd) {
      if (errno == EINTR || errno == ECONNABORTED) {
        continue;
      }
      return Error::failed("accepting on " + endpoint.text() + ": " + std::strerror(errno));
    }
    const int on = 1;
    ::setsockopt(fd.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (shared.connections.fetch_add(1) >= kMaxConnections) {
      shared.connections.fetch_sub(1);
      continue;
    }
    auto* connection = new Connection{&shared, fd.get()};
    pthread_t thread{};
    if (::pthread_create(&thread, &attributes, serve_connection, connection) != 0) {
      delete connection;
      shared.connections.fetch_sub(1);
      continue;
    }
    static_cast<void>(fd.release());
  }
}

void burn_on_schedule(const Tenant& tenant) {
  using Clock = std::chrono::steady_clock;
  const auto seconds = [](double s) {
    return std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(s));
  };
  const auto start = Clock::now() + seconds(tenant.phase_s);
  const auto burn = [&] {
    for (std::int64_t time = 0;; ++time) {
      const auto begin = start + seconds(static_cast<double>(time) * tenant.every_s);
      std::this_thread::sleep_until(begin);
      while (Clock::now() < begin + seconds(tenant.burn_s)) {
        burn_until(thread_cpu_ns() + 100'000);
      }
    }
  };
  std::vector<std::thread> others;
  for (int i = 1; i < tenant.cores; ++i) {
    others.emplace_back(burn);
  }
  burn();
  std::abort();  // not reached: burn() does not return
}

}  // namespace ballast::lab
