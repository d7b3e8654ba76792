// SPDX-License-Identifier: Apache-2.0
//
// ballastd with its programs in the kernel: who may, who is first, what stays when it is gone.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/mount.h>
#include <sys/socket.h>

#include "core/base/cgroup_root.h"
#include "core/base/unique_fd.h"
#include "daemon.h"
#include "model/policy/parameters.h"

namespace ballast {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr const char* kNobody = "65534";
constexpr const char* kCapabilities = "+bpf,+perfmon,+net_admin";

struct Listener {
  UniqueFd fd{::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)};
  std::uint16_t port = 0;
  Listener() {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* name = reinterpret_cast<sockaddr*>(&address);
    if (::bind(fd.get(), name, size) == 0 && ::listen(fd.get(), 1) == 0 &&
        ::getsockname(fd.get(), name, &size) == 0) {
      port = ntohs(address.sin_port);
    }
  }
  std::string address() const { return "127.0.0.1:" + std::to_string(port); }
};

/// A cgroup of the test's own with an HTTP server in it.
class Service {
 public:
  Service(const fs::path& root, const std::string& name, const fs::path& bin, const fs::path& output)
      : cgroup_(root / name) {
    {
      const Listener free;  // gives a port that nobody has just now
      port_ = free.port;
    }
    fs::create_directory(cgroup_);
    ProcessOptions options;
    options.argv = {(bin / "tests" / "ballast_test_http_server").string(), std::to_string(port_)};
    options.output = output;
    options.cgroups = {cgroup_};
    auto spawned = ChildProcess::spawn(options);
    EXPECT_TRUE(spawned.ok());
    server_ = std::move(*spawned);
    bool up = false;
    for (int i = 0; i < 500 && !up; ++i) {
      std::this_thread::sleep_for(10ms);
      up = ask();
    }
    EXPECT_TRUE(up) << "the server does not answer";
  }
  ~Service() {
    server_.stop(0ms);
    std::error_code ignored;
    for (int i = 0; i < 100 && !fs::remove(cgroup_, ignored) && ignored; ++i) {
      std::this_thread::sleep_for(10ms);
    }
  }
  /// One request on a connection of its own; whether it was answered.
  bool ask() const {
    const UniqueFd fd(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const timeval patience{2, 0};
    ::setsockopt(fd.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(port_);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
      return false;
    }
    const std::string request = "GET /plain HTTP/1.1\r\nHost: test\r\n\r\n";
    char answer[512];
    return ::send(fd.get(), request.data(), request.size(), MSG_NOSIGNAL) > 0 &&
           ::recv(fd.get(), answer, sizeof answer, 0) > 12 && std::string(answer, 12) == "HTTP/1.1 200";
  }
  std::string name() const { return "/" + cgroup_.filename().string(); }
  std::uint16_t port() const { return port_; }

 private:
  fs::path cgroup_;
  std::uint16_t port_ = 0;
  ChildProcess server_;
};

class KernelTest : public DaemonTest {
 protected:
  void SetUp() override {
    if (!may_load()) {
      GTEST_SKIP() << "needs root to load programs";
    }
    auto root = find_cgroup_root();
    if (!root) {
      GTEST_SKIP() << root.error().message;
    }
    root_ = *root;
    DaemonTest::SetUp();
  }
  Service service() const {
    return Service(root_, "cli-" + dir_->path().filename().string(), bin_, dir_->path() / "server");
  }
  std::uint64_t responses(const std::string& cgroup) {
    std::uint64_t sum = 0;
    for (const auto& row : ctl("requests")) {
      if (row["cgroup"] == cgroup && row["role"] == "server") {
        sum += row["responses"].get<std::uint64_t>();
      }
    }
    return sum;
  }
  std::uint64_t accepted(const std::string& cgroup) {
    std::uint64_t sum = 0;
    for (const auto& row : ctl("connections")) {
      sum += row["cgroup"] == cgroup ? row["accepted"].get<std::uint64_t>() : 0;
    }
    return sum;
  }
  std::string pods(const Service& service) const {
    return "static:" +
           write("pods.yaml", fmt::format("pods:\n- {{cgroup: {}, pod: web-0, namespace: shop, service: "
                                          "web, address: 127.0.0.1, port: {}}}\n"
                                          "- {{pod: web-1, namespace: shop, service: web, address: "
                                          "127.0.0.2, port: 80}}\n",
                                          service.name(), service.port()))
               .string();
  }
  fs::path root_;
};

TEST_F(KernelTest, ASecondOneIsRefusedByTheNameOfTheFirst) {
  ChildProcess first = start({});
  const Ended second = run({ballastd(), "--bpffs", bpffs_});
  EXPECT_EQ(second.code, 1) << second.output;
  EXPECT_THAT(second.output, HasSubstr(std::to_string(first.pid())));
  EXPECT_TRUE(first.running());
  const Ended unload = run({ballastd(), "--unload", "--bpffs", bpffs_});
  EXPECT_EQ(unload.code, 1) << "not under a living one";
  EXPECT_EQ(first.stop(10s).code, 0);
}

TEST_F(KernelTest, AFolderWithOtherThingsInItIsNotHidden) {
  const fs::path folder = dir_->path() / "mine";
  fs::create_directories(folder);
  ASSERT_TRUE(write_file_atomic(folder / "data", "hi").ok());
  const Ended ended = run({ballastd(), "--bpffs", folder.string()});
  EXPECT_EQ(ended.code, 2) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("would hide"));
  EXPECT_EQ(read_file(folder / "data").value(), "hi");
}

