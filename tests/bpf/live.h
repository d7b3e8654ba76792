// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <array>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/kernel/probes.h"
#include "agent/sample/maps.h"
#include "core/base/file.h"
#include "core/base/process.h"
#include "core/base/unique_fd.h"

namespace ballast::testing {

/// A cgroup v2 folder of the test's own, removed with it.
class TestCgroup {
 public:
  TestCgroup(const std::filesystem::path& root, const std::string& name);
  ~TestCgroup();
  TestCgroup(const TestCgroup&) = delete;
  TestCgroup& operator=(const TestCgroup&) = delete;
  const std::filesystem::path& path() const { return path_; }
  std::uint64_t id() const;

 private:
  std::filesystem::path path_;
};

/// A TCP connection to a loopback address; every wait is bounded.
class Client {
 public:
  enum class Address { kV4, kV6, kV4Mapped };
  explicit Client(std::uint16_t port, Address address = Address::kV4);
  /// TCP Fast Open: `first` goes out with the SYN where the kernel has the server's cookie.
  Client(std::uint16_t port, const std::string& first);
  bool connected() const { return static_cast<bool>(fd_); }
  void send(const std::string& bytes) const;
  /// Reads until `count` heads and `body` further bytes came, at most two seconds.
  std::string receive(std::size_t bytes) const;
  /// Reads until the text has come.
  std::string receive_until(const std::string& text) const;
  std::string receive_to_end() const;
  /// Resets the connection instead of closing it.
  void reset();
  void close() { fd_.reset(); }

 private:
  UniqueFd fd_;
};

/// The probes in a bpffs folder of their own, a server in a cgroup of its own.
class LiveTest : public ::testing::Test {
 public:
  static void TearDownTestSuite();

 protected:
  /// `keep`: the suite's tests share one load of the probes, which takes the verifier a second.
  explicit LiveTest(bool keep = false) : keep_(keep) {}
  void SetUp() override;
  void TearDown() override;

  void load();
  void unload();
  void start_server();
  /// Starts a server in the test's cgroup and waits until it accepts connections on `port`.
  void start_server(const std::vector<std::string>& argv, std::uint16_t port);
  static std::uint16_t free_port();
  /// The server's row; zeros while there is none.
  ballast_request_value row(ballast_role role = BALLAST_ROLE_SERVER,
                            ballast_protocol protocol = BALLAST_PROTOCOL_HTTP1) const;
  /// The same of another cgroup.
  ballast_request_value row_of(std::uint64_t cgroup, ballast_role role, ballast_protocol protocol) const;
  ballast_connection_value connections() const;
  /// Since the test began, of the whole machine.
  ballast_loss_value loss(ballast_loss_reason reason) const;
  /// Waits up to two seconds for a condition that another process brings about.
  template <typename Condition>
  static bool eventually(Condition condition) {
    for (int i = 0; i < 1000; ++i) {
      if (condition()) {
        return true;
      }
      wait_a_little();
    }
    return false;
  }
  static void wait_a_little();

  bool keep_;
  std::optional<TempDir> folder_;
  std::filesystem::path bpffs_;
  std::optional<kernel::Probes> probes_;
  std::optional<sample::PinnedMaps> maps_;
  std::unique_ptr<TestCgroup> cgroup_;
  ChildProcess server_;
  std::uint16_t port_ = 0;
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> loss_before_{};
  std::uint32_t span_every_ = 0;  ///< as in kernel::ProbeOptions
  bool parse_in_place_ = true;    ///< the same
};

}  // namespace ballast::testing
