// SPDX-License-Identifier: Apache-2.0
// Loading twice, restarting, unloading.
#include <bpf/bpf.h>
#include <cap-ng.h>
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <vector>

#include "live.h"

namespace ballast::testing {
namespace {

const std::string kGet = "GET /plain HTTP/1.1\r\nHost: test\r\n\r\n";

using Lifecycle = LiveTest;

TEST_F(Lifecycle, MetaSaysWhatIsInForce) {
  const auto meta = maps_->meta();
  ASSERT_TRUE(meta.ok());
  EXPECT_EQ(meta->magic, BALLAST_WIRE_MAGIC);
  EXPECT_EQ(meta->wire_version, BALLAST_WIRE_VERSION);
  EXPECT_EQ(meta->pid, static_cast<std::uint32_t>(::getpid()));
  EXPECT_EQ(meta->flags, probes_->flags());
  EXPECT_NE(meta->flags & BALLAST_META_HTTP, 0U);
  EXPECT_GE(meta->attached_ns, meta->loaded_ns);
  EXPECT_FALSE(probes_->adopted());
}

TEST_F(Lifecycle, ASecondOwnerIsRefusedByName) {
  kernel::ProbeOptions options;
  options.bpffs = bpffs_;
  const auto second = kernel::Probes::load(options);
  ASSERT_FALSE(second.ok());
  EXPECT_EQ(second.error().kind, Error::Kind::kFailed);
  EXPECT_NE(second.error().message.find("pid " + std::to_string(::getpid())), std::string::npos)
      << second.error().message;
  const Status unloaded = kernel::Probes::unload(bpffs_);
  EXPECT_FALSE(unloaded.ok());
}

TEST_F(Lifecycle, CountersGoOnOverARestart) {
  start_server();
  const Client client(port_);
  for (int i = 0; i < 5; ++i) {
    client.send(kGet);
    ASSERT_NE(client.receive_until("hello"), "");
  }
  ASSERT_TRUE(eventually([this] { return connections().open == 1; })) << "the one of start_server() ends";
  const auto connections_before = connections();
  probes_.reset();  // the owner dies: pins stay
  client.send(kGet);
  ASSERT_NE(client.receive_until("hello"), "");
  EXPECT_EQ(row().requests, 6U) << "measuring goes on without an owner";
  client.send("GET /plain HT");  // cut over the restart
  load();
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_TRUE(probes_->adopted());
  client.send("TP/1.1\r\nHost: test\r\n\r\n");
  ASSERT_NE(client.receive_until("hello"), "");
  const auto value = row();
  EXPECT_EQ(value.requests, 7U);
  EXPECT_EQ(value.responses, 7U);
  EXPECT_EQ(value.in_flight, 0);
  EXPECT_EQ(connections().open, connections_before.open) << "no connection is counted twice";
  const Client another(port_);
  another.send(kGet);
  ASSERT_NE(another.receive_until("hello"), "");
  EXPECT_EQ(connections().accepted, connections_before.accepted + 1) << "one of two generations counts";
}

TEST_F(Lifecycle, ConnectionsOpenBeforeTheProbesAreAdopted) {
  maps_.reset();
  probes_.reset();
  ASSERT_TRUE(kernel::Probes::unload(bpffs_).ok());
  start_server();
  const Client client(port_);
  client.send(kGet);
  ASSERT_NE(client.receive_until("hello"), "");
  load();
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_EQ(row().requests, 0U);
  for (int i = 0; i < 3; ++i) {
    client.send(kGet);
    ASSERT_NE(client.receive_until("hello"), "");
  }
  EXPECT_EQ(row().requests, 3U);
  EXPECT_EQ(row().responses, 3U);
  EXPECT_EQ(connections().adopted, 1U);
  EXPECT_EQ(connections().open, 1);
}

TEST_F(Lifecycle, UnloadLeavesNothing) {
  maps_.reset();
  probes_.reset();
  ASSERT_TRUE(std::filesystem::exists(bpffs_ / "requests"));
  ASSERT_TRUE(kernel::Probes::unload(bpffs_).ok());
  EXPECT_FALSE(std::filesystem::exists(bpffs_));
  const auto maps = sample::PinnedMaps::open(bpffs_);
  EXPECT_FALSE(maps.ok());
}

TEST_F(Lifecycle, MapsOfAnotherVersionAreReplaced) {
  auto meta = maps_->meta();
  ASSERT_TRUE(meta.ok());
  meta->wire_version = BALLAST_WIRE_VERSION + 1;
  ASSERT_TRUE(maps_->put_meta(*meta).ok());
  maps_.reset();
  probes_.reset();
  const auto refused = sample::PinnedMaps::open(bpffs_);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find("wire version"), std::string::npos);
  load();
  ASSERT_FALSE(HasFatalFailure());
  EXPECT_FALSE(probes_->adopted());
}

/// What stands in the place of a pin.
class HostilePins : public LiveTest {
 protected:
  void SetUp() override {
    LiveTest::SetUp();
    if (!IsSkipped()) {
      maps_.reset();
      probes_.reset();
    }
  }
  void replace(const char* pin, bpf_map_type type, std::uint32_t key, std::uint32_t value) const {
    remove(pin);
    const UniqueFd map(::bpf_map_create(type, "hostile", key, value, 1, nullptr));
    ASSERT_TRUE(map) << std::strerror(errno);
    ASSERT_EQ(::bpf_obj_pin(map.get(), (bpffs_ / pin).c_str()), 0) << std::strerror(errno);
  }
  void remove(const char* pin) const { ASSERT_EQ(::unlink((bpffs_ / pin).c_str()), 0) << pin; }
  /// ballastctl refuses what it would misread; ballastd begins anew, and measures.
  void expect_begun_anew(const char* pin, bool refused_by_readers = true) {
    const auto read = sample::PinnedMaps::open(bpffs_);
    EXPECT_EQ(!read.ok(), refused_by_readers);
    if (!read && refused_by_readers) {
      EXPECT_NE(read.error().message.find(pin), std::string::npos) << read.error().message;
    }
    load();
    ASSERT_FALSE(HasFatalFailure());
    EXPECT_FALSE(probes_->adopted());
    start_server();
    const Client client(port_);
    client.send(kGet);
    ASSERT_NE(client.receive_until("hello"), "");
    EXPECT_EQ(row().requests, 1U);
    EXPECT_EQ(row().responses, 1U);
  }
};

TEST_F(HostilePins, AMetaOfAnotherSize) {
  replace(BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, 4, 1U << 20);
  expect_begun_anew(BALLAST_MAP_META);
}

TEST_F(HostilePins, AControlOfAnotherSize) {
  replace(BALLAST_MAP_CONTROL, BPF_MAP_TYPE_ARRAY, 4, 1U << 20);
  expect_begun_anew(BALLAST_MAP_CONTROL, false);
}

TEST_F(HostilePins, RequestsOfAnotherSize) {
  replace(BALLAST_MAP_REQUESTS, BPF_MAP_TYPE_HASH, 16, 8);
  expect_begun_anew(BALLAST_MAP_REQUESTS);
}

TEST_F(HostilePins, IdentitiesOfAnotherKind) {
  replace(BALLAST_MAP_IDENTITY, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_identity_value));
  expect_begun_anew(BALLAST_MAP_IDENTITY);
}