TEST_F(KernelTest, ATakenPortIsNamedAndNothingIsLeftInTheKernel) {
  const Listener taken;
  for (const auto& flags : {std::vector<std::string>{"--sink", "xds:" + taken.address()},
                            std::vector<std::string>{"--metrics", taken.address()}}) {
    const Ended ended = run({ballastd(), "--bpffs", bpffs_, flags[0], flags[1]});
    EXPECT_EQ(ended.code, 1) << ended.output;
    EXPECT_THAT(ended.output, HasSubstr(taken.address()));
    EXPECT_FALSE(loaded());
  }
}

TEST_F(KernelTest, MeasuringGoesOnWithoutItAndCountersDoNotGoBack) {
  Service web = service();
  ChildProcess first = start({"--identity", pods(web)});
  for (int i = 0; i < 20; ++i) {
    ASSERT_TRUE(web.ask());
  }
  ASSERT_TRUE(eventually([&] { return responses(web.name()) == 20; })) << responses(web.name());
  first.signal(SIGKILL);
  ASSERT_TRUE(first.wait(5s).has_value());
  for (int i = 0; i < 10; ++i) {
    ASSERT_TRUE(web.ask());
  }
  EXPECT_EQ(responses(web.name()), 30U) << "counted while ballastd is dead";
  EXPECT_TRUE(eventually([&] { return ctl("status")["alive"] == false; }));

  ChildProcess second = start({"--identity", pods(web)});
  EXPECT_EQ(responses(web.name()), 30U) << "neither back nor forward at the restart";
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(web.ask());
  }
  EXPECT_TRUE(eventually([&] { return responses(web.name()) == 35; })) << responses(web.name());
  EXPECT_EQ(ctl("status")["alive"], true);
  EXPECT_EQ(second.stop(10s).code, 0);
}

TEST_F(KernelTest, TheEndLeavesEqualWeightsAndTheNamesOfThePods) {
  Service web = service();
  const fs::path weights = dir_->path() / "weights.json";
  ChildProcess daemon =
      start({"--identity", pods(web), "--sink", "file:" + weights.string(), "--mode", "active"});
  ASSERT_TRUE(web.ask());
  EXPECT_TRUE(eventually([&] { return responses(web.name()) > 0 && ctl("weights").size() == 2; }));
  EXPECT_EQ(daemon.stop(10s).code, 0) << text(log());
  const auto file = nlohmann::json::parse(text(weights), nullptr, false);
  ASSERT_EQ(file["services"].size(), 1U) << text(weights);
  const auto& endpoints = file["services"][0]["endpoints"];
  ASSERT_EQ(endpoints.size(), 2U);
  EXPECT_EQ(endpoints[0]["weight"], endpoints[1]["weight"]);
  EXPECT_TRUE(file["services"][0]["neutral"].get<bool>());
  EXPECT_THAT(text(log()), HasSubstr("equal weights published services=1"));
  bool named = false;
  for (const auto& row : ctl("requests")) {
    named |= row["pod"] == "web-0" && row["namespace"] == "shop" && row["service"] == "web";
  }
  EXPECT_TRUE(named) << "of a dead ballastd";
}

