// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "core/base/file.h"
#include "core/base/process.h"
#include "eventually.h"
#include "model/sync/client/worker_client.h"
#include "program.h"

namespace ballast::sync {

using namespace std::chrono_literals;

/// A real ballast-global and what it said.
struct Replica {
  std::filesystem::path log;
  ChildProcess process;

  std::string text() const {
    const auto read = read_file(log);
    return read ? *read : std::string();
  }
  /// What follows `mark` in the log up to the next space, once it is there.
  std::string said(const std::string& mark) const {
    std::string found;
    eventually([&] {
      const std::string all = text();
      const std::size_t at = all.find(mark);
      const std::size_t end = at == std::string::npos ? at : all.find_first_of(" \n", at + mark.size());
      if (end == std::string::npos) {
        return false;
      }
      found = all.substr(at + mark.size(), end - at - mark.size());
      return true;
    });
    return found;
  }
};

class Replicas : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(std::filesystem::temp_directory_path(), "ballast-replicas-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
  }
  /// `env`: KEY=VALUE for this process alone.
  Replica start(std::vector<std::string> flags, std::vector<std::string> env = {}) {
    flags.insert(flags.begin(), testing::program("ballast-global"));
    Replica out{folder_->path() / ("log-" + std::to_string(count_++)), {}};
    auto child = ChildProcess::spawn({.argv = flags, .env = std::move(env), .output = out.log});
    EXPECT_TRUE(child) << child.error().message;
    if (child) {
      out.process = std::move(*child);
    }
    return out;
  }
  std::string path(const std::string& name) const { return (folder_->path() / name).string(); }

  std::unique_ptr<TempDir> folder_;
  int count_ = 0;
};

/// A worker that pushes at what it holds, as fast as it is answered, and watches the versions.
class BusyWorker {
 public:
  explicit BusyWorker(const WorkerOptions& options)
      : client_(WorkerClient::start(options)), thread_([this](const std::stop_token& stop) { run(stop); }) {}

  Version newest() const { return {epoch_, version_}; }
  bool went_back() const { return went_back_; }
  WorkerCounters counters() const { return client_->counters(); }

 private:
  void run(const std::stop_token& stop) {
    Version held;
    for (int i = 1; !stop.stop_requested(); ++i) {
      if (const auto got = client_->take_parameters()) {
        const Version now{got->parameters.epoch, got->parameters.version};
        went_back_ = went_back_ || now < held;
        held = now;
        epoch_ = held.epoch;
        version_ = held.version;
      }
      if (held.epoch > 0) {
        Gradient gradient{held, 20, 1.0 / i, std::vector<float>(spec::kParameters, 0.0F)};
        gradient.values[3] = 1.0F / static_cast<float>(i);
        client_->push(std::move(gradient));
      }
      std::this_thread::sleep_for(10ms);
    }
  }

  std::unique_ptr<WorkerClient> client_;
  std::atomic<std::uint64_t> epoch_{0}, version_{0};
  std::atomic<bool> went_back_{false};
  std::jthread thread_;
};

}  // namespace ballast::sync
