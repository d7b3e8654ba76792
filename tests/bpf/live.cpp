// SPDX-License-Identifier: Apache-2.0
#include "live.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <thread>

#include "core/base/cgroup_root.h"

namespace ballast::testing {

namespace {

constexpr int kPatienceMs = 2000;

UniqueFd connect_to(std::uint16_t port, Client::Address kind) {
  UniqueFd fd(::socket(kind == Client::Address::kV4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in v4{};
  v4.sin_family = AF_INET;
  v4.sin_port = htons(port);
  v4.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  sockaddr_in6 v6{};
  v6.sin6_family = AF_INET6;
  v6.sin6_port = htons(port);
  ::inet_pton(AF_INET6, kind == Client::Address::kV6 ? "::1" : "::ffff:127.0.0.1", &v6.sin6_addr);
  const bool plain = kind == Client::Address::kV4;
  const auto* address =
      plain ? reinterpret_cast<const sockaddr*>(&v4) : reinterpret_cast<const sockaddr*>(&v6);
  if (::connect(fd.get(), address, plain ? sizeof v4 : sizeof v6) != 0) {
    return UniqueFd();
  }
  return fd;
}

template <typename Done>
std::string receive_while(int fd, Done done) {
  std::string bytes;
  char buffer[65536];
  while (!done(bytes)) {
    pollfd wait{fd, POLLIN, 0};
    if (::poll(&wait, 1, kPatienceMs) <= 0) {
      break;
    }
    const ssize_t n = ::recv(fd, buffer, sizeof buffer, 0);
    if (n <= 0) {
      break;
    }
    bytes.append(buffer, static_cast<std::size_t>(n));
  }
  return bytes;
}

// What the tests of a suite share.
struct Kept {
  std::optional<TempDir> folder;
  std::filesystem::path bpffs;
  std::optional<kernel::Probes> probes;
  std::optional<sample::PinnedMaps> maps;
};
Kept kept;

}  // namespace

TestCgroup::TestCgroup(const std::filesystem::path& root, const std::string& name) : path_(root / name) {
  ::mkdir(path_.c_str(), 0755);
}

TestCgroup::~TestCgroup() {
  // A cgroup is busy until its last process has been reaped.
  for (int i = 0; i < 100 && ::rmdir(path_.c_str()) != 0; ++i) {
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
}

std::uint64_t TestCgroup::id() const {
  struct stat info {};
  return ::stat(path_.c_str(), &info) == 0 ? info.st_ino : 0;
}

Client::Client(std::uint16_t port, Address address) : fd_(connect_to(port, address)) {}

Client::Client(std::uint16_t port, const std::string& first)
    : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port = htons(port);
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  if (::sendto(fd_.get(), first.data(), first.size(), MSG_FASTOPEN | MSG_NOSIGNAL,
               reinterpret_cast<const sockaddr*>(&to), sizeof to) != static_cast<ssize_t>(first.size())) {
    fd_.reset();
  }
}

void Client::send(const std::string& bytes) const {
  std::size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(fd_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) {
      return;
    }
    sent += static_cast<std::size_t>(n);
  }
}

std::string Client::receive(std::size_t bytes) const {
  return receive_while(fd_.get(), [&](const std::string& got) { return got.size() >= bytes; });
}

std::string Client::receive_until(const std::string& text) const {
  return receive_while(fd_.get(),
                       [&](const std::string& got) { return got.find(text) != std::string::npos; });
}

std::string Client::receive_to_end() const {
  return receive_while(fd_.get(), [](const std::string&) { return false; });
}

void Client::reset() {
  const linger now{1, 0};
  ::setsockopt(fd_.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  fd_.reset();
}

void LiveTest::wait_a_little() {
  std::this_thread::sleep_for(std::chrono::milliseconds(2));
}

std::uint16_t LiveTest::free_port() {
  const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  if (::bind(fd.get(), reinterpret_cast<sockaddr*>(&address), size) != 0 ||
      ::getsockname(fd.get(), reinterpret_cast<sockaddr*>(&address), &size) != 0) {
    return 0;
  }
  return ntohs(address.sin_port);
}

void LiveTest::SetUp() {
  if (keep_ && kept.probes.has_value()) {
    folder_ = std::move(kept.folder);
    bpffs_ = kept.bpffs;
    probes_ = std::move(kept.probes);
    maps_ = std::move(kept.maps);
    kept = Kept{};
  } else {
    auto folder = TempDir::create("/tmp", "ballast-bpf-");
    ASSERT_TRUE(folder.ok()) << folder.error().message;
    folder_.emplace(std::move(*folder));
    bpffs_ = folder_->path() / "pins";
    load();
  }
  if (IsSkipped() || HasFatalFailure()) {
    return;
  }
  const auto before = maps_->loss();
  ASSERT_TRUE(before.ok()) << before.error().message;
  loss_before_ = *before;
  static int count = 0;
  cgroup_ = std::make_unique<TestCgroup>(
      probes_->cgroup_root(), "ballast-test-" + std::to_string(::getpid()) + "-" + std::to_string(++count));
  ASSERT_NE(cgroup_->id(), 0U) << "no cgroup could be made below " << probes_->cgroup_root();
}

void LiveTest::load() {
  kernel::ProbeOptions options;
  options.bpffs = bpffs_;
  options.span_every = span_every_;
  options.parse_in_place = parse_in_place_;
  auto probes = kernel::Probes::load(options);
  if (!probes && probes.error().kind == Error::Kind::kPrivilege) {
    GTEST_SKIP() << probes.error().message;
  }
  ASSERT_TRUE(probes.ok()) << probes.error().message;
  probes_.emplace(std::move(*probes));
  auto maps = sample::PinnedMaps::open(bpffs_);
  ASSERT_TRUE(maps.ok()) << maps.error().message;
  maps_.emplace(std::move(*maps));
}

void LiveTest::start_server() {
  const std::uint16_t port = free_port();
  start_server({(binary_dir() / "ballast_test_http_server").string(), std::to_string(port)}, port);
}

void LiveTest::start_server(const std::vector<std::string>& argv, std::uint16_t port) {
  port_ = port;
  ProcessOptions options;
  options.argv = argv;
  options.output = "/dev/null";
  options.cgroups = {cgroup_->path()};
  auto server = ChildProcess::spawn(options);
  ASSERT_TRUE(server.ok()) << server.error().message;
  server_ = std::move(*server);
  ASSERT_TRUE(eventually([this] { return Client(port_).connected(); })) << argv[0];
}

void LiveTest::unload() {
  maps_.reset();
  probes_.reset();
  if (std::filesystem::exists(bpffs_)) {
    const Status unloaded = kernel::Probes::unload(bpffs_);
    EXPECT_TRUE(unloaded.ok() || IsSkipped()) << unloaded.error().message;
  }
}

void LiveTest::TearDown() {
  server_.stop(std::chrono::milliseconds(0));
  if (keep_ && probes_.has_value() && maps_.has_value()) {
    kept = Kept{std::move(folder_), bpffs_, std::move(probes_), std::move(maps_)};
    folder_.reset();
    probes_.reset();
    maps_.reset();
  } else {
    unload();
  }
  cgroup_.reset();
}

void LiveTest::TearDownTestSuite() {
  const bool loaded = kept.probes.has_value();
  kept.maps.reset();
  kept.probes.reset();
  if (loaded) {
    const Status unloaded = kernel::Probes::unload(kept.bpffs);
    EXPECT_TRUE(unloaded.ok()) << unloaded.error().message;
  }
  kept.folder.reset();
}

ballast_request_value LiveTest::row(ballast_role role, ballast_protocol protocol) const {
  return row_of(cgroup_->id(), role, protocol);
}

ballast_request_value LiveTest::row_of(std::uint64_t cgroup, ballast_role role,
                                       ballast_protocol protocol) const {
  const auto rows = maps_->requests();
  if (!rows) {
    ADD_FAILURE() << rows.error().message;
    return {};
  }
  for (const auto& each : *rows) {
    if (each.key.cgroup_id == cgroup && each.key.role == role && each.key.protocol == protocol) {
      return each.value;
    }
  }
  return {};
}

ballast_connection_value LiveTest::connections() const {
  const auto rows = maps_->connections();
  if (!rows) {
    ADD_FAILURE() << rows.error().message;
    return {};
  }
  for (const auto& [id, value] : *rows) {
    if (id == cgroup_->id()) {
      return value;
    }
  }
  return {};
}

ballast_loss_value LiveTest::loss(ballast_loss_reason reason) const {
  const auto all = maps_->loss();
  if (!all) {
    ADD_FAILURE() << all.error().message;
    return {};
  }
  ballast_loss_value value = (*all)[reason];
  value.events -= loss_before_[reason].events;
  value.bytes -= loss_before_[reason].bytes;
  return value;
}

}  // namespace ballast::testing
