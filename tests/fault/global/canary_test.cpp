// SPDX-License-Identifier: Apache-2.0
//
// Parameters on their way to all nodes: a real ballast-global, whose canaries try them first, and real
// workers, paid by what the test makes of the version that they act with.
#include <gmock/gmock.h>
#include <signal.h>

#include <mutex>
#include <nlohmann/json.hpp>
#include <set>

#include "replica.h"

namespace ballast::sync {
namespace {

/// A node: acts with what it was given, and is paid for it.
class PaidWorker {
 public:
  /// `pay`: of parameters, by whether they are those that it began with.
  PaidWorker(const std::string& address, std::string id, std::function<double(bool)> pay)
      : id_(std::move(id)),
        pay_(std::move(pay)),
        client_(WorkerClient::start({.address = address,
                                     .worker_id = id_,
                                     .pull_interval = 20ms,
                                     .first_wait = 20ms,
                                     .longest_wait = 200ms})),
        thread_([this](const std::stop_token& stop) { run(stop); }) {}

  const std::string& id() const { return id_; }
  std::set<std::uint64_t> versions() const {
    const std::lock_guard lock(mutex_);
    return versions_;
  }
  /// How often other parameters than the first came, and how often the first came back.
  int left() const { return left_; }
  int came_back() const { return came_back_; }

 private:
  void run(const std::stop_token& stop) {
    std::vector<float> first;
    Version held;
    bool at_first = true;
    for (int i = 1; !stop.stop_requested(); ++i) {
      if (const auto got = client_->take_parameters()) {
        held = {got->parameters.epoch, got->parameters.version};
        if (first.empty()) {
          first = got->parameters.theta;
        }
        const bool same = got->parameters.theta == first;
        left_ += at_first && !same ? 1 : 0;
        came_back_ += !at_first && same ? 1 : 0;
        at_first = same;
        const std::lock_guard lock(mutex_);
        versions_.insert(held.version);
      }
      if (held.epoch > 0) {
        Gradient gradient{held, 20, 1.0 / i, std::vector<float>(spec::kParameters, 0.0F)};
        gradient.values[3] = 1.0F / static_cast<float>(i);
        gradient.objective = pay_(at_first) + (i % 2 == 0 ? 0.01 : -0.01);
        client_->push(std::move(gradient));
      }
      std::this_thread::sleep_for(50ms);
    }
  }

  const std::string id_;
  const std::function<double(bool)> pay_;
  std::unique_ptr<WorkerClient> client_;
  mutable std::mutex mutex_;
  std::set<std::uint64_t> versions_;
  std::atomic<int> left_{0}, came_back_{0};
  std::jthread thread_;
};

class Canaries : public Replicas {
 protected:
  void serve(const std::function<double(bool)>& pay) {
    start_global();
    for (int i = 0; i < 5; ++i) {
      workers_.push_back(
          std::make_unique<PaidWorker>("unix:" + path("global.sock"), "node-" + std::to_string(i), pay));
    }
  }
  void start_global() {
    global_ =
        start({"--listen", "unix:" + path("global.sock"), "--state", path("state"), "--operations",
               "127.0.0.1:0", "--canary-share", "0.2", "--canary-seconds", "1", "--canary-reports", "4"});
    operations_ = global_.said("operations address=");
    ASSERT_FALSE(global_.said("listening address=").empty()) << global_.text();
  }
  /// As people ask.
  std::string ballastctl(std::vector<std::string> flags) {
    flags.insert(flags.begin(), {testing::program("ballastctl"), "global", operations_});
    const std::string said = path("said-" + std::to_string(count_++));
    auto asked = ChildProcess::spawn({.argv = flags, .output = said});
    EXPECT_TRUE(asked && asked->wait(30s));
    return *read_file(said);
  }
  nlohmann::json promotion() { return nlohmann::json::parse(ballastctl({"-o", "json"})).at("promotion"); }
  bool told(const std::function<bool(const nlohmann::json&)>& holds) {
    return eventually([&] { return holds(promotion()); });
  }
  /// Waits for a trial; who tries.
  std::string canary() {
    std::string name;
    EXPECT_TRUE(told([&](const auto& p) {
      name = p["canaries"] == 1 ? p["canary_nodes"][0].template get<std::string>() : "";
      return !name.empty();
    })) << global_.text();
    return name;
  }

  Replica global_;
  std::string operations_;
  std::vector<std::unique_ptr<PaidWorker>> workers_;
};

TEST_F(Canaries, WhatPaysTheCanaryReachesAll) {
  serve([](bool first) { return first ? -0.5 : 0.5; });
  const std::string name = canary();
  ASSERT_TRUE(told([](const auto& p) { return p["promoted"] > 0; })) << global_.text();
  for (const auto& worker : workers_) {
    EXPECT_TRUE(eventually([&] { return worker->left() > 0; })) << worker->id() << " has what was released";
  }
  for (const auto& worker : workers_) {
    const std::size_t versions = worker->versions().size();
    const auto most = promotion()["promoted"].get<std::size_t>() + 1;
    if (worker->id() != name) {
      EXPECT_LE(versions, most) << worker->id() << " acts with what was released alone";
    }
  }
  EXPECT_NE(global_.text().find("parameters promoted"), std::string::npos);
  const std::string text = ballastctl({});
  EXPECT_NE(text.find("canaries  "), std::string::npos) << text;
}

TEST_F(Canaries, WhatHarmsTheCanaryIsTakenBackAndReachesNobodyElse) {
  serve([](bool first) { return first ? 0.5 : -0.5; });
  const std::string name = canary();
  ASSERT_TRUE(told([](const auto& p) { return p["returned"] > 0; })) << global_.text();
  for (const auto& worker : workers_) {
    if (worker->id() == name) {
      EXPECT_TRUE(eventually([&] { return worker->came_back() > 0; }))
          << "it acts with the former ones again";
    }
  }
  EXPECT_EQ(promotion()["promoted"], 0);
  EXPECT_NE(global_.text().find("given up"), std::string::npos);
  EXPECT_THAT(global_.text(), ::testing::ContainsRegex("canary_objective=-[0-9.]+ rest_objective=0[0-9.]*"))
      << "who was paid worse";

  // Whoever leads next begins with what all act with, also where the leader died in a trial, and tries with
  // the same node.
  canary();
  std::this_thread::sleep_for(300ms);  // longer than a live state waits to be written
  global_.process.signal(SIGKILL);
  global_.process.wait(10s);
  start_global();
  EXPECT_EQ(canary(), name);
  for (const auto& worker : workers_) {
    EXPECT_EQ(worker->left() > 0, worker->id() == name) << worker->id();
  }
}

}  // namespace
}  // namespace ballast::sync
