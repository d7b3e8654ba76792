// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/xds_stream.h"

#include <gtest/gtest.h>

namespace ballast::actuate {
namespace {

using envoy::service::discovery::v3::DiscoveryRequest;
using envoy::service::discovery::v3::DiscoveryResponse;

constexpr MonotonicNs kPatience = 2'000'000'000;

class XdsStreamTest : public ::testing::Test {
 protected:
  ResourcePtr publish(const std::string& name) {
    auto resource = std::make_shared<Resource>();
    resource->name = name;
    resource->bytes = name + "@" + std::to_string(++version_);
    resource->version = version_;
    resource->published = now_;
    table_[name] = resource;
    stream_.on_publish(resource);
    return resource;
  }

  XdsStream::Answer request(const std::vector<std::string>& names, const std::string& nonce,
                            const std::string& error = "", const std::string& type = kEndpointTypeUrl) {
    DiscoveryRequest message;
    message.mutable_resource_names()->Assign(names.begin(), names.end());
    message.set_response_nonce(nonce);
    message.set_type_url(type);
    if (!error.empty()) {
      message.mutable_error_detail()->set_message(error);
    }
    return stream_.on_request(message, table_, now_);
  }

  std::vector<std::string> sent() {
    std::vector<std::string> bytes;
    if (const auto push = stream_.next(now_, kPatience)) {
      for (const ResourcePtr& resource : push->resources) {
        bytes.push_back(resource->bytes);
      }
    }
    return bytes;
  }