TEST_F(KernelTest, AReloadOfBadParametersKeepsThePolicyInForce) {
  policy::Parameters parameters = policy::initial(1);
  parameters.epoch = 3;
  parameters.version = 9;
  const fs::path file = write("parameters", policy::serialize(parameters));
  ChildProcess daemon = start({"--policy", "learned", "--parameters", file.string()});
  ASSERT_TRUE(eventually([&] { return ctl("status")["policy_version"] == 9; }));
  const auto before = ctl("status");
  write("parameters", policy::serialize(parameters).substr(0, 500));
  daemon.signal(SIGHUP);
  ASSERT_TRUE(eventually([&] { return text(log()).find("parameters refused") != std::string::npos; }));
  EXPECT_EQ(ctl("status")["policy_crc32"], before["policy_crc32"]);

  parameters.version = 10;
  write("parameters", policy::serialize(parameters));
  daemon.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return ctl("status")["policy_version"] == 10; }));
  EXPECT_EQ(daemon.stop(10s).code, 0);
}

TEST_F(KernelTest, ParametersOfAnotherVersionLeaveTheStrongRuleInForce) {
  policy::Parameters parameters = policy::initial(1);
  parameters.epoch = 3;
  parameters.version = 10;
  const std::string good = policy::serialize(parameters);
  std::string other = good;
  other[12] = static_cast<char>(other[12] + 1);  // spec::kVersion, see model/policy/parameters.h
  const fs::path file = write("parameters", other);
  const Ended checked =
      run({ballastd(), "--check-config", "--policy", "learned", "--parameters", file.string()});
  EXPECT_EQ(checked.code, 0) << checked.output;
  EXPECT_THAT(checked.output, ::testing::HasSubstr(file.string() + ": parameters of another version"));
  ChildProcess daemon = start({"--policy", "learned", "--parameters", file.string()});
  const auto told = [&] {
    return ctl("status").dump().find(file.string() + ": parameters of another version");
  };
  EXPECT_TRUE(eventually([&] { return told() != std::string::npos; })) << ctl("status").dump();
  write("parameters", good);
  daemon.signal(SIGHUP);
  EXPECT_TRUE(eventually([&] { return ctl("status")["policy_version"] == 10; }));
  EXPECT_TRUE(eventually([&] { return told() == std::string::npos; })) << ctl("status").dump();
  EXPECT_EQ(daemon.stop(10s).code, 0);
}

TEST_F(KernelTest, AReadOnlyBpffsEndsItAndMeasuringGoesOn) {
  Service web = service();
  ASSERT_EQ(start({}).stop(10s).code, 0);
  const Ended ended =
      run({"unshare", "--mount", "sh", "-c",
           "mount --bind /sys/fs/bpf /sys/fs/bpf && mount -o remount,bind,ro /sys/fs/bpf && exec \"$@\"",
           "sh", ballastd(), "--bpffs", bpffs_});
  EXPECT_EQ(ended.code, 1) << ended.output;
  EXPECT_THAT(ended.output, HasSubstr("Read-only file system"));
  ASSERT_TRUE(web.ask());
  EXPECT_TRUE(eventually([&] { return accepted(web.name()) == 1; })) << ctl("connections").dump();
}

