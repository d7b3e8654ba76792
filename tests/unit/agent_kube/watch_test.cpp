// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/watch.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>

#include "eventually.h"
#include "scripted_server.h"

namespace ballast::kube {
namespace {

using std::chrono::milliseconds;
using testing::Contains;
using testing::HasSubstr;

std::string item(const std::string& name, int version) {
  return fmt::format(R"({{"metadata":{{"namespace":"shop","name":"{}","resourceVersion":"{}"}}}})", name,
                     version);
}
std::string list(const std::string& items, int version, const std::string& more = "") {
  return answer(200, fmt::format(R"({{"metadata":{{"resourceVersion":"{}","continue":"{}"}},"items":[{}]}})",
                                 version, more, items));
}
std::string event(const std::string& type, const std::string& object) {
  return fmt::format("{{\"type\":\"{}\",\"object\":{}}}\n", type, object);
}

/// The calling thread's policy, nice value and slice in nanoseconds, as sched_getattr(2) says; a kernel
/// before 6.12 says no slice.
struct Scheduled {
  std::uint32_t size = 0;
  std::uint32_t policy = 0;
  std::uint64_t flags = 0;
  std::int32_t nice = 0;
  std::uint32_t priority = 0;
  std::uint64_t slice_ns = 0;
  std::array<std::uint64_t, 2> rest{};
};
Scheduled scheduled() {
  Scheduled out;
  EXPECT_EQ(::syscall(SYS_sched_getattr, 0, &out, sizeof out, 0), 0);
  return out;
}

/// A reader of /pods and the server that it reads from.
class WatchTest : public ::testing::Test {
 protected:
  /// `lists` and `watches` are what the server says one after the other; the last one goes on.
  void start(const std::vector<std::string>& lists, const std::vector<std::string>& watches,
             WatchOptions options = {}) {
    server_ = std::make_unique<ScriptedServer>([=, this](const Asked& asked) {
      const bool watching = asked.target.find("watch=1") != std::string::npos;
      const auto& says = watching ? watches : lists;
      const std::size_t turn = watching ? watched_++ : listed_++;
      if (watching && turn >= says.size()) {
        // A watch with nothing to say: silent until the test is over.
        while (!over_) {
          std::this_thread::sleep_for(milliseconds(5));
        }
        return std::string();
      }
      return says[std::min(turn, says.size() - 1)];
    });
    auto client = Client::create({.server = server_->url(),
                                  .retry_budget = milliseconds(100),
                                  .backoff_least = milliseconds(2),
                                  .backoff_most = milliseconds(10)});
    ASSERT_TRUE(client.ok());
    client_ = std::move(*client);
    WatchHandler handler{[this](const Json& object) {
                           const std::lock_guard lock(mutex_);
                           reader_ = scheduled();
                           known_[key_of(object)] = text_at(object, {"metadata", "resourceVersion"});
                         },
                         [this](const std::string& key) {
                           const std::lock_guard lock(mutex_);
                           known_.erase(key);
                         },
                         [] {}};
    options.path = "/pods";
    options.query = "a=b";
    options.backoff_least = milliseconds(2);
    options.backoff_most = milliseconds(10);
    watch_ = std::make_unique<Watch>(*client_, options, handler);
  }
  void TearDown() override {
    over_ = true;
    if (client_) {
      client_->stop();
    }
    watch_.reset();
  }
  std::map<std::string, std::string> known() {
    const std::lock_guard lock(mutex_);
    return known_;
  }
  std::vector<std::string> targets() {
    std::vector<std::string> all;
    for (const Asked& asked : server_->asked()) {
      all.push_back(asked.target);
    }
    return all;
  }

