// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/telemetry/load.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <deque>
#include <string_view>
#include <vector>

#include "core/base/clock.h"
#include "core/base/unique_fd.h"
#include "tools/bench/telemetry/reply_parser.h"

namespace ballast::bench {

namespace {

/// How long answers may still come after the last request.
constexpr MonotonicNs kDrainNs = 10'000'000'000ULL;
/// A burst larger than this after a stall would be another load than the one asked for.
constexpr double kMaxBacklogSeconds = 0.25;

/// From 192.0.2.1 to 192.0.2.2.
std::string proxy_header(unsigned version) {
  using namespace std::string_literals;
  if (version == 2) {
    return "\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x01\xc0\0\x02\x02\x30\x39\0\x50"s;
  }
  return version == 1 ? "PROXY TCP4 192.0.2.1 192.0.2.2 12345 80\r\n" : "";
}

std::string one_request(const LoadOptions& o) {
  const bool post = o.body > 0;
  std::string text = std::string(post ? "POST " : "GET ") + o.path + " HTTP/1.1\r\nHost: bench\r\n";
  text += o.close ? "Connection: close\r\n" : "";
  if (o.chunked) {
    text += "Accept-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (std::uint64_t left = o.body; left > 0;) {
      std::array<char, 32> size{};
      const std::uint64_t n = std::min<std::uint64_t>(left, o.chunk);
      std::snprintf(size.data(), size.size(), "%llx;part=1\r\n", static_cast<unsigned long long>(n));
      text += size.data() + std::string(n, 'x') + "\r\n";
      left -= n;
    }
    return text + "0\r\nX-Trailer: end\r\n\r\n";
  }
  if (post) {
    text += "Content-Length: " + std::to_string(o.body) + "\r\n";
  }
  return text + "\r\n" + std::string(o.body, 'x');
}

struct Connection {
  UniqueFd fd;
  ReplyParser parser;
  std::size_t written = 0;  ///< of the batch
  bool writing = false;
  bool watches_output = false;
  unsigned outstanding = 0;  ///< requests of the batch without an answer
  MonotonicNs begun = 0;     ///< the batch
};

class Load {
 public:
  explicit Load(const LoadOptions& options)
      : options_(options), epoll_(::epoll_create1(EPOLL_CLOEXEC)), connections_(options.connections) {
    for (unsigned i = 0; i < std::max(1U, options.pipeline); ++i) {
      batch_ += one_request(options_);
    }
    buffer_.resize(1U << 18);
  }

  Result<LoadReport> run();

 private:
  bool open(Connection& c);
  void drop(Connection& c);
  void begin(Connection& c);
  void write(Connection& c);
  void read(Connection& c);
  void answered(Connection& c, std::size_t count);
  void rest(Connection& c);
  void watch(Connection& c, bool output);
  double allowed(double elapsed);
  void feed_idle(double elapsed);
  void turn(int timeout_ms);

