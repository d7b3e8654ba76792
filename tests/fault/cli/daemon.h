// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "program.h"

namespace ballast {

namespace fs = std::filesystem;
using namespace std::chrono_literals;

/// The real binaries in a folder and with a bpffs folder of the test's own.
class DaemonTest : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballastd-cli-");
    ASSERT_TRUE(made.ok()) << made.error().message;
    dir_.emplace(std::move(*made));
    bin_ = binary_dir().parent_path();
    bpffs_ = "/sys/fs/bpf/" + dir_->path().filename().string();
  }
  void TearDown() override {
    if (fs::exists(bpffs_)) {
      run({ballastd(), "--unload", "--bpffs", bpffs_});
      EXPECT_FALSE(fs::exists(bpffs_)) << "--unload takes the folder away";
    }
  }

  struct Ended {
    int code = -1;
    std::string output;
  };
  /// Runs to the end, half a minute at most.
  Ended run(std::vector<std::string> argv, std::vector<std::string> env = {}) {
    const fs::path output = dir_->path() / ("out" + std::to_string(++runs_));
    auto child = spawn(std::move(argv), output, std::move(env));
    if (!child) {
      return {-1, child.error().message};
    }
    const auto status = child->wait(30s);
    return {status ? status->code : -2, text(output)};
  }
  static Result<ChildProcess> spawn(std::vector<std::string> argv, const fs::path& output,
                                    std::vector<std::string> env = {}, std::vector<fs::path> cgroups = {}) {
    ProcessOptions options;
    options.argv = std::move(argv);
    options.env = std::move(env);
    options.output = output;
    options.cgroups = std::move(cgroups);
    return ChildProcess::spawn(options);
  }
  /// Starts ballastd and waits until it turns; REQUIRES privilege. Logs go to log().
  ChildProcess start(std::vector<std::string> more, std::vector<std::string> wrapper = {}) {
    fs::remove(log());
    std::vector<std::string> argv = std::move(wrapper);
    argv.insert(argv.end(), {daemon_, "--bpffs", bpffs_});
    argv.insert(argv.end(), more.begin(), more.end());
    auto child = spawn(std::move(argv), log());
    EXPECT_TRUE(child.ok()) << child.error().message;
    if (!child) {
      return {};
    }
    EXPECT_TRUE(
        eventually([&] { return text(log()).find(" started ") != std::string::npos || !child->running(); }));
    EXPECT_TRUE(child->running()) << text(log());
    return std::move(*child);
  }
  nlohmann::json ctl(const std::string& verb) {
    const Ended ended = run({(bin_ / "ballastctl").string(), "--bpffs", bpffs_, verb, "-o", "json"});
    EXPECT_EQ(ended.code, 0) << ended.output;
    return nlohmann::json::parse(ended.output, nullptr, false);
  }
  fs::path write(const std::string& name, const std::string& bytes) const {
    std::ofstream(dir_->path() / name, std::ios::binary) << bytes;
    return dir_->path() / name;
  }
  static std::string text(const fs::path& path) {
    auto bytes = read_file(path);
    return bytes ? *bytes : "";
  }
  std::string ballastd() const { return (bin_ / "ballastd").string(); }
  fs::path log() const { return dir_->path() / "log"; }
  bool loaded() const { return fs::exists(bpffs_ + "/meta"); }

  std::optional<TempDir> dir_;
  fs::path bin_;
  std::string daemon_ = testing::program("ballastd");
  std::string bpffs_;
  int runs_ = 0;
};

inline bool may_load() {
  return ::geteuid() == 0;
}

}  // namespace ballast