/// As nobody, on a bpffs that nobody owns; the binary is copied to where nobody may read it.
class UnprivilegedTest : public KernelTest {
 protected:
  void SetUp() override {
    KernelTest::SetUp();
    if (IsSkipped() || HasFatalFailure()) {
      return;
    }
    fs::permissions(dir_->path(), fs::perms(0755));
    mount_ = dir_->path() / "bpf";
    fs::create_directory(mount_);
    if (::mount("bpf", mount_.c_str(), "bpf", 0, "mode=0755") != 0) {
      GTEST_SKIP() << "needs CAP_SYS_ADMIN to mount a bpffs";
    }
    bpffs_ = (mount_ / "ballast").string();
    fs::create_directory(bpffs_);
    ASSERT_EQ(::chown(bpffs_.c_str(), 65534, 65534), 0);
    ASSERT_EQ(::chown(mount_.c_str(), 65534, 65534), 0);
    daemon_ = (dir_->path() / "ballastd").string();
    fs::copy_file(ballastd(), daemon_);
  }
  void TearDown() override {
    if (!mount_.empty()) {
      run({ballastd(), "--unload", "--bpffs", bpffs_});
      ::umount2(mount_.c_str(), MNT_DETACH);
    }
  }
  static std::vector<std::string> as_nobody(const std::string& capabilities) {
    std::vector<std::string> argv = {"setpriv", std::string("--reuid=") + kNobody,
                                     std::string("--regid=") + kNobody, "--clear-groups", "--no-new-privs"};
    if (capabilities.empty()) {
      argv.insert(argv.end(), {"--inh-caps=-all", "--bounding-set=-all"});
    } else {
      argv.insert(argv.end(), {"--inh-caps=-all," + capabilities, "--ambient-caps=-all," + capabilities,
                               "--bounding-set=-all," + capabilities});
    }
    return argv;
  }
  Ended run_as_nobody(const std::string& capabilities) {
    auto argv = as_nobody(capabilities);
    argv.insert(argv.end(), {daemon_, "--bpffs", bpffs_});
    return run(argv);
  }
  fs::path mount_;
};

TEST_F(UnprivilegedTest, ThreeCapabilitiesAreEnough) {
  Service web = service();
  ChildProcess daemon = start({"--identity", pods(web)}, as_nobody(kCapabilities));
  for (int i = 0; i < 5; ++i) {
    ASSERT_TRUE(web.ask());
  }
  EXPECT_TRUE(eventually([&] { return responses(web.name()) == 5; })) << text(log());
  const std::string status = text("/proc/" + std::to_string(daemon.pid()) + "/status");
  EXPECT_THAT(status, HasSubstr("Uid:\t65534\t65534\t65534\t65534"));
  EXPECT_EQ(daemon.stop(10s).code, 0);
}

TEST_F(UnprivilegedTest, EachMissingCapabilityIsNamed) {
  const Ended none = run_as_nobody("");
  EXPECT_EQ(none.code, 3) << none.output;
  EXPECT_THAT(none.output, HasSubstr("missing CAP_BPF, CAP_PERFMON, CAP_NET_ADMIN:"));
  const Ended bpf = run_as_nobody("+perfmon,+net_admin");
  EXPECT_EQ(bpf.code, 3);
  EXPECT_THAT(bpf.output, HasSubstr("missing CAP_BPF:"));
  const Ended perfmon = run_as_nobody("+bpf,+net_admin");
  EXPECT_EQ(perfmon.code, 3);
  EXPECT_THAT(perfmon.output, HasSubstr("missing CAP_PERFMON:"));
  const Ended net = run_as_nobody("+bpf,+perfmon");
  EXPECT_EQ(net.code, 3);
  EXPECT_THAT(net.output, HasSubstr("missing CAP_NET_ADMIN:"));
  EXPECT_FALSE(loaded());
}

// Before 5.8 there is no CAP_BPF to miss; the personality makes the kernel call itself 2.6.
TEST_F(UnprivilegedTest, AKernelThatIsTooOldIsNamedBeforeWhatItLacks) {
  auto argv = as_nobody("");
  argv.insert(argv.end(), {"setarch", "--uname-2.6", daemon_, "--bpffs", bpffs_});
  const Ended old = run(argv);
  EXPECT_EQ(old.code, 3) << old.output;
  EXPECT_THAT(old.output, AllOf(HasSubstr("Linux 2.6."), HasSubstr("is older than 5.10")));
}

}  // namespace
}  // namespace ballast