  using Sent = std::vector<std::string>;
  XdsStream stream_;
  ResourceTable table_;
  std::uint64_t version_ = 0;
  MonotonicNs now_ = 5'000'000'000;
};

TEST_F(XdsStreamTest, SubscriberGetsWhatIsInForceOfWhatItNamed) {
  publish("shop/web");
  publish("shop/cart");
  EXPECT_FALSE(stream_.subscribed());
  request({"shop/web", "shop/none"}, "");
  EXPECT_TRUE(stream_.subscribed());
  EXPECT_EQ(sent(), Sent{"shop/web@1"});
  EXPECT_EQ(sent(), Sent{});
}

TEST_F(XdsStreamTest, ResponseCarriesTypeVersionAndNonce) {
  publish("shop/web");
  publish("shop/cart");
  request({"shop/web", "shop/cart"}, "");
  DiscoveryResponse response;
  stream_.next(now_, kPatience)->write_to(response);
  EXPECT_EQ(response.type_url(), kEndpointTypeUrl);
  EXPECT_EQ(response.version_info(), "2");
  EXPECT_EQ(response.nonce(), "1");
  ASSERT_EQ(response.resources_size(), 2);
  EXPECT_EQ(response.resources(0).type_url(), kEndpointTypeUrl);
}

TEST_F(XdsStreamTest, UnnamedServicesAreNotSent) {
  request({"shop/web"}, "");
  publish("shop/cart");
  EXPECT_TRUE(stream_.settled());
  publish("shop/web");
  EXPECT_EQ(sent(), Sent{"shop/web@2"});
}

TEST_F(XdsStreamTest, WhileAnAnswerIsOutstandingOnlyTheLatestWaits) {
  request({"shop/web"}, "");
  publish("shop/web");
  EXPECT_EQ(sent(), Sent{"shop/web@1"});
  publish("shop/web");
  publish("shop/web");
  EXPECT_EQ(sent(), Sent{});
  request({"shop/web"}, "1");
  EXPECT_EQ(sent(), Sent{"shop/web@3"});
}

TEST_F(XdsStreamTest, ProxyThatNeverAnswersIsSentTheLatestAfterPatience) {
  request({"shop/web"}, "");
  publish("shop/web");
  EXPECT_EQ(sent(), Sent{"shop/web@1"});
  publish("shop/web");
  now_ += kPatience - 1;
  EXPECT_EQ(sent(), Sent{});
  now_ += 1;
  EXPECT_EQ(sent(), Sent{"shop/web@2"});
}

TEST_F(XdsStreamTest, AcknowledgementTellsHowLongThePublicationTook) {
  request({"shop/web"}, "");
  publish("shop/web");
  EXPECT_EQ(sent().size(), 1U);
  EXPECT_FALSE(stream_.settled());
  now_ += 30'000'000;
  const XdsStream::Answer answer = request({"shop/web"}, "1");
  ASSERT_TRUE(answer.acknowledged_s.has_value());
  EXPECT_NEAR(*answer.acknowledged_s, 0.03, 1e-9);
  EXPECT_TRUE(stream_.settled());
  EXPECT_FALSE(request({"shop/web"}, "1").acknowledged_s.has_value()) << "answered once already";
}

TEST_F(XdsStreamTest, FirstSendAtSubscriptionSaysNothingOfTheDelay) {
  publish("shop/web");
  now_ += 60'000'000'000;
  request({"shop/web"}, "");
  EXPECT_EQ(sent().size(), 1U);
  EXPECT_FALSE(request({"shop/web"}, "1").acknowledged_s.has_value());
}

TEST_F(XdsStreamTest, NackIsReportedAndNotRepeatedUntilSomethingNewComes) {
  request({"shop/web"}, "");
  publish("shop/web");
  EXPECT_EQ(sent().size(), 1U);
  const XdsStream::Answer answer = request({"shop/web"}, "1", "malformed");
  EXPECT_EQ(answer.rejected, "malformed");
  EXPECT_FALSE(answer.acknowledged_s.has_value());
  EXPECT_EQ(sent(), Sent{});
  EXPECT_TRUE(stream_.settled());
  publish("shop/web");
  EXPECT_EQ(sent(), Sent{"shop/web@2"});
}

TEST_F(XdsStreamTest, StaleAnswersAndOtherTypesAreIgnored) {
  request({"shop/web"}, "");
  publish("shop/web");
  EXPECT_EQ(sent().size(), 1U);
  request({"shop/cart"}, "");
  request({"shop/cart"}, "7");
  request({"shop/cart"}, "1", "", "type.googleapis.com/envoy.config.cluster.v3.Cluster");
  EXPECT_FALSE(stream_.settled());
  publish("shop/cart");
  EXPECT_FALSE(stream_.waiting());
  request({"shop/web"}, "1");
  EXPECT_TRUE(stream_.settled());
}

TEST_F(XdsStreamTest, SubscriptionMayChangeWithTheAnswer) {
  publish("shop/web");
  publish("shop/cart");
  request({"shop/web"}, "");
  EXPECT_EQ(sent(), Sent{"shop/web@1"});
  request({"shop/cart"}, "1");
  EXPECT_EQ(sent(), Sent{"shop/cart@2"});
  publish("shop/web");
  EXPECT_FALSE(stream_.waiting()) << "it was dropped from the subscription";
  request({"shop/cart", "shop/web"}, "2");
  EXPECT_EQ(sent(), Sent{"shop/web@3"}) << "named anew, so sent anew";
  request({}, "3");
  EXPECT_FALSE(stream_.subscribed());
}

TEST_F(XdsStreamTest, TooManyNamesAreRefused) {
  std::vector<std::string> names;
  for (std::size_t i = 0; i <= XdsStream::kMaxSubscriptions; ++i) {
    names.push_back("shop/s" + std::to_string(i));
  }
  EXPECT_TRUE(request(names, "").refused);
  EXPECT_FALSE(stream_.subscribed());
  names.pop_back();
  EXPECT_FALSE(request(names, "").refused);
  EXPECT_TRUE(stream_.subscribed());
}

TEST_F(XdsStreamTest, ItKnowsWhatTheProxyHasTaken) {
  publish("shop/web");
  request({"shop/web"}, "");
  EXPECT_TRUE(stream_.taken("shop/web").subscribed);
  EXPECT_FALSE(stream_.taken("shop/cart").subscribed);
  sent();
  EXPECT_EQ(stream_.taken("shop/web").version, 0U) << "sent, not answered";
  request({"shop/web"}, "1");
  EXPECT_EQ(stream_.taken("shop/web").version, 1U);
  publish("shop/web");
  sent();
  request({"shop/web"}, "2", "no such cluster");
  EXPECT_EQ(stream_.taken("shop/web").version, 1U) << "it keeps what it had";
  EXPECT_EQ(stream_.taken("shop/web").rejected, "no such cluster");
  publish("shop/web");
  sent();
  now_ += kPatience;
  publish("shop/web");
  sent();  // without an answer to the one before
  request({"shop/web"}, "4");
  EXPECT_EQ(stream_.taken("shop/web").version, 4U);
  EXPECT_EQ(stream_.taken("shop/web").rejected, "");
  request({}, "4");
  EXPECT_FALSE(stream_.taken("shop/web").subscribed);
}

}  // namespace
}  // namespace ballast::actuate
