// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/client.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <thread>

#include "core/base/file.h"
#include "core/base/process.h"
#include "scripted_server.h"

namespace ballast::kube {
namespace {

using std::chrono::milliseconds;
using testing::HasSubstr;
using testing::Not;

ClientOptions quick(const std::string& server) {
  ClientOptions options;
  options.server = server;
  options.retry_budget = milliseconds(3000);
  options.backoff_least = milliseconds(5);
  options.backoff_most = milliseconds(40);
  return options;
}

std::unique_ptr<Client> client_of(const ClientOptions& options) {
  auto client = Client::create(options);
  EXPECT_TRUE(client.ok()) << (client.ok() ? "" : client.error().message);
  return client.ok() ? std::move(*client) : nullptr;
}

TEST(Client, WaitsForRetryAfterAndThenGetsTheAnswer) {
  int calls = 0;
  ScriptedServer server([&](const Asked&) {
    return ++calls == 1 ? answer(429, "{\"message\":\"slow down\"}", "Retry-After: 1\r\n")
                        : answer(200, "{\"kind\":\"PodList\"}");
  });
  const auto client = client_of(quick(server.url()));
  const auto begun = std::chrono::steady_clock::now();
  const auto json = client->get("/api/v1/pods");
  ASSERT_TRUE(json.ok()) << json.error().message;
  EXPECT_EQ(text_at(*json, {"kind"}), "PodList");
  EXPECT_GE(std::chrono::steady_clock::now() - begun, milliseconds(950))
      << "came back before it was asked to";
  EXPECT_EQ(server.count(), 2U);
  EXPECT_EQ(client->trouble(), "");
}

TEST(Client, AStormOf429EndsWithinTheBudgetAndIsNamed) {
  ScriptedServer server([](const Asked&) { return answer(429, "{\"message\":\"storm\"}"); });
  ClientOptions options = quick(server.url());
  options.retry_budget = milliseconds(2000);
  const auto client = client_of(options);
  const auto json = client->get("/api/v1/pods");
  ASSERT_FALSE(json.ok());
  EXPECT_THAT(json.error().message, HasSubstr("storm"));
  EXPECT_THAT(client->trouble(), HasSubstr("429"));
  EXPECT_GT(server.count(), 3U) << "tried again";
  EXPECT_LT(server.count(), 500U) << "backed off";
}

TEST(Client, ABrokenConnectionIsTriedAgainButNeverForAPost) {
  int calls = 0;
  ScriptedServer server([&](const Asked&) { return ++calls % 2 == 1 ? "" : answer(200, "{}"); });
  const auto client = client_of(quick(server.url()));
  EXPECT_TRUE(client->get("/a").ok());
  EXPECT_EQ(server.count(), 2U);
  const auto posted = client->call({.method = "POST", .path = "/b", .body = "{}"});
  EXPECT_FALSE(posted.ok());
  EXPECT_EQ(server.count(), 3U);
}

TEST(Client, TheServersOwnMessageIsInTheError) {
  ScriptedServer server([](const Asked&) {
    return answer(403, "{\"message\":\"pods is forbidden: User x cannot list resource\"}");
  });
  const auto client = client_of(quick(server.url()));
  const auto json = client->get("/api/v1/pods");
  ASSERT_FALSE(json.ok());
  EXPECT_THAT(json.error().message, HasSubstr("pods is forbidden"));
  EXPECT_THAT(json.error().message, HasSubstr("rbac"));
  EXPECT_EQ(server.count(), 1U) << "a refusal is not tried again";
}

TEST(Client, GarbageIsAnErrorNotACrash) {
  ScriptedServer server([](const Asked&) { return answer(200, "{\"items\":[\xff\xfe"); });
  const auto client = client_of(quick(server.url()));
  const auto json = client->get("/api/v1/pods");
  ASSERT_FALSE(json.ok());
  EXPECT_THAT(json.error().message, HasSubstr("no JSON"));
}

TEST(Client, ARotatedTokenIsReadAfterA401AndWhenTheFileChanges) {
  auto dir = TempDir::create(std::filesystem::temp_directory_path(), "kube-token-");
  ASSERT_TRUE(dir.ok());
  const auto token = dir->path() / "token";
  std::ofstream(token) << "old\n";
  ScriptedServer server([&](const Asked& asked) {
    if (asked.head.find("Bearer new") == std::string::npos) {
      // What a kubelet does, at the very moment at which the old one stops to be good.
      std::ofstream(token) << "new\n";
      return answer(401, "{\"message\":\"Unauthorized\"}");
    }
    return answer(200, "{}");
  });
  ClientOptions options = quick(server.url());
  options.token_file = token;
  const auto client = client_of(options);
  EXPECT_TRUE(client->get("/a").ok());
  EXPECT_EQ(server.count(), 2U);
  EXPECT_THAT(server.asked()[0].head, HasSubstr("Bearer old"));
  EXPECT_THAT(server.asked()[1].head, Not(HasSubstr("Bearer old")));
}

TEST(Client, AnExpiredTokenIsNamed) {
  ScriptedServer server([](const Asked&) { return answer(401, "{\"message\":\"Unauthorized\"}"); });
  const auto client = client_of(quick(server.url()));
  const auto json = client->get("/a");
  ASSERT_FALSE(json.ok());
  EXPECT_THAT(json.error().message, HasSubstr("token refused or expired"));
  EXPECT_EQ(server.count(), 2U) << "once more with the token as it is now, then no more";
}

TEST(Client, StopEndsAStreamThatSaysNothing) {
  std::atomic<bool> let_go{false};
  ScriptedServer server([&](const Asked&) {
    while (!let_go) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return std::string();
  });
  const auto client = client_of(quick(server.url()));
  std::thread stopper([&] {
    while (server.count() == 0) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    client->stop();
  });
  const auto reply = client->stream({.path = "/w"}, [](std::string_view) { return true; });
  EXPECT_FALSE(reply.ok());
  let_go = true;
  stopper.join();
  EXPECT_FALSE(client->get("/a").ok()) << "stopped for good";
}

TEST(Client, TellsOfTheObjectsOfAListOneByOne) {
  const std::string list = R"({"kind":"PodList","metadata":{"a":{"b":[{"no":1}]},"r":"5"},"items":[)"
                           R"({"n":"}]\\\"{","deep":[{"x":[1]}]}, {"n":2})"
                           R"(],"after":{"no":[{}]}})";
  // More than one read's worth, so that objects are cut anywhere.
  std::string many = R"({"items":[)";
  for (int i = 0; i < 20'000; ++i) {
    many += fmt::format(R"({}{{"i":{},"t":"\"}}"}})", i == 0 ? "" : ",", i);
  }
  many += "]}";
  ScriptedServer server([&](const Asked& asked) {
    return asked.target == "/cut" ? stream(many.substr(0, many.size() / 2))
                                  : answer(200, asked.target == "/many"   ? many
                                                : asked.target == "/none" ? ""
                                                                          : list);
  });
  const auto client = client_of(quick(server.url()));
  std::vector<Json> told;
  const auto take = [&](std::string_view object) {
    told.push_back(Json::parse(object, nullptr, false));
    return true;
  };
  ASSERT_TRUE(client->stream({.path = "/list", .objects_of_list = true}, take).ok());
  EXPECT_EQ(Json(std::exchange(told, {})).dump(), R"([{"deep":[{"x":[1]}],"n":"}]\\\"{"},{"n":2}])");
  ASSERT_TRUE(client->stream({.path = "/many", .objects_of_list = true}, take).ok());
  ASSERT_EQ(told.size(), 20'000U);
  for (int i = 0; i < 20'000; ++i) {
    ASSERT_EQ(told[static_cast<std::size_t>(i)], Json({{"i", i}, {"t", "\"}"}}));
  }
  EXPECT_FALSE(client->stream({.path = "/cut", .objects_of_list = true}, take).ok()) << "half of a list";
  EXPECT_FALSE(client->stream({.path = "/none", .objects_of_list = true}, take).ok()) << "no list";
}

