// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/catalog.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "scripted_server.h"

namespace ballast::kube {
namespace {

using std::chrono::milliseconds;

const char* const kServices = R"({"metadata":{"resourceVersion":"5"},"items":[
 {"metadata":{"namespace":"shop","name":"web","uid":"s1","labels":{"ballast.dev/mode":"active"},
   "annotations":{"networking.istio.io/exportTo":"., front,","networking.istio.io/traffic-distribution":"preferClose"}},
  "spec":{"type":"ClusterIP","clusterIP":"10.0.0.5","ipFamilies":["IPv4"],"selector":{"app":"web"},
   "ports":[{"name":"http","port":80,"protocol":"TCP"}]}},
 {"metadata":{"namespace":"shop","name":"db","uid":"s2","labels":{"ballast.dev/mode":"on"}},
  "spec":{"clusterIP":"None","internalTrafficPolicy":"Local","ports":[{"port":5432}]}},
 {"metadata":3,"spec":[]}]})";

const char* const kSlices = R"({"metadata":{"resourceVersion":"5"},"items":[
 {"metadata":{"namespace":"shop","name":"web-1","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
  "ports":[{"name":"http","port":8080}],"endpoints":[
   {"addresses":["10.1.0.1"],"nodeName":"n1","zone":"z","conditions":{"ready":true},
    "targetRef":{"kind":"Pod","name":"web-a","uid":"u1"}},
   {"addresses":["10.1.0.2"],"conditions":{"ready":false,"serving":true,"terminating":true}},
   {"addresses":[]},{"addresses":["10.1.0.3"]}]},
 {"metadata":{"namespace":"shop","name":"web-2","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv4",
  "ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["10.1.0.2"],"conditions":{"ready":true}}]},
 {"metadata":{"namespace":"shop","name":"web-6","labels":{"kubernetes.io/service-name":"web"}},"addressType":"IPv6",
  "endpoints":[{"addresses":["fd00::1"]}]},
 {"metadata":{"namespace":"shop","name":"other","labels":{"kubernetes.io/service-name":"other"}},"addressType":"IPv4",
  "endpoints":[{"addresses":["10.1.0.9"]}]}]})";

