// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/sock_diag.h"

#include <gtest/gtest.h>
#include <linux/inet_diag.h>
#include <linux/netlink.h>
#include <linux/sock_diag.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include "core/base/cgroup_root.h"
#include "core/base/unique_fd.h"

namespace ballast::sample {
namespace {

std::vector<std::byte> message(std::uint16_t type, const void* payload, std::size_t size) {
  nlmsghdr header{};
  header.nlmsg_len = static_cast<std::uint32_t>(NLMSG_LENGTH(size));
  header.nlmsg_type = type;
  std::vector<std::byte> bytes(NLMSG_ALIGN(header.nlmsg_len));
  std::memcpy(bytes.data(), &header, sizeof header);
  std::memcpy(bytes.data() + NLMSG_HDRLEN, payload, size);
  return bytes;
}

std::vector<std::byte> socket_message(std::uint8_t state, CgroupId cgroup) {
  inet_diag_msg socket{};
  socket.idiag_state = state;
  socket.idiag_rqueue = 3;
  socket.idiag_wqueue = 100;
  const std::uint64_t info = 0;
  std::string payload(reinterpret_cast<const char*>(&socket), sizeof socket);
  const auto attribute = [&](std::uint16_t type, const std::uint64_t& value) {
    const nlattr header{static_cast<std::uint16_t>(sizeof(nlattr) + sizeof value), type};
    payload.append(reinterpret_cast<const char*>(&header), sizeof header);
    payload.append(reinterpret_cast<const char*>(&value), sizeof value);
  };
  attribute(INET_DIAG_INFO, info);
  attribute(INET_DIAG_CGROUP_ID, cgroup);
  return message(SOCK_DIAG_BY_FAMILY, payload.data(), payload.size());
}

TEST(SockDiagParse, ListenersAndConnectionsByCgroup) {
  SocketTable table;
  for (const auto& [state, cgroup] :
       std::vector<std::pair<std::uint8_t, CgroupId>>{{1, 7}, {8, 7}, {10, 7}, {1, 8}, {1, 0}, {6, 7}}) {
    const auto parsed = parse_sock_diag(socket_message(state, cgroup), table);
    ASSERT_TRUE(parsed.ok()) << parsed.error().message;
    EXPECT_FALSE(*parsed);
  }
  EXPECT_EQ(table.cgroups[7].open, 2);
  EXPECT_EQ(table.cgroups[7].listeners, 1U);
  EXPECT_EQ(table.cgroups[7].accept_queue, 3U);
  EXPECT_EQ(table.cgroups[7].accept_queue_limit, 100U);
  EXPECT_EQ(table.cgroups[7].send_queue_bytes, 200U);
  EXPECT_EQ(table.cgroups[8].open, 1);
  EXPECT_EQ(table.without_cgroup, 1U);
}

TEST(SockDiagParse, TheEndAndTheRefusal) {
  SocketTable table;
  const int zero = 0;
  const auto end = parse_sock_diag(message(NLMSG_DONE, &zero, sizeof zero), table);
  ASSERT_TRUE(end.ok());
  EXPECT_TRUE(*end);
  nlmsgerr refusal{};
  refusal.error = -EPERM;
  const auto refused = parse_sock_diag(message(NLMSG_ERROR, &refusal, sizeof refusal), table);
  ASSERT_FALSE(refused.ok());
  EXPECT_EQ(refused.error().kind, Error::Kind::kPrivilege);
  EXPECT_FALSE(parse_sock_diag(message(NLMSG_ERROR, &zero, sizeof zero), table).ok());
}

TEST(SockDiagParse, ADatagramCutAnywhereIsToldOrShort) {
  const auto whole = socket_message(1, 7);
  for (std::size_t size = 1; size < whole.size(); ++size) {
    SocketTable table;
    const std::vector<std::byte> cut(whole.begin(), whole.begin() + static_cast<std::ptrdiff_t>(size));
    EXPECT_FALSE(parse_sock_diag(cut, table).ok()) << size;
    EXPECT_TRUE(table.cgroups.empty());
  }
  SocketTable table;
  EXPECT_FALSE(parse_sock_diag(message(SOCK_DIAG_BY_FAMILY, "x", 1), table).ok());
}

class Sockets : public ::testing::Test {
 protected:
  static SocketTable read() {
    auto diag = SockDiag::open();
    EXPECT_TRUE(diag.ok()) << diag.error().message;
    auto table = diag->read();
    EXPECT_TRUE(table.ok()) << table.error().message;
    return table ? *table : SocketTable{};
  }
  /// Our own cgroup's id on the v2 hierarchy.
  static CgroupId own_cgroup() {
    const auto root = find_cgroup_root();
    std::ifstream lines("/proc/self/cgroup");
    struct stat info {};
    for (std::string line; root && std::getline(lines, line);) {
      if (line.rfind("0::", 0) == 0 && ::stat((root->string() + line.substr(3)).c_str(), &info) == 0) {
        return info.st_ino;
      }
    }
    return 0;
  }
};

TEST_F(Sockets, RealConnectionsOfBothFamilies) {
  const CgroupId own = own_cgroup();
  if (own == 0) {
    GTEST_SKIP() << "no cgroup v2 here";
  }
  std::vector<UniqueFd> open;
  for (const int family : {AF_INET, AF_INET6}) {
    UniqueFd listener(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_storage address{};
    address.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET6) {
      reinterpret_cast<sockaddr_in6&>(address).sin6_addr = in6addr_loopback;
    } else {
      reinterpret_cast<sockaddr_in&>(address).sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    }
    socklen_t size = family == AF_INET6 ? sizeof(sockaddr_in6) : sizeof(sockaddr_in);
    auto* raw = reinterpret_cast<sockaddr*>(&address);
    if (::bind(listener.get(), raw, size) != 0 && family == AF_INET6) {
      continue;  // a machine without IPv6
    }
    ASSERT_EQ(::listen(listener.get(), 17), 0);
    ASSERT_EQ(::getsockname(listener.get(), raw, &size), 0);
    UniqueFd client(::socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0));
    ASSERT_EQ(::connect(client.get(), raw, size), 0);
    ASSERT_EQ(::send(client.get(), "hello", 5, 0), 5);
    open.push_back(std::move(listener));
    open.push_back(std::move(client));
  }
  const auto pairs = static_cast<std::int64_t>(open.size() / 2);
  const SocketTable table = read();
  if (table.cgroups.empty() && table.without_cgroup > 0) {
    GTEST_SKIP() << "this kernel tells no cgroup of a socket";
  }
  const CgroupSockets now = table.cgroups.at(own);
  // Other tests run in this cgroup too, so that only what is ours and must be there is asserted.
  EXPECT_GE(now.open, 2 * pairs);
  EXPECT_GE(now.listeners, static_cast<std::uint64_t>(pairs));
  EXPECT_GE(now.accept_queue, static_cast<std::uint64_t>(pairs)) << "nobody accepted them";
  EXPECT_GE(now.accept_queue_limit, 17U * static_cast<std::uint64_t>(pairs));
  EXPECT_GE(now.receive_queue_bytes, 5U * static_cast<std::uint64_t>(pairs)) << "nobody read it";
  EXPECT_GT(now.srtt_us_sum, 0U);
}

}  // namespace
}  // namespace ballast::sample
