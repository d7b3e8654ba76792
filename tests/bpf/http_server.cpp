// SPDX-License-Identifier: Apache-2.0
// A small HTTP/1.1 server for the live probe tests: ballast_test_http_server PORT. It listens on
// 127.0.0.1 and ::1, one thread a connection. The path says what is answered:
//   /plain            200, Content-Length 5
//   /chunked          200, three chunks and a trailer
//   /none             204
//   /big              200, 1 MiB of lines that look like requests
//   /open             to HEAD: 200 without a length, and the connection stays open
//   /twice            200 with "hello", and a second answer, "again", that nobody asked for
//   /close            200 without a length, ends with the connection
//   /slow             200 after 50 ms
//   /late             200 at once, and its body after 100 ms
//   /fail             503
//   /continue         100, then 200
//   /burn             200 after 20 ms of computing
//   /unix             200 after three AF_UNIX connections to a listener of its own, 503 if one failed
//   /upgrade          101, then plain HTTP again
//   /early            200 before the request's body is read
//   /h2c              101, then HTTP/2: answers on stream 1, and on stream 3 whatever comes next
//   /never            no answer at all
//   /gone             the connection is closed without an answer
//   /tiny             200, 5000 chunks of a byte in one write
// A request with an Expect is refused with 417, whatever its path. After "PROXY ... CR LF" or the PROXY
// protocol's second form (16 bytes and no more) comes the first request. ballast_test_http_server PORT
// deferred: accepts when the first request has come. PORT fastopen: takes it with the SYN. PORT mptcp:
// listens for Multipath TCP. PORT moves CGROUP: goes into another cgroup once it listens.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <string>
#include <thread>

namespace {

void send_all(int fd, const std::string& bytes) {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      return;
    }
    sent += static_cast<std::size_t>(n);
  }
}

std::string with_length(const std::string& status, const std::string& body, bool head) {
  return "HTTP/1.1 " + status +
         "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" +
         (head ? "" : body);
}

void burn(std::chrono::milliseconds time) {
  timespec start{};
  ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &start);
  timespec now{};
  do {
    ::clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
  } while ((now.tv_sec - start.tv_sec) * 1000 + (now.tv_nsec - start.tv_nsec) / 1'000'000 < time.count());
}

// Three connections to a listener of our own, at an address that the kernel chose.
bool connect_unix() {
  const int listener = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  socklen_t size = sizeof(sa_family_t);
  bool ok = ::bind(listener, reinterpret_cast<sockaddr*>(&address), size) == 0 && ::listen(listener, 8) == 0;
  size = sizeof address;
  ok = ok && ::getsockname(listener, reinterpret_cast<sockaddr*>(&address), &size) == 0;
  for (int i = 0; i < 3; ++i) {
    const int client = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ok = ok && ::connect(client, reinterpret_cast<sockaddr*>(&address), size) == 0;
    ::close(client);
  }
  ::close(listener);
  return ok;
}

// HEADERS (:status 200) and DATA with END_STREAM.
std::string http2_answer(char stream) {
  const std::string id = std::string(3, '\0') + stream;
  return std::string("\0\0\1\1\4", 5) + id + "\x88" + std::string("\0\0\5\0\1", 5) + id + "hello";
}

void switch_to_http2(int fd) {
  const std::string settings = std::string(3, '\0') + '\4' + std::string(5, '\0');
  send_all(fd, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n" + settings +
                   http2_answer(1));
  char chunk[4096];
  if (::recv(fd, chunk, sizeof chunk, 0) > 0) {
    send_all(fd, http2_answer(3));
  }
}

