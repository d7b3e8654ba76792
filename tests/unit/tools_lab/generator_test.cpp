// SPDX-License-Identifier: Apache-2.0
//
// The generator against a real server in a process of its own.
#include "tools/lab/generator.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <thread>
#include <vector>

#include "core/base/statistics.h"
#include "tools/lab/pod_server.h"

namespace ballast::lab {
namespace {

using std::chrono::milliseconds;

/// Forked before the generator's thread exists; killed when the test is over.
class Server {
 public:
  explicit Server(ServerKind kind) {
    // The pid keeps tests that run at the same time apart.
    endpoint_ = {
        "127." + std::to_string(200 + ::getpid() % 50) + "." + std::to_string(::getpid() / 50 % 250) + ".1",
        8080};
    pid_ = ::fork();
    if (pid_ == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      const auto ended = serve_pod(endpoint_, {.kind = kind});
      ::_exit(ended.ok() ? 0 : 1);
    }
    for (int i = 0; i < 500 && !http_get(endpoint_, "/work?us=1", 200).ok(); ++i) {
      std::this_thread::sleep_for(milliseconds(10));
    }
  }
  ~Server() {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
  }
  const Endpoint& endpoint() const { return endpoint_; }
  void signal(int number) const { ::kill(pid_, number); }

 private:
  Endpoint endpoint_;
  pid_t pid_ = -1;
};

LoadOptions load(const Endpoint& target, double rate, double seconds) {
  LoadOptions options;
  options.target = target;
  options.seconds = seconds;
  options.arrivals = make_arrivals({rate, seconds, 0.2, 0.5, 8, 11});
  return options;
}

std::vector<double> sorted_ms(const std::vector<Answer>& answers, Outcome outcome) {
  std::vector<double> out;
  for (const auto& answer : answers) {
    if (answer.outcome == outcome) {
      out.push_back(static_cast<double>(answer.latency_ns) * 1e-6);
    }
  }
  std::sort(out.begin(), out.end());
  return out;
}

TEST(Generator, AStoppedServerIsSeenByEveryRequestThatWasDue) {
  Server server(ServerKind::kProcessorSharing);
  auto generator = Generator::start(load(server.endpoint(), 100, 10));
  ASSERT_TRUE(generator.ok()) << generator.error().message;
  std::this_thread::sleep_for(milliseconds(4000));
  server.signal(SIGSTOP);
  std::this_thread::sleep_for(milliseconds(1000));
  server.signal(SIGCONT);
  const auto answers = (*generator)->wait();
  const auto ok = sorted_ms(answers, Outcome::kOk);
  EXPECT_EQ(ok.size(), answers.size()) << "nothing failed, all were only late";
  // One tenth of the requests waits for 0..1000 ms, so p99 is 900 ms and p95 500 ms. A generator
  // that waits for answers, or times from the actual send, would say a few ms.
  EXPECT_GT(quantile_of_sorted(ok, 0.99), 750);
  EXPECT_LT(quantile_of_sorted(ok, 0.99), 2000);
  EXPECT_GT(quantile_of_sorted(ok, 0.95), 300);
  EXPECT_LT(quantile_of_sorted(ok, 0.5), 250);
}

TEST(Generator, WhatIsNotAnsweredIsUnfinishedWithItsAge) {
  Server server(ServerKind::kProcessorSharing);
  auto options = load(server.endpoint(), 100, 1);
  options.drain_s = 0.5;
  server.signal(SIGSTOP);
  auto generator = Generator::start(std::move(options));
  ASSERT_TRUE(generator.ok());
  const auto answers = (*generator)->wait();
  EXPECT_GT(answers.size(), 50U);
  const auto unfinished = sorted_ms(answers, Outcome::kUnfinished);
  EXPECT_EQ(unfinished.size(), answers.size());
  EXPECT_GT(unfinished.front(), 490);
  EXPECT_GT(unfinished.back(), 1000);
}

TEST(Generator, ARefusedConnectionIsAnError) {
  auto generator = Generator::start(load({"127.0.0.1", 1}, 100, 0.3));
  ASSERT_TRUE(generator.ok());
  const auto answers = (*generator)->wait();
  EXPECT_EQ(sorted_ms(answers, Outcome::kError).size(), answers.size());
}

TEST(Generator, GivesUpWhenTold) {
  Server server(ServerKind::kProcessorSharing);
  auto generator = Generator::start(load(server.endpoint(), 100, 600));
  ASSERT_TRUE(generator.ok());
  std::this_thread::sleep_for(milliseconds(200));
  const auto begin = std::chrono::steady_clock::now();
  generator->reset();
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(10));
}

TEST(PodServer, AnswersEveryRequestInBothKinds) {
  for (const auto kind : {ServerKind::kProcessorSharing, ServerKind::kFifo}) {
    Server server(kind);
    auto generator = Generator::start(load(server.endpoint(), 300, 1));
    ASSERT_TRUE(generator.ok());
    const auto answers = (*generator)->wait();
    EXPECT_EQ(sorted_ms(answers, Outcome::kOk).size(), answers.size());
  }
}

TEST(PodServer, RefusesWhatItDoesNotKnow) {
  Server server(ServerKind::kProcessorSharing);
  const auto answer = http_get(server.endpoint(), "/metrics", 2000);
  ASSERT_FALSE(answer.ok());
  EXPECT_NE(answer.error().message.find("status 400"), std::string::npos) << answer.error().message;
}

}  // namespace
}  // namespace ballast::lab