  const LoadOptions& options_;
  UniqueFd epoll_;
  SystemClock clock_;
  std::vector<Connection> connections_;
  std::deque<Connection*> idle_;
  std::string batch_;
  std::string buffer_;
  LoadReport report_;
  double batches_ = 0;   ///< begun
  double forgiven_ = 0;  ///< that a stall cost
  std::uint64_t outstanding_ = 0;
};

bool Load::open(Connection& c) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(options_.port);
  if (::inet_pton(AF_INET, options_.address.c_str(), &to.sin_addr) != 1) {
    errno = EINVAL;
    return false;
  }
  c = Connection{};
  c.fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, options_.mptcp ? IPPROTO_MPTCP : 0));
  const int one = 1;
  ::setsockopt(c.fd.get(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
  if (options_.fast_open) {
    ::setsockopt(c.fd.get(), IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof one);
  }
  const std::string header = proxy_header(options_.proxy);
  if (!c.fd || ::connect(c.fd.get(), reinterpret_cast<const sockaddr*>(&to), sizeof to) != 0 ||
      ::send(c.fd.get(), header.data(), header.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(header.size())) {
    const int error = errno;
    c.fd.reset();
    errno = error;
    return false;
  }
  ::fcntl(c.fd.get(), F_SETFL, O_NONBLOCK);
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.ptr = &c;
  return ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, c.fd.get(), &event) == 0;
}

// A connection that ended with answers outstanding; it is opened again when it is next needed.
void Load::drop(Connection& c) {
  if (c.outstanding > 0) {
    ++report_.broken;
    outstanding_ -= c.outstanding;
    idle_.push_back(&c);
  }
  report_.failed += c.parser.failures();
  c = Connection{};
}

void Load::watch(Connection& c, bool output) {
  if (c.watches_output == output) {
    return;
  }
  epoll_event event{};
  event.events = EPOLLIN | (output ? static_cast<std::uint32_t>(EPOLLOUT) : 0U);
  event.data.ptr = &c;
  ::epoll_ctl(epoll_.get(), EPOLL_CTL_MOD, c.fd.get(), &event);
  c.watches_output = output;
}

void Load::begin(Connection& c) {
  const MonotonicNs now = clock_.now();
  if (!c.fd && !open(c)) {
    ++report_.broken;
    idle_.push_back(&c);
    return;
  }
  c.begun = now;
  c.written = 0;
  c.writing = true;
  c.outstanding = std::max(1U, options_.pipeline);
  outstanding_ += c.outstanding;
  write(c);
}

void Load::write(Connection& c) {
  while (c.writing) {
    const ssize_t n = ::send(c.fd.get(), batch_.data() + c.written, batch_.size() - c.written, MSG_NOSIGNAL);
    if (n < 0) {
      if (errno == EAGAIN) {
        watch(c, true);
        return;
      }
      drop(c);
      return;
    }
    c.written += static_cast<std::size_t>(n);
    if (c.written == batch_.size()) {
      c.writing = false;
      report_.sent += std::max(1U, options_.pipeline);
      watch(c, false);
      rest(c);
    }
  }
}

void Load::answered(Connection& c, std::size_t count) {
  report_.answered += count;
  outstanding_ -= std::min<std::uint64_t>(count, c.outstanding);
  c.outstanding -= static_cast<unsigned>(std::min<std::size_t>(count, c.outstanding));
  if (count > 0) {
    report_.longest_s = std::max(report_.longest_s, static_cast<double>(clock_.now() - c.begun) * 1e-9);
    rest(c);
  }
}

// Ready for the next batch: an answer may overtake the end of its request.
void Load::rest(Connection& c) {
  if (c.outstanding == 0 && !c.writing && !options_.close) {
    idle_.push_back(&c);
  }
}

void Load::read(Connection& c) {
  const ssize_t n = ::recv(c.fd.get(), buffer_.data(), buffer_.size(), 0);
  if (n < 0) {
    if (errno != EAGAIN) {
      drop(c);
    }
    return;
  }
  answered(c, n == 0 ? c.parser.finish() : c.parser.feed(std::string_view(buffer_).substr(0, n)));
  if (n > 0 && !c.parser.broken()) {
    return;
  }
  const bool reusable = c.outstanding == 0;
  drop(c);
  if (reusable && options_.close) {
    idle_.push_back(&c);
  }
}

// Batches that may have begun by now.
double Load::allowed(double elapsed) {
  if (options_.rate <= 0) {
    return batches_ + static_cast<double>(idle_.size());
  }
  const double per_second = options_.rate / std::max(1U, options_.pipeline);
  const double due = elapsed * per_second - forgiven_;
  const double most = batches_ + std::max(1.0, per_second * kMaxBacklogSeconds);
  forgiven_ += std::max(0.0, due - most);
  return std::min(due, most);
}

void Load::feed_idle(double elapsed) {
  const double until = allowed(elapsed);
  for (std::size_t n = idle_.size(); n > 0 && batches_ + 1 <= until; --n) {
    Connection* c = idle_.front();
    idle_.pop_front();
    batches_ += 1;
    begin(*c);
  }
}

void Load::turn(int timeout_ms) {
  std::array<epoll_event, 256> events{};
  const int n = ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), timeout_ms);
  for (int i = 0; i < n; ++i) {
    auto& c = *static_cast<Connection*>(events[static_cast<std::size_t>(i)].data.ptr);
    if (c.fd && (events[static_cast<std::size_t>(i)].events & EPOLLOUT) != 0) {
      write(c);
    }
    if (c.fd && (events[static_cast<std::size_t>(i)].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
      read(c);
    }
  }
}

Result<LoadReport> Load::run() {
  for (Connection& c : connections_) {
    if (!open(c)) {
      return Error::failed("connecting to " + options_.address + ":" + std::to_string(options_.port) + ": " +
                           std::strerror(errno));
    }
    idle_.push_back(&c);
  }
  const MonotonicNs start = clock_.now();
  const auto elapsed = [&] { return static_cast<double>(clock_.now() - start) * 1e-9; };
  while (elapsed() < options_.seconds) {
    feed_idle(elapsed());
    // Spins where a rate is kept: epoll's millisecond would bunch the requests.
    turn(options_.rate > 0 ? 0 : 1);
    if (options_.rate > 0 && options_.rate <= 2000 && outstanding_ == 0) {
      const timespec nap{0, 20'000};
      ::nanosleep(&nap, nullptr);
    }
  }
  const MonotonicNs stop = clock_.now();
  while (outstanding_ > 0 && clock_.now() - stop < kDrainNs) {
    turn(10);
  }
  report_.seconds = elapsed();
  for (Connection& c : connections_) {
    report_.failed += c.parser.failures();
  }
  return report_;
}

}  // namespace

Result<LoadReport> run_load(const LoadOptions& options) {
  if (options.connections == 0 || (options.close && options.pipeline > 1)) {
    return Error::usage("a load needs a connection, and pipelines only where it stays open");
  }
  return Load(options).run();
}

}  // namespace ballast::bench
