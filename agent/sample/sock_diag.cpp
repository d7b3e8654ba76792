// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/sock_diag.h"

#include <libmnl/libmnl.h>
#include <linux/inet_diag.h>
#include <linux/sock_diag.h>
#include <linux/tcp.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <string>

#include "core/base/clock.h"

namespace ballast::sample {

namespace {

// net/tcp_states.h; the kernel tells states by these numbers in idiag_state and idiag_states.
enum TcpState : unsigned {
  kEstablished = 1,
  kFinWait1 = 4,
  kFinWait2 = 5,
  kCloseWait = 8,
  kLastAck = 9,
  kListen = 10,
  kClosing = 11,
};
constexpr unsigned kOpenStates = 1U << kEstablished | 1U << kFinWait1 | 1U << kFinWait2 | 1U << kCloseWait |
                                 1U << kLastAck | 1U << kClosing;
constexpr std::size_t kBufferBytes = 1U << 16;

Error netlink_error(int error) {
  const std::string what = std::string("sock_diag: ") + std::strerror(error);
  return error == EPERM || error == EACCES ? Error::privilege(what) : Error::failed(what);
}

struct Attributes {
  CgroupId cgroup = 0;
  std::uint32_t rtt_us = 0;
  std::uint32_t retransmits = 0;
  bool full_socket = false;  ///< has TCP information: a time-wait socket has none
};

int on_attribute(const nlattr* attribute, void* data) {
  auto& found = *static_cast<Attributes*>(data);
  const void* payload = ::mnl_attr_get_payload(attribute);
  const std::size_t size = ::mnl_attr_get_payload_len(attribute);
  switch (::mnl_attr_get_type(attribute)) {
    case INET_DIAG_CGROUP_ID:
      if (size == sizeof found.cgroup) {
        std::memcpy(&found.cgroup, payload, size);
      }
      break;
    case INET_DIAG_INFO: {
      tcp_info info{};  // older kernels tell a shorter one
      std::memcpy(&info, payload, std::min(size, sizeof info));
      found.rtt_us = info.tcpi_rtt;
      found.retransmits = info.tcpi_total_retrans;
      found.full_socket = true;
      break;
    }
    default:
      break;
  }
  return MNL_CB_OK;
}

Status add_socket(const nlmsghdr& message, SocketTable& table) {
  if (::mnl_nlmsg_get_payload_len(&message) < sizeof(inet_diag_msg)) {
    return Error::failed("sock_diag: a message is shorter than a socket's description");
  }
  const auto& socket = *static_cast<const inet_diag_msg*>(::mnl_nlmsg_get_payload(&message));
  Attributes attributes;
  if (::mnl_attr_parse(&message, sizeof(inet_diag_msg), on_attribute, &attributes) < 0) {
    return Error::failed("sock_diag: a socket's attributes are cut");
  }
  const bool listens = socket.idiag_state == kListen;
  const bool open = socket.idiag_state < 32 && (kOpenStates >> socket.idiag_state & 1U) != 0;
  if (!listens && (!open || !attributes.full_socket)) {
    return ok();
  }
  if (attributes.cgroup == 0) {
    ++table.without_cgroup;
    return ok();
  }
  CgroupSockets& sockets = table.cgroups[attributes.cgroup];
  if (listens) {
    ++sockets.listeners;
    sockets.accept_queue += socket.idiag_rqueue;
    sockets.accept_queue_limit += socket.idiag_wqueue;
    return ok();
  }
  ++sockets.open;
  sockets.srtt_us_sum += attributes.rtt_us;
  sockets.retransmits += attributes.retransmits;
  sockets.receive_queue_bytes += socket.idiag_rqueue;
  sockets.send_queue_bytes += socket.idiag_wqueue;
  return ok();
}

}  // namespace

Result<bool> parse_sock_diag(std::span<const std::byte> datagram, SocketTable& table) {
  // libmnl counts what is left of a datagram in an int.
  int left = static_cast<int>(std::min<std::size_t>(datagram.size(), 1U << 30));
  const auto* message = reinterpret_cast<const nlmsghdr*>(datagram.data());
  while (::mnl_nlmsg_ok(message, left)) {
    table.interrupted = table.interrupted || (message->nlmsg_flags & NLM_F_DUMP_INTR) != 0;
    if (message->nlmsg_type == NLMSG_DONE) {
      return true;
    }
    if (message->nlmsg_type == NLMSG_ERROR) {
      if (::mnl_nlmsg_get_payload_len(message) < sizeof(nlmsgerr)) {
        return Error::failed("sock_diag: an error without its number");
      }
      return netlink_error(-static_cast<const nlmsgerr*>(::mnl_nlmsg_get_payload(message))->error);
    }
    if (message->nlmsg_type == SOCK_DIAG_BY_FAMILY) {
      if (Status added = add_socket(*message, table); !added) {
        return added.error();
      }
    }
    message = ::mnl_nlmsg_next(message, &left);
  }
  if (left > 0) {
    return Error::failed("sock_diag: a datagram is cut, " + std::to_string(left) + " bytes are no message");
  }
  return false;
}

struct SockDiag::State {
  ~State() { close(); }
  void close() {
    if (socket != nullptr) {
      ::mnl_socket_close(socket);
      socket = nullptr;
    }
  }
  Status connect() {
    if (socket != nullptr) {
      return ok();
    }
    socket = ::mnl_socket_open2(NETLINK_SOCK_DIAG, SOCK_CLOEXEC);
    if (socket == nullptr) {
      return netlink_error(errno).in("opening netlink");
    }
    const timeval patience{1, 0};
    ::setsockopt(::mnl_socket_get_fd(socket), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (::mnl_socket_bind(socket, 0, MNL_SOCKET_AUTOPID) != 0) {
      return netlink_error(errno).in("binding netlink");
    }
    return ok();
  }

  mnl_socket* socket = nullptr;
  std::uint32_t sequence = 0;
  alignas(nlmsghdr) std::array<char, kBufferBytes> buffer{};
};

SockDiag::SockDiag(std::unique_ptr<State> state) : state_(std::move(state)) {}
SockDiag::SockDiag(SockDiag&&) noexcept = default;
SockDiag& SockDiag::operator=(SockDiag&&) noexcept = default;
SockDiag::~SockDiag() = default;

Result<SockDiag> SockDiag::open() {
  auto state = std::make_unique<State>();
  if (Status connected = state->connect(); !connected) {
    return connected.error();
  }
  return SockDiag(std::move(state));
}

Status SockDiag::dump(int family, SocketTable& table) {
  std::array<char, 256> request{};
  nlmsghdr* header = ::mnl_nlmsg_put_header(request.data());
  header->nlmsg_type = SOCK_DIAG_BY_FAMILY;
  header->nlmsg_flags = NLM_F_REQUEST | NLM_F_DUMP;
  header->nlmsg_seq = ++state_->sequence;
  auto* wanted =
      static_cast<inet_diag_req_v2*>(::mnl_nlmsg_put_extra_header(header, sizeof(inet_diag_req_v2)));
  wanted->sdiag_family = static_cast<std::uint8_t>(family);
  wanted->sdiag_protocol = IPPROTO_TCP;
  wanted->idiag_ext = 1U << (INET_DIAG_INFO - 1);
  wanted->idiag_states = kOpenStates | 1U << kListen;
  if (::mnl_socket_sendto(state_->socket, header, header->nlmsg_len) < 0) {
    return netlink_error(errno).in("asking for the socket table");
  }
  for (bool complete = false; !complete;) {
    const ssize_t n = ::mnl_socket_recvfrom(state_->socket, state_->buffer.data(), state_->buffer.size());
    if (n < 0) {
      return netlink_error(errno).in(errno == ENOSPC ? "a datagram does not fit"
                                                     : "reading the socket table");
    }
    const auto parsed =
        parse_sock_diag(std::as_bytes(std::span(state_->buffer).first(static_cast<std::size_t>(n))), table);
    if (!parsed) {
      return parsed.error();
    }
    complete = *parsed;
  }
  return ok();
}

Result<SocketTable> SockDiag::read() {
  SocketTable table;
  for (const int family : {AF_INET, AF_INET6}) {
    Status done = state_->connect();
    if (done) {
      done = dump(family, table);
    }
    if (!done) {
      state_->close();  // the rest of a broken dump is not the next one's beginning
      return done.error();
    }
  }
  return table;
}

}  // namespace ballast::sample