TEST(Client, RefusesServersWithoutTls) {
  const auto client = Client::create({.server = "http://10.0.0.1:6443"});
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().exit_code(), 2);
  EXPECT_THAT(client.error().message, HasSubstr("https://HOST:PORT"));
}

TEST(Client, RefusesAPasswordAndDoesNotRepeatIt) {
  const auto client = Client::create({.server = "https://me:hush@10.0.0.1:6443"});
  ASSERT_FALSE(client.ok());
  EXPECT_EQ(client.error().exit_code(), 2);
  EXPECT_THAT(client.error().message, ::testing::Not(HasSubstr("hush")));
}

TEST(Client, OutsideAClusterSaysWhatToSet) {
  ::unsetenv("KUBERNETES_SERVICE_HOST");
  const auto options = in_cluster();
  ASSERT_FALSE(options.ok());
  EXPECT_THAT(options.error().message, HasSubstr("kubernetes.server"));
}

/// Two certificate authorities, and a TLS server whose certificate is the first one's.
class Tls : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(std::filesystem::temp_directory_path(), "kube-tls-");
    ASSERT_TRUE(made.ok());
    dir_.emplace(std::move(*made));
    for (const char* name : {"right", "wrong"}) {
      ASSERT_EQ(
          openssl({"req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                   "2", "-subj", "/CN=" + std::string(name), "-addext", "subjectAltName=IP:127.0.0.1",
                   "-keyout", file(name, "key"), "-out", file(name, "crt")}),
          0);
    }
    ScriptedServer probe([](const Asked&) { return std::string(); });
    port_ = probe.url().substr(probe.url().rfind(':') + 1);
  }
  std::string file(const std::string& name, const std::string& kind) const {
    return (dir_->path() / (name + "." + kind)).string();
  }
  Result<ChildProcess> start(std::vector<std::string> arguments) const {
    ProcessOptions options;
    options.argv = {"openssl"};
    options.argv.insert(options.argv.end(), arguments.begin(), arguments.end());
    options.output = dir_->path() / "log";
    return ChildProcess::spawn(options);
  }
  int openssl(std::vector<std::string> arguments) const {
    auto child = start(std::move(arguments));
    const auto ended = child.ok() ? child->wait(std::chrono::seconds(20)) : std::nullopt;
    return ended ? ended->code : -1;
  }

  std::optional<TempDir> dir_;
  std::string port_;
};