TEST(Catalog, ThatThereIsNothingNewIsNoNews) {
  std::atomic<int> bookmarks{0};
  ScriptedServer server([&](const Asked& asked) {
    const bool slices = asked.target.find("/endpointslices") != std::string::npos;
    if (asked.target.find("watch=1") == std::string::npos) {
      return answer(200, slices ? kSlices : kServices);
    }
    ++bookmarks;
    std::this_thread::sleep_for(milliseconds(5));
    return stream(R"({"type":"BOOKMARK","object":{"metadata":{"resourceVersion":"6"}}})"
                  "\n");
  });
  auto client = Client::create({.server = server.url()});
  ASSERT_TRUE(client.ok());
  {
    Catalog catalog(**client);
    std::atomic<int> told{0};
    catalog.on_change([&] { ++told; });
    for (int i = 0; i < 1000 && !(catalog.synced() && bookmarks > 4); ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    const int before = told;
    const int then = bookmarks;
    for (int i = 0; i < 1000 && bookmarks < then + 6; ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    EXPECT_EQ(told, before);
    (*client)->stop();
  }
}

TEST(Catalog, JoinsServicesAndTheirSlices) {
  std::atomic<bool> over{false};
  ScriptedServer server([&](const Asked& asked) {
    if (asked.target.find("watch=1") != std::string::npos) {
      while (!over) {
        std::this_thread::sleep_for(milliseconds(5));
      }
      return std::string();
    }
    return answer(200, asked.target.find("/endpointslices") == std::string::npos ? kServices : kSlices);
  });
  auto client = Client::create({.server = server.url()});
  ASSERT_TRUE(client.ok());
  {
    Catalog catalog(**client);
    for (int i = 0; i < 1000 && !catalog.synced(); ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    ASSERT_TRUE(catalog.synced()) << catalog.trouble();
    const auto services = catalog.services();
    ASSERT_EQ(services.size(), 3U) << "also the one that is garbage, without a name";
    const Service& db = services[1];
    EXPECT_TRUE(db.headless);
    EXPECT_EQ(db.mode, "on");
    EXPECT_TRUE(db.node_local);
    EXPECT_EQ(db.ports[0].protocol, "TCP") << "the API's default";
    const Service& web = services[2];
    EXPECT_EQ(web.key(), "shop/web");
    EXPECT_EQ(web.mode, "active");
    EXPECT_TRUE(web.zone_local);
    EXPECT_FALSE(web.node_local);
    EXPECT_EQ(web.export_to, (std::vector<std::string>{".", "front"}));
    ASSERT_EQ(web.endpoints.size(), 3U) << "one family, every address with its ports once";
    EXPECT_EQ(web.endpoints[0], (Endpoint{.address = "10.1.0.1",
                                          .pod = "web-a",
                                          .uid = "u1",
                                          .node = std::string("n1"),
                                          .ready = true,
                                          .ports = {{"http", 8080}}}));
    EXPECT_FALSE(web.endpoints[1].ready) << "in two slices, ready in one";
    EXPECT_TRUE(web.endpoints[2].ready) << "without conditions an endpoint is ready";
    EXPECT_EQ(web.odd,
              (std::vector<std::string>{"endpoint  has no address: left out, as Istio does",
                                        "10.1.0.2 is ready in one slice and not in another: not weighed"}));
    Service bare = catalog.bare_services().at(2);
    EXPECT_TRUE(bare.endpoints.empty());
    EXPECT_TRUE(catalog.fill(bare));
    EXPECT_EQ(bare.endpoints, web.endpoints);
    EXPECT_EQ(bare.odd, web.odd);
    bare.name = "gone";
    EXPECT_FALSE(catalog.fill(bare));
    over = true;
    (*client)->stop();
  }
}

/// A server whose watches say what the test appends, line by line, while they are open.
class CatalogTest : public ::testing::Test {
 protected:
  CatalogTest()
      : server_([this](const Asked& asked) {
          const bool slices = asked.target.find("/endpointslices") != std::string::npos;
          if (asked.target.find("watch=1") != std::string::npos) {
            while (!over_ && (slices || !second_)) {
              std::this_thread::sleep_for(milliseconds(5));
            }
            return over_ || told_.exchange(true) ? std::string() : stream(kSecond);
          }
          if (asked.target.find("/namespaces/shop/endpointslices") != std::string::npos) {
            ++reads_;
            return answer(200, kItsSlices);
          }
          return answer(200, slices ? kSlices : kServices);
        }),
        client_(std::move(*Client::create({.server = server_.url()}))),
        catalog_(std::make_unique<Catalog>(*client_)) {}
  ~CatalogTest() override {
    over_ = true;
    client_->stop();
    catalog_.reset();
  }
  bool eventually(const std::function<bool()>& condition) {
    for (int i = 0; i < 1000 && !condition(); ++i) {
      std::this_thread::sleep_for(milliseconds(5));
    }
    return condition();
  }
  static constexpr const char* kSecond =
      R"({"type":"ADDED","object":{"metadata":{"namespace":"shop","name":"other","resourceVersion":"9","labels":{"ballast.dev/mode":"active"}},"spec":{"ipFamilies":["IPv4"],"ports":[{"name":"http","port":80}]}}})"
      "\n";
  static constexpr const char* kItsSlices = R"({"metadata":{"resourceVersion":"8"},"items":[
   {"metadata":{"namespace":"shop","name":"other","labels":{"kubernetes.io/service-name":"other"}},"addressType":"IPv4",
    "ports":[{"name":"http","port":8080}],"endpoints":[{"addresses":["10.1.0.9"]}]}]})";

  std::atomic<bool> over_{false};
  std::atomic<bool> second_{false};
  std::atomic<bool> told_{false};
  std::atomic<int> reads_{0};
  ScriptedServer server_;
  std::unique_ptr<Client> client_;
  std::unique_ptr<Catalog> catalog_;
};

TEST_F(CatalogTest, ReadsTheSlicesOfAServiceThatOptsInLater) {
  ASSERT_TRUE(eventually([&] { return catalog_->synced(); }));
  EXPECT_GT(catalog_->heard(), 0U);
  second_ = true;
  ASSERT_TRUE(eventually([&] { return catalog_->services().size() == 4U; }));
  EXPECT_EQ(reads_, 1) << "what others have is not kept, so it has to be read";
  const auto services = catalog_->services();
  const auto other = std::find_if(services.begin(), services.end(),
                                  [](const Service& service) { return service.name == "other"; });
  ASSERT_NE(other, services.end());
  ASSERT_EQ(other->endpoints.size(), 1U);
  EXPECT_EQ(other->endpoints[0].address, "10.1.0.9");
}

}  // namespace
}  // namespace ballast::kube
