// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/leaving.h"

#include <gtest/gtest.h>

#include <atomic>
#include <set>

#include "eventually.h"
#include "scripted_server.h"

namespace ballast::kube {
namespace {

/// In each namespace one pod is asked to end as soon as somebody watches; its uid is the namespace's name.
TEST(LeavingPods, AreHeardOfInNamespacesThatCameAfterManyThatWent) {
  ScriptedServer server([](const Asked& asked) {
    const std::string target = asked.target;
    if (target.find("watch=1") == std::string::npos) {
      return answer(200, R"({"metadata":{"resourceVersion":"1"},"items":[]})");
    }
    const std::size_t begin = std::string("/api/v1/namespaces/").size();
    std::this_thread::sleep_for(std::chrono::milliseconds(300));
    return stream(Json{{"type", "MODIFIED"},
                       {"object",
                        {{"metadata",
                          {{"uid", target.substr(begin, target.find('/', begin) - begin)},
                           {"resourceVersion", "2"},
                           {"deletionTimestamp", "2026-11-21T00:00:00Z"}}}}}}
                      .dump() +
                  "\n");
  });
  auto client = Client::create({.server = server.url()});
  ASSERT_TRUE(client.ok());
  LeavingPods leaving(
      **client, [](const std::string&) {}, [](const std::string&, const Json&) {});
  const auto heard_in = [&](const std::string& ns) {
    return eventually([&] {
      leaving.listen({ns});
      return leaving.leaves(ns, SystemClock().now());
    });
  };
  for (int i = 0; i < 70; ++i) {
    leaving.listen({"ns" + std::to_string(i)});
  }
  EXPECT_TRUE(heard_in("last"));
  (*client)->stop();
}

TEST(LeavingPods, EachBeginOfAStreamHasANumberOfItsOwn) {
  std::atomic<bool> over{false};
  ScriptedServer server([&](const Asked& asked) {
    while (asked.target.find("watch=1") != std::string::npos && !over) {
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return answer(200, R"({"metadata":{"resourceVersion":"1"},"items":[]})");
  });
  auto client = Client::create({.server = server.url()});
  ASSERT_TRUE(client.ok());
  std::set<std::uint64_t> numbers;
  const auto heard = [&](LeavingPods& leaving) {
    leaving.listen({"shop"});
    EXPECT_TRUE(eventually([&] { return leaving.heard().contains("shop"); }));
    numbers.insert(leaving.heard()["shop"]);
  };
  const auto none = [](const std::string&) {};
  const auto no_news = [](const std::string&, const Json&) {};
  LeavingPods first(**client, none, no_news);
  heard(first);
  heard(first);
  EXPECT_EQ(numbers.size(), 1U) << "the same stream";
  first.listen({});
  heard(first);
  EXPECT_EQ(numbers.size(), 2U) << "what changed in between was not heard of";
  LeavingPods second(**client, none, no_news);
  heard(second);
  EXPECT_EQ(numbers.size(), 3U) << "nor what changed before this one";
  over = true;
  (*client)->stop();
}

}  // namespace
}  // namespace ballast::kube