// false: the connection is to be closed.
bool answer(int fd, const std::string& method, const std::string& path) {
  const bool head = method == "HEAD";
  if (method == "CONNECT") {
    send_all(fd, "HTTP/1.1 200 Connected\r\n\r\n");
  } else if (path == "/chunked") {
    send_all(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n");
    send_all(fd, "10;name=value\r\nGET / HTTP/1.1\r\n\r\n");
    send_all(fd, "0\r\nX-Trailer: GET / HTTP/1.1\r\n\r\n");
  } else if (path == "/none") {
    send_all(fd, "HTTP/1.1 204 No Content\r\nX-Empty: yes\r\n\r\n");
  } else if (path == "/big") {
    std::string body;
    while (body.size() < (1U << 20)) {
      body += "HTTP/1.1 200 OK\r\n\r\nGET / HTTP/1.1\r\n";
    }
    send_all(fd, with_length("200 OK", body, head));
  } else if (path == "/open" && head) {
    send_all(fd, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\n");
  } else if (path == "/twice") {
    send_all(fd, with_length("200 OK", "hello", head));
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
    send_all(fd, with_length("200 OK", "again", head));
  } else if (path == "/close") {
    send_all(fd, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end");
    return false;
  } else if (path == "/late") {
    send_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
    send_all(fd, "hello");
  } else if (path == "/fail") {
    send_all(fd, with_length("503 Service Unavailable", "busy", head));
  } else if (path == "/continue") {
    send_all(fd, "HTTP/1.1 100 Continue\r\n\r\n");
    send_all(fd, with_length("200 OK", "went on", head));
  } else if (path == "/upgrade") {
    send_all(fd, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: echo\r\nConnection: upgrade\r\n\r\n");
  } else if (path == "/h2c") {
    switch_to_http2(fd);
    return false;
  } else if (path == "/gone") {
    return false;
  } else if (path == "/tiny") {
    std::string all = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 5000; ++i) {
      all += "1\r\nt\r\n";
    }
    send_all(fd, all + "0\r\n\r\n");
  } else if (path != "/never") {
    if (path == "/slow") {
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
    } else if (path == "/burn") {
      burn(std::chrono::milliseconds(20));
    }
    const bool ok = path != "/unix" || connect_unix();
    send_all(fd, with_length(ok ? "200 OK" : "503 Service Unavailable", "hello", head));
  }
  return true;
}

void serve(int fd) {
  std::string buffer;
  char chunk[65536];
  bool open = true;
  bool early = false;  // the head was answered, its body is still to be read
  while (open) {
    if (buffer.starts_with("PROXY ")) {
      buffer.erase(0, buffer.find("\r\n") + 2);
    } else if (buffer.starts_with("\r\n\r\n") && buffer.size() >= 16) {
      buffer.erase(0, 16);
    }
    const std::size_t end = buffer.starts_with("\r\n\r\n") ? std::string::npos : buffer.find("\r\n\r\n");
    const bool head = end != std::string::npos;
    const std::string text = head ? buffer.substr(0, end) : "";
    const std::size_t first = text.find(' ');
    const std::size_t second = text.find(' ', first + 1);
    const std::size_t at = text.find("Content-Length: ");
    const std::size_t body = at == std::string::npos ? 0 : std::strtoul(text.c_str() + at + 16, nullptr, 10);
    const bool whole = head && buffer.size() >= end + 4 + body;
    if (head && text.find("Expect: ") != std::string::npos) {
      send_all(fd, "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n");
      buffer.erase(0, end + 4);
      continue;
    }
    if (!early && (whole || text.find(" /early ") != std::string::npos)) {
      open = answer(fd, text.substr(0, first), text.substr(first + 1, second - first - 1));
      early = !whole;
    }
    if (whole) {
      buffer.erase(0, end + 4 + body);
      early = false;
      continue;
    }
    const ssize_t n = ::recv(fd, chunk, sizeof chunk, 0);
    if (n <= 0) {
      break;
    }
    buffer.append(chunk, static_cast<std::size_t>(n));
  }
  ::close(fd);
}

int listen_on(int family, std::uint16_t port, const std::string& how) {
  const int fd = ::socket(family, SOCK_STREAM | SOCK_CLOEXEC, how == "mptcp" ? IPPROTO_MPTCP : 0);
  const int one = 1;
  ::setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  const int seconds = 10;
  if (how == "deferred") {
    ::setsockopt(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, sizeof seconds);
  }
  sockaddr_storage address{};
  socklen_t size = sizeof(sockaddr_in);
  if (family == AF_INET6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&address);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(port);
    v6->sin6_addr = in6addr_loopback;
    size = sizeof(sockaddr_in6);
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&address);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(port);
    v4->sin_addr.s_addr = htonl(how == "anywhere" ? INADDR_ANY : INADDR_LOOPBACK);
  }
  if (::bind(fd, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(fd, 128) != 0) {
    return -1;
  }
  const int waiting = 64;
  if (how == "fastopen") {
    ::setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN, &waiting, sizeof waiting);
  }
  return fd;
}

bool move_to(const std::string& cgroup) {
  const int fd = ::open((cgroup + "/cgroup.procs").c_str(), O_WRONLY | O_CLOEXEC);
  const bool done = ::write(fd, "0", 1) == 1;
  ::close(fd);
  return done;
}

void accept_forever(int fd) {
  while (true) {
    const int connection = ::accept4(fd, nullptr, nullptr, SOCK_CLOEXEC);
    if (connection < 0) {
      return;
    }
    const int one = 1;
    ::setsockopt(connection, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    std::thread(serve, connection).detach();
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) {
    return 2;
  }
  const std::string how = argc > 2 ? argv[2] : "";
  ::signal(SIGPIPE, SIG_IGN);
  const auto port = static_cast<std::uint16_t>(std::atoi(argv[1]));
  const int v4 = listen_on(AF_INET, port, how);
  const int v6 = listen_on(AF_INET6, port, how);
  if (v4 < 0 || (how == "moves" && !move_to(argv[3]))) {
    return 1;
  }
  if (v6 >= 0) {
    std::thread(accept_forever, v6).detach();
  }
  accept_forever(v4);
  return 1;
}
