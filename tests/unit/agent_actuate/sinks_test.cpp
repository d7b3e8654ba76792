// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>
#include <spdlog/sinks/ostream_sink.h>

#include <memory>
#include <nlohmann/json.hpp>
#include <sstream>

#include "agent/actuate/make_sink.h"
#include "core/base/file.h"
#include "core/base/log.h"
#include "weigher.h"

namespace ballast::actuate {
namespace {

using ballast::testing::Wanted;
using ballast::testing::Weigher;

const std::vector<Wanted> kTwo = {{"web-0", "127.1.0.10", 8080, 3}, {"web-1", "127.1.0.11", 8081, 1}};

class FileSinkTest : public ::testing::Test {
 protected:
  void SetUp() override {
    Result<TempDir> dir = TempDir::create("/tmp", "ballast-sink-");
    ASSERT_TRUE(dir.ok());
    dir_ = std::make_unique<TempDir>(std::move(dir).value());
    file_ = dir_->path() / "weights.json";
    Result<std::unique_ptr<WeightSink>> sink = make_sink("file:" + file_.string(), {});
    ASSERT_TRUE(sink.ok());
    sink_ = std::move(sink).value();
  }

  nlohmann::json written() const {
    Result<std::string> text = read_file(file_);
    EXPECT_TRUE(text.ok());
    return nlohmann::json::parse(text.value());
  }

  std::unique_ptr<TempDir> dir_;
  std::filesystem::path file_;
  std::unique_ptr<WeightSink> sink_;
  Weigher weigher_;
};

TEST_F(FileSinkTest, BeginsWithoutServices) {
  EXPECT_EQ(written(), nlohmann::json::parse(R"({"services":[]})"));
}

TEST_F(FileSinkTest, HoldsEveryServiceWithItsWeightsInForce) {
  const guard::GuardedWeights web = weigher_.weights("web", kTwo);
  ASSERT_TRUE(sink_->publish(web).ok());
  ASSERT_TRUE(sink_->publish(weigher_.weights("cart", {{"cart-0", "127.1.0.20", 80, 1}}, true)).ok());
  const nlohmann::json json = written();
  ASSERT_EQ(json["services"].size(), 2U);
  EXPECT_EQ(json["services"][0]["service"], "cart");
  EXPECT_EQ(json["services"][0]["neutral"], true);
  const nlohmann::json& service = json["services"][1];
  EXPECT_EQ(service["namespace"], "shop");
  EXPECT_EQ(service["neutral"], false);
  ASSERT_EQ(service["endpoints"].size(), 2U);
  EXPECT_EQ(service["endpoints"][0]["pod"], "web-0");
  EXPECT_EQ(service["endpoints"][0]["address"], "127.1.0.10");
  EXPECT_EQ(service["endpoints"][0]["port"], 8080);
  EXPECT_EQ(service["endpoints"][0]["weight"], web.endpoints()[0].weight);
  EXPECT_GT(service["endpoints"][0]["weight"], service["endpoints"][1]["weight"]);
}

TEST_F(FileSinkTest, WithdrawnServiceLeavesTheFile) {
  ASSERT_TRUE(sink_->publish(weigher_.weights("web", kTwo)).ok());
  ASSERT_TRUE(sink_->withdraw({"shop", "web"}).ok());
  EXPECT_TRUE(written()["services"].empty());
  EXPECT_TRUE(sink_->withdraw({"shop", "never-seen"}).ok());
}

TEST_F(FileSinkTest, BytesThatAreNoUtf8DoNotThrow) {
  ASSERT_TRUE(sink_->publish(weigher_.weights("web", {{"web-\xff", "127.1.0.10", 8080, 1}})).ok());
  EXPECT_EQ(written()["services"].size(), 1U);
}

TEST_F(FileSinkTest, FailedWriteLeavesWhatWasBeforeAndTheNextOneHoldsAll) {
  ASSERT_TRUE(sink_->publish(weigher_.weights("web", kTwo)).ok());
  const std::filesystem::path away = dir_->path().string() + "-away";
  std::filesystem::rename(dir_->path(), away);
  const Status failed = sink_->publish(weigher_.weights("cart", kTwo));
  std::filesystem::rename(away, dir_->path());
  ASSERT_FALSE(failed.ok());
  EXPECT_NE(failed.error().message.find(file_.string()), std::string::npos) << failed.error().message;
  EXPECT_EQ(written()["services"].size(), 1U);
  ASSERT_TRUE(sink_->publish(weigher_.weights("cart", kTwo)).ok());
  EXPECT_EQ(written()["services"].size(), 2U);
}

TEST(MakeSink, PathThatCannotBeWrittenIsToldAtTheStart) {
  const auto sink = make_sink("file:/nowhere-at-all/weights.json", {});
  ASSERT_FALSE(sink.ok());
  EXPECT_NE(sink.error().message.find("/nowhere-at-all/weights.json"), std::string::npos);
}

TEST(MakeSink, RefusesWhatItDoesNotKnow) {
  for (const char* spec : {"", "file:", "xds:", "istio", "kafka:x", "xds:127.0.0.1", "xds:127.0.0.1:99999",
                           "xds:example.com:1", "xds:unix:", "xds:0.0.0.0:0", "xds:[::]:0"}) {
    const auto sink = make_sink(spec, {});
    ASSERT_FALSE(sink.ok()) << spec;
    EXPECT_EQ(sink.error().kind, Error::Kind::kUsage) << spec;
  }
  EXPECT_EQ(make_sink("istio", {}).error().message,
            "sink 'istio' needs an API server's credentials: see agent/actuate/istio/istio_sink.h");
}

TEST(DryRun, LogsWhatItWouldWrite) {
  std::ostringstream log;
  auto before = spdlog::default_logger();
  spdlog::set_default_logger(
      std::make_shared<spdlog::logger>("test", std::make_shared<spdlog::sinks::ostream_sink_mt>(log)));
  Weigher weigher;
  auto sink = make_sink("dry-run", {});
  ASSERT_TRUE(sink.ok());
  const guard::GuardedWeights weights = weigher.weights("web", kTwo);
  EXPECT_TRUE((*sink)->publish(weights).ok());
  EXPECT_TRUE((*sink)->withdraw({"shop", "web"}).ok());
  spdlog::set_default_logger(before);
  EXPECT_NE(log.str().find("service=shop/web neutral=false weights=web-0=" +
                           std::to_string(weights.endpoints()[0].weight) + ",web-1="),
            std::string::npos)
      << log.str();
  EXPECT_NE(log.str().find("would withdraw service=shop/web"), std::string::npos);
  EXPECT_EQ((*sink)->name(), "dry-run");
}

}  // namespace
}  // namespace ballast::actuate
