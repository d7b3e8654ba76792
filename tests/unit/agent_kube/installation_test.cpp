// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/installation.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>

#include "eventually.h"
#include "scripted_server.h"

namespace ballast::kube {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;

constexpr const char* kSet = "/apis/apps/v1/namespaces/system/daemonsets/ballastd";
constexpr const char* kNamespace = "/api/v1/namespaces/system";

std::string there(const std::string& name, bool going = false) {
  Json metadata = {{"name", name}};
  if (going) {
    metadata["deletionTimestamp"] = "2026-11-30T00:00:00Z";
  }
  return answer(200, Json{{"metadata", metadata}}.dump());
}
const std::string kMissing = answer(404, R"({"message":"not found"})");
const std::string kForbidden = answer(403, R"({"message":"forbidden"})");
const std::string kUnauthorized = answer(401, R"({"message":"Unauthorized"})");
const std::string kNobody;  // hangs up

/// An API server with one DaemonSet in one namespace; both there until a test says otherwise.
class InstallationTest : public testing::Test {
 protected:
  void TearDown() override { ending_ = true; }
  std::unique_ptr<Installation> follow() {
    auto made = Installation::follow({.api = {.server = server_.url()}, .ns = "system", .asking = kAsking});
    EXPECT_TRUE(made.ok());
    return std::move(*made);
  }
  std::unique_ptr<Installation> followed() {
    auto installation = follow();
    EXPECT_TRUE(eventually([&] { return installation->seen() && watched_; }, std::chrono::seconds(10)));
    return installation;
  }
  void say(const std::string& set, const std::string& ns) {
    const std::lock_guard lock(mutex_);
    said_[kSet] = set;
    said_[kNamespace] = ns;
  }

  static constexpr milliseconds kAsking{1500};
  std::mutex mutex_;
  std::map<std::string, std::string> said_{{kSet, there("ballastd")}, {kNamespace, there("system")}};
  std::atomic<bool> watched_{false};
  std::atomic<bool> account_deleted_{false};
  std::atomic<bool> ending_{false};

 private:
  std::string reply(const Asked& asked) {
    if (asked.target.find("watch=1") != std::string::npos) {
      watched_ = true;
      // As a watch that is open: until there is news.
      eventually([&] { return account_deleted_ || ending_; }, std::chrono::seconds(30));
      return !account_deleted_
                 ? stream("")
                 : stream(R"({"type":"DELETED","object":{"metadata":)"
                          R"({"name":"ballast-global","namespace":"system","resourceVersion":"9"}}})"
                          "\n");
    }
    if (asked.target.find("serviceaccounts") != std::string::npos) {
      EXPECT_THAT(asked.target, HasSubstr("fieldSelector=metadata.name%3Dballast-global"));
      return account_deleted_ ? kUnauthorized
                              : answer(200, R"({"metadata":{"resourceVersion":"1"},"items":[{"metadata":)"
                                            R"({"name":"ballast-global","namespace":"system"}}]})");
    }
    const std::lock_guard lock(mutex_);
    return said_[asked.target];
  }
  ScriptedServer server_{[this](const Asked& asked) { return reply(asked); }};
};

TEST_F(InstallationTest, ARollLeavesIt) {
  const auto installation = followed();
  EXPECT_EQ(installation->going(), "");
  EXPECT_EQ(installation->trouble(), "");
  ending_ = true;
}

TEST_F(InstallationTest, ADeletedDaemonSetOrNamespaceSaysSo) {
  const auto installation = followed();
  for (const std::string& set : {kMissing, there("ballastd", true)}) {
    say(set, there("system"));
    EXPECT_THAT(installation->going(), HasSubstr("DaemonSet ballastd"));
  }
  // Its pods go first, before the DaemonSet.
  say(there("ballastd"), there("system", true));
  EXPECT_THAT(installation->going(), HasSubstr("namespace system"));
  // The one right went before the other.
  say(kForbidden, there("system", true));
  EXPECT_THAT(installation->going(), HasSubstr("namespace system"));
  ending_ = true;
}

TEST_F(InstallationTest, AnAccountThatWasDeletedExplainsARefusal) {
  for (const std::string& refusal : {kForbidden, kUnauthorized, kNobody}) {
    account_deleted_ = false;
    watched_ = false;
    say(there("ballastd"), there("system"));
    const auto installation = followed();
    say(refusal, refusal);
    // The stream is behind the refusal.
    std::thread later([this] {
      std::this_thread::sleep_for(milliseconds(300));
      account_deleted_ = true;
    });
    EXPECT_THAT(installation->going(), HasSubstr("ServiceAccount ballast-global")) << refusal;
    later.join();
  }
}

TEST_F(InstallationTest, ARefusalAloneLeavesItWithinTheTime) {
  const auto installation = followed();
  for (const std::string& refusal :
       {kForbidden, kUnauthorized, kNobody, answer(200, "{}"), answer(500, "")}) {
    say(refusal, refusal);
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_EQ(installation->going(), "") << refusal;
    EXPECT_LT(std::chrono::steady_clock::now() - begun, kAsking + std::chrono::seconds(3)) << refusal;
  }
  ending_ = true;
}

/// As where the names of the manifests were changed.
TEST_F(InstallationTest, ADaemonSetThatWasNeverSeenIsNotMissed) {
  say(kMissing, there("system"));
  const auto installation = follow();
  ASSERT_TRUE(eventually([&] { return watched_.load(); }, std::chrono::seconds(10)));
  EXPECT_FALSE(installation->seen());
  EXPECT_EQ(installation->going(), "");
  ending_ = true;
}

}  // namespace
}  // namespace ballast::kube