  using Known = std::map<std::string, std::string>;
  std::atomic<bool> over_{false};
  std::atomic<std::size_t> listed_{0};
  std::atomic<std::size_t> watched_{0};
  std::mutex mutex_;
  Scheduled reader_;
  Known known_;
  std::unique_ptr<ScriptedServer> server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Watch> watch_;
};

TEST_F(WatchTest, ListsInPagesAndFollowsWhatChanges) {
  start({list(item("a", 1), 7, "page two"), list(item("b", 2), 7)},
        {stream(event("ADDED", item("c", 8)) + event("MODIFIED", item("a", 9)) +
                event("DELETED", item("b", 10)))});
  EXPECT_TRUE(eventually([&] { return known() == Known{{"shop/a", "9"}, {"shop/c", "8"}}; }));
  EXPECT_THAT(targets(), Contains(HasSubstr("continue=page%20two")));
  EXPECT_THAT(targets(), Contains(HasSubstr("resourceVersion=7&a=b")));
  EXPECT_EQ(watch_->lists(), 1U);
}

TEST_F(WatchTest, OfChangesAloneWhatIsThereIsNeitherToldNorKept) {
  start({list(item("a", 1), 7, "page two")}, {stream(event("MODIFIED", item("b", 8))), answer(410, "{}")},
        {.changes_only = true});
  EXPECT_TRUE(eventually([&] { return watch_->lists() >= 2; }));
  EXPECT_EQ(known(), (Known{{"shop/b", "8"}})) << "nor taken for deleted, where it begins anew";
  EXPECT_THAT(targets(), Contains(HasSubstr("limit=1&")));
  EXPECT_THAT(targets(), testing::Not(Contains(HasSubstr("continue="))));
  EXPECT_THAT(targets(), Contains(HasSubstr("resourceVersion=7&a=b")));
}

/// And nothing else of it changes.
TEST_F(WatchTest, WhatOthersWaitForIsToldByAThreadOfShortSlices) {
  const Scheduled here = scheduled();
  if (here.slice_ns == 0) {
    GTEST_SKIP() << "*** SKIPPED: this kernel does not say how long a slice is";
  }
  ASSERT_GT(here.slice_ns, 100'000U);
  start({list(item("a", 1), 7)}, {}, {.prompt = true});
  ASSERT_TRUE(eventually([&] { return !known().empty(); }));
  EXPECT_EQ(reader_.slice_ns, 100'000U);
  EXPECT_EQ(reader_.policy, here.policy);
  EXPECT_EQ(reader_.nice, here.nice);
}

TEST_F(WatchTest, ResumesFromABookmark) {
  start({list(item("a", 1), 7)}, {stream(event("BOOKMARK", item("", 99)))});
  EXPECT_TRUE(eventually([&] { return watched_ >= 2U; }));
  EXPECT_THAT(targets(), Contains(HasSubstr("resourceVersion=99")));
  EXPECT_EQ(watch_->lists(), 1U) << "no second list";
  EXPECT_EQ(known(), (Known{{"shop/a", "1"}}));
}

TEST_F(WatchTest, ALineCutOffIsDroppedAndTheRestComesWithTheResume) {
  const std::string whole = event("ADDED", item("b", 8));
  start({list(item("a", 1), 7)}, {stream(event("MODIFIED", item("a", 8)) + whole.substr(0, whole.size() / 2)),
                                  stream(event("ADDED", item("b", 9)))});
  EXPECT_TRUE(eventually([&] { return known() == Known{{"shop/a", "8"}, {"shop/b", "9"}}; }));
  EXPECT_THAT(targets(), Contains(HasSubstr("resourceVersion=8")));
  EXPECT_EQ(watch_->lists(), 1U);
}

TEST_F(WatchTest, AForgottenVersionIsListedAgainAndWhatWentMeanwhileIsGone) {
  start({list(item("a", 1) + "," + item("b", 2), 7), list(item("b", 20), 30)},
        {stream(event("ERROR", R"({"code":410,"message":"too old resource version"})"))});
  EXPECT_TRUE(eventually([&] { return known() == Known{{"shop/b", "20"}}; }));
  EXPECT_EQ(watch_->lists(), 2U);
}

TEST_F(WatchTest, A410OfTheRequestItselfIsListedAgainToo) {
  start({list(item("a", 1), 7), list("", 30)}, {answer(410, R"({"code":410})")});
  EXPECT_TRUE(eventually([&] { return known().empty() && watch_->lists() == 2U; }));
}

TEST_F(WatchTest, GarbageIsListedAgain) {
  start({list(item("a", 1), 7), list(item("b", 2), 8)}, {stream("\x01\x02 no JSON\n")});
  EXPECT_TRUE(eventually([&] { return known() == Known{{"shop/b", "2"}}; }));
}

TEST_F(WatchTest, KeepsWhatItHadWhileTheServerIsAway) {
  start({list(item("a", 1), 7)}, {"", "", answer(500, "{\"message\":\"etcd is away\"}"), ""});
  EXPECT_TRUE(eventually([&] { return watched_ >= 4U; }));
  EXPECT_EQ(known(), (Known{{"shop/a", "1"}}));
  EXPECT_EQ(watch_->lists(), 1U);
}

/// As after a restore of etcd: the version is one of a future that did not come.
TEST_F(WatchTest, AVersionThatTheServerRefusesForGoodIsListedAgain) {
  const std::string refused = answer(504, R"({"code":504,"message":"Too large resource version: 7"})");
  start({list(item("a", 1), 7), list(item("b", 2), 3)}, {refused, refused, refused});
  EXPECT_TRUE(eventually([&] { return known() == Known{{"shop/b", "2"}}; }));
  EXPECT_TRUE(eventually([&] { return watched_ >= 4U; }));
  EXPECT_THAT(targets().back(), HasSubstr("resourceVersion=3"));
}

TEST_F(WatchTest, SaysWhyItIsNotSynced) {
  start({answer(403, "{\"message\":\"pods is forbidden\"}")}, {""});
  EXPECT_TRUE(eventually([&] { return !watch_->trouble().empty(); }));
  EXPECT_THAT(watch_->trouble(), HasSubstr("pods is forbidden"));
  EXPECT_FALSE(watch_->synced());
}

/// A connection that TCP holds for alive and nothing comes through: a peer that is gone behind a proxy. A
/// list says what it kept back, and that the server is there.
TEST_F(WatchTest, ASilentStreamIsTornDownInItsTimeAndListedAgain) {
  start({list(item("a", 1), 7)}, {}, {.silence = std::chrono::seconds(2)});
  ASSERT_TRUE(eventually([&] { return watched_ >= 1U; }));
  const MonotonicNs heard = watch_->heard();
  EXPECT_GT(heard, 0U);
  const auto begun = std::chrono::steady_clock::now();
  EXPECT_TRUE(eventually([&] { return watched_ >= 2U; }));
  EXPECT_LT(std::chrono::steady_clock::now() - begun, std::chrono::seconds(5));
  EXPECT_GT(watch_->heard(), heard);
  EXPECT_EQ(watch_->lists(), 2U);
}

/// The same where the list goes unanswered too: nothing was heard, and the trouble is told.
TEST_F(WatchTest, ASilentServerIsNotHeard) {
  start({list(item("a", 1), 7), ""}, {}, {.silence = std::chrono::seconds(1)});
  ASSERT_TRUE(eventually([&] { return watched_ >= 1U; }));
  const MonotonicNs heard = watch_->heard();
  EXPECT_TRUE(eventually([&] { return listed_ >= 3U; }));
  EXPECT_EQ(watch_->heard(), heard);
  EXPECT_NE(watch_->trouble(), "");
}

TEST_F(WatchTest, AKindThatNeedNotBeInstalledIsEmpty) {
  start({answer(404, "{}")}, {}, {.optional = true});
  EXPECT_TRUE(eventually([&] { return watch_->synced(); }));
  EXPECT_EQ(watch_->trouble(), "");
}

}  // namespace
}  // namespace ballast::kube