TEST_F(HostilePins, ALinkInTheNameOfAMap) {
  remove(BALLAST_MAP_CALLS);
  ASSERT_EQ(::rename((bpffs_ / "http_egress_link").c_str(), (bpffs_ / BALLAST_MAP_CALLS).c_str()), 0);
  expect_begun_anew(BALLAST_MAP_CALLS);
}

TEST_F(HostilePins, HalfOfThemGone) {
  remove(BALLAST_MAP_META);
  remove(BALLAST_MAP_HTTP_SOCKETS);
  expect_begun_anew(BALLAST_MAP_META);
}

TEST_F(HostilePins, SocketsGone) {
  remove(BALLAST_MAP_HTTP_SOCKETS);
  expect_begun_anew(BALLAST_MAP_HTTP_SOCKETS, false);
}

TEST_F(HostilePins, AFolderOfAnotherUser) {
  kernel::ProbeOptions options;
  options.bpffs = bpffs_;
  ASSERT_EQ(::chown(bpffs_.c_str(), 65534, 65534), 0);
  const auto refused = kernel::Probes::load(options);
  ASSERT_EQ(::chown(bpffs_.c_str(), 0, 0), 0);
  ASSERT_FALSE(refused.ok());
  EXPECT_NE(refused.error().message.find(bpffs_.string() + " is user 65534's"), std::string::npos)
      << refused.error().message;
}

// Runs `work` in a child that holds only the capabilities given, because what is dropped does not
// come back. true: the child said so.
template <typename Work>
bool with_capabilities(const std::vector<unsigned int>& capabilities, Work work) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::capng_clear(CAPNG_SELECT_BOTH);
    for (const auto capability : capabilities) {
      ::capng_update(CAPNG_ADD, static_cast<capng_type_t>(CAPNG_EFFECTIVE | CAPNG_PERMITTED), capability);
    }
    ::_exit(::capng_apply(CAPNG_SELECT_CAPS) == 0 && work() ? 0 : 1);
  }
  int status = 0;
  return pid > 0 && ::waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

TEST_F(Lifecycle, MissingCapabilitiesAreNamed) {
  kernel::ProbeOptions options;
  options.bpffs = bpffs_ / "other";
  EXPECT_TRUE(with_capabilities({CAP_PERFMON}, [&] {
    const auto refused = kernel::Probes::load(options);
    return !refused.ok() && refused.error().kind == Error::Kind::kPrivilege &&
           refused.error().message.find("missing CAP_BPF, CAP_NET_ADMIN:") != std::string::npos;
  }));
}

TEST_F(Lifecycle, ThreeCapabilitiesAreEnough) {
  kernel::ProbeOptions options;
  options.bpffs = bpffs_ / "three";
  EXPECT_TRUE(with_capabilities({CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN}, [&] {
    {
      const auto first = kernel::Probes::load(options);
      if (!first.ok() || first->adopted()) {
        return false;
      }
    }
    const auto restarted = kernel::Probes::load(options);
    return restarted.ok() && restarted->adopted();
  }));
  EXPECT_TRUE(kernel::Probes::unload(options.bpffs).ok());
  EXPECT_FALSE(std::filesystem::exists(options.bpffs));
}

}  // namespace
}  // namespace ballast::testing