TEST_F(Tls, TheServersCertificateIsVerified) {
  auto server = start({"s_server", "-accept", "127.0.0.1:" + port_, "-cert", file("right", "crt"), "-key",
                       file("right", "key"), "-www", "-quiet"});
  ASSERT_TRUE(server.ok()) << server.error().message;
  ClientOptions options = quick("https://127.0.0.1:" + port_);
  options.retry_budget = milliseconds(20'000);
  options.ca_file = file("right", "crt");
  const auto trusting = client_of(options);
  const auto page = trusting->call({.path = "/"});
  ASSERT_TRUE(page.ok()) << page.error().message;
  EXPECT_EQ(page->status, 200);

  options.retry_budget = milliseconds(50);
  options.ca_file = file("wrong", "crt");
  const auto doubting = client_of(options);
  const auto refused = doubting->call({.path = "/"});
  ASSERT_FALSE(refused.ok());
  EXPECT_THAT(refused.error().message, HasSubstr("certificate"));
  EXPECT_THAT(doubting->trouble(), HasSubstr("certificate"));
}

TEST(Text, EncodesAQuery) {
  EXPECT_EQ(encode("spec.nodeName=n 1,a"), "spec.nodeName%3Dn%201%2Ca");
}

TEST(Text, ReadsBelowWhatIsNotThere) {
  const Json json = {{"a", {{"b", "c"}}}, {"n", 3}};
  EXPECT_EQ(text_at(json, {"a", "b"}), "c");
  EXPECT_EQ(text_at(json, {"a", "b", "c"}), "");
  EXPECT_EQ(text_at(json, {"n"}), "");
  EXPECT_TRUE(at(Json(), {"x"}).is_null());
}

}  // namespace
}  // namespace ballast::kube
