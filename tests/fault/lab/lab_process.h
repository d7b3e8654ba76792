// SPDX-License-Identifier: Apache-2.0
#pragma once

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
#include "tools/lab/cgroups.h"
#include "tools/lab/envoy.h"

namespace ballast::lab {

/// A ballast-lab of this build in a folder of its own, as a user starts it.
class LabTest : public testing::Test {
 protected:
  void SetUp() override {
    if (::geteuid() != 0) {
      GTEST_SKIP() << "needs root for cgroups and eBPF";
    }
    if (!detect_cgroup_layout().ok()) {
      GTEST_SKIP() << "needs a cgroup v2 mount";
    }
    bin_ = binary_dir().parent_path();
    // The same places as ballast-lab's own search, seen from its folder.
    const auto venv = (bin_ / "../../venv/bin").lexically_normal();
    if (std::getenv("BALLAST_ENVOY") == nullptr && !std::filesystem::exists(venv / "envoy-binary") &&
        !find_envoy().ok()) {
      GTEST_SKIP() << "needs Envoy: run tools/deps.sh";
    }
    auto folder = TempDir::create(std::filesystem::temp_directory_path(), "lab-test-");
    ASSERT_TRUE(folder.ok());
    folder_.emplace(std::move(*folder));
    layout_ = *detect_cgroup_layout();
  }

  bool have(const std::string& binary) const { return std::filesystem::exists(bin_ / binary); }

  /// A scenario of this YAML.
  std::string scenario_file(const std::string& text) const {
    const auto path = folder_->path() / "scenario.yaml";
    std::ofstream(path) << text;
    return path.string();
  }

  /// A scenario of two small pods; `more` is added to its YAML.
  std::string scenario(const std::string& more) const {
    return scenario_file(
        "about: two small pods\nload: 0.3\nwarmup_s: 1\n"
        "pods:\n  - {name: web-0, quota: 0.2}\n  - {name: web-1, quota: 0.1}\n" +
        more);
  }

  Result<ChildProcess> start(const std::string& name, std::vector<std::string> arguments) const {
    ProcessOptions options;
    options.argv = {(bin_ / "ballast-lab").string(), "run", "--no-live", "--report",
                    report_path(name).string()};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    const auto tmp = folder_->path() / name;
    std::filesystem::create_directories(tmp);
    options.env = {"TMPDIR=" + tmp.string()};
    options.output = log_path(name);
    return ChildProcess::spawn(options);
  }
  std::filesystem::path report_path(const std::string& name) const {
    return folder_->path() / (name + ".json");
  }
  std::filesystem::path log_path(const std::string& name) const { return folder_->path() / (name + ".log"); }
  std::string log(const std::string& name) const {
    const auto text = read_file(log_path(name));
    return text ? *text : "";
  }

  nlohmann::json finished_report(const std::string& name, ChildProcess& lab,
                                 std::chrono::seconds patience) const {
    const auto ended = lab.wait(patience);
    EXPECT_TRUE(ended && ended->code == 0) << log(name);
    const auto text = read_file(report_path(name));
    return text ? nlohmann::json::parse(*text, nullptr, false) : nlohmann::json();
  }

  /// "ballast-lab-ID" of a running lab; empty when it has not made its folder within five seconds.
  std::string prefix_of(const std::string& name) const {
    for (int i = 0; i < 500; ++i) {
      std::error_code error;
      for (const auto& entry : std::filesystem::directory_iterator(folder_->path() / name, error)) {
        return entry.path().filename().string();
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(10));
    }
    return "";
  }

  /// What a run left behind, by path; waits up to `patience` for it to go.
  std::vector<std::string> remains(const std::string& name, const std::string& prefix,
                                   std::chrono::milliseconds patience) const {
    const auto deadline = std::chrono::steady_clock::now() + patience;
    while (true) {
      std::vector<std::string> left;
      for (const auto& root : layout_.roots()) {
        if (std::filesystem::exists(root / prefix)) {
          left.push_back((root / prefix).string());
        }
      }
      for (const auto& path :
           {folder_->path() / name / prefix, std::filesystem::path("/sys/fs/bpf") / prefix}) {
        if (std::filesystem::exists(path)) {
          left.push_back(path.string());
        }
      }
      if (left.empty() || std::chrono::steady_clock::now() > deadline) {
        return left;
      }
      std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
  }

  /// Pids in all cgroups of a run.
  std::vector<pid_t> processes(const std::string& prefix) const {
    std::vector<pid_t> pids;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(layout_.v2 / prefix, error)) {
      std::ifstream in(entry.path() / "cgroup.procs");
      for (pid_t pid = 0; in >> pid;) {
        pids.push_back(pid);
      }
    }
    return pids;
  }

  std::filesystem::path bin_;
  std::optional<TempDir> folder_;
  CgroupLayout layout_;
};

}  // namespace ballast::lab
