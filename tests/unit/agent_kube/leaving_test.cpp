// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/leaving.h"

#include <gtest/gtest.h>

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

}  // namespace
}  // namespace ballast::kube
