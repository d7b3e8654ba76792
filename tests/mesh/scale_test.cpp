// SPDX-License-Identifier: Apache-2.0
//
// The writer at size, against the real API server: what it holds in memory and how much it reads there. Small
// here; tools/bench/mesh.sh names the sizes.
#include <fmt/format.h>
#include <malloc.h>

#include <fstream>
#include <thread>
#include <tuple>

#include "whole_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::seconds;

constexpr const char* kServices = "/api/v1/namespaces/shop/services";
constexpr const char* kPods = "/api/v1/namespaces/shop/pods";
constexpr const char* kSlices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
constexpr const char* kOfTheTest = "?labelSelector=scale%3Dyes";

/// Of this process, as the kernel counts it, without what malloc only keeps.
double resident_mb() {
  ::malloc_trim(0);
  std::ifstream statm("/proc/self/statm");
  double size = 0;
  double resident = 0;
  statm >> size >> resident;
  return resident * 4096 / 1e6;
}

class ScaleTest : public MeshTest {
 protected:
  void TearDown() override {
    sink_.reset();
    if (!IsSkipped() && plane() != nullptr) {
      for (const char* path : {kSlices, kServices, kPods, "/api/v1/nodes"}) {
        plane()->status_of("DELETE", std::string(path) + kOfTheTest,
                           {{"gracePeriodSeconds", 0}, {"propagationPolicy", "Background"}});
      }
    }
    MeshTest::TearDown();
  }
  static Json metadata(const std::string& name, Json labels, std::size_t bytes) {
    labels["scale"] = "yes";
    return {{"name", name}, {"labels", labels}, {"annotations", {{"size", std::string(bytes, 'x')}}}};
  }
  static std::string address(int service, int i) {
    return fmt::format("10.{}.{}.{}", 100 + service / 100, (service % 100) * 2 + i / 250, 1 + i % 250);
  }
  static std::string address_of_large(int service, int i) {
    return fmt::format("10.{}.{}.{}", 150 + service, i / 250, 1 + i % 250);
  }
  /// A Service with its pods, spread over the nodes, and its slices of a hundred; the addresses.
  std::vector<std::string> add(const std::string& name, int endpoints, int nodes, bool large, int number) {
    plane()->must("POST", kServices,
                  {{"metadata", metadata(name, {{"ballast.dev/mode", "active"}}, 500)},
                   {"spec",
                    {{"selector", {{"app", name}}},
                     {"ports", Json::array({{{"name", "http"}, {"port", 80}, {"targetPort", 8080}}})}}}});
    std::vector<std::string> addresses;
    Json list = Json::array();
    for (int i = 0; i < endpoints; ++i) {
      const std::string pod = fmt::format("{}-{}", name, i);
      const std::string node = fmt::format("scale-{}", i % nodes);
      addresses.push_back(large ? address_of_large(number, i) : address(number, i));
      const Json made = plane()->must(
          "POST", kPods,
          {{"metadata", metadata(pod, {{"app", name}, {"security.istio.io/tlsMode", "istio"}}, 6000)},
           {"spec",
            {{"nodeName", node},
             {"serviceAccountName", "web"},
             {"containers", Json::array({{{"name", "app"}, {"image", "app"}}})}}}});
      list.push_back({{"addresses", {addresses.back()}},
                      {"nodeName", node},
                      {"conditions", {{"ready", true}}},
                      {"targetRef",
                       {{"kind", "Pod"},
                        {"namespace", "shop"},
                        {"name", pod},
                        {"uid", kube::text_at(made, {"metadata", "uid"})}}}});
      if (list.size() == 100 || i + 1 == endpoints) {
        plane()->must(
            "POST", kSlices,
            {{"metadata", metadata(fmt::format("{}-{}", name, i), {{"kubernetes.io/service-name", name}}, 0)},
             {"addressType", "IPv4"},
             {"ports", Json::array({{{"name", "http"}, {"port", 8080}, {"protocol", "TCP"}}})},
             {"endpoints", std::exchange(list, Json::array())}});
      }
    }
    return addresses;
  }
  /// Requests of all kinds that the API server has answered.
  static double requests() {
    const auto reply = plane()->admin().call({.path = "/metrics"});
    double sum = 0;
    const std::string page = reply ? reply->body : "";
    const std::string key = "\napiserver_request_total{";
    for (std::size_t at = page.find(key); at != std::string::npos; at = page.find(key, at + 1)) {
      sum += std::atof(page.c_str() + page.find("} ", at) + 2);
    }
    return sum;
  }
  static double per_second(int length_s) {
    const double before = requests();
    std::this_thread::sleep_for(seconds(length_s));
    return (requests() - before) / length_s;
  }
  static std::size_t written_endpoints() {
    const Json page = plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries");
    std::size_t sum = 0;
    for (const Json& entry : kube::at(page, {"items"})) {
      sum += kube::at(entry, {"spec", "endpoints"}).size();
    }
    return sum;
  }
};

TEST_F(ScaleTest, MemoryAndReadsAreThoseOfTheManagedEndpoints) {
  const int nodes = asked("BALLAST_MESH_NODES", 20);
  const int small = asked("BALLAST_MESH_SMALL", 8);
  const int large = asked("BALLAST_MESH_LARGE", 1);
  const int endpoints = asked("BALLAST_MESH_ENDPOINTS", 60);
  for (int i = 0; i < nodes; ++i) {
    plane()->must("POST", "/api/v1/nodes",
                  {{"metadata", metadata(fmt::format("scale-{}", i),
                                         {{"topology.kubernetes.io/region", "r"},
                                          {"topology.kubernetes.io/zone", fmt::format("z{}", i % 3)}},
                                         10'000)}});
  }
  std::map<std::string, std::vector<std::string>> services;
  for (int i = 0; i < small + large; ++i) {
    const std::string name = fmt::format("scale-{}", i);
    services[name] = add(name, i < large ? endpoints : 2, nodes, i < large, i);
  }
  const std::size_t all = static_cast<std::size_t>(large) * static_cast<std::size_t>(endpoints) +
                          2 * static_cast<std::size_t>(small);
  const int length_s = asked("BALLAST_MESH_SECONDS", 4);
  const double idle = per_second(length_s);
  const double before = resident_mb();
  sink_ = make_sink("a", true, 10);
  // As agents do: what nobody decides any more is handed back, and the first writes take longer than that.
  std::jthread agent([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      for (const auto& [name, addresses] : services) {
        std::ignore = sink_->publish(weights_of(name, addresses, std::vector<double>(addresses.size(), 1)));
      }
      std::this_thread::sleep_for(seconds(1));
    }
  });
  const auto begun = std::chrono::steady_clock::now();
  ASSERT_TRUE(
      eventually([&] { return written_endpoints() == all; }, seconds(600), std::chrono::milliseconds(500)))
      << written_endpoints() << " of " << all << " " << sink_->trouble().substr(0, 500);
  const std::chrono::duration<double> first = std::chrono::steady_clock::now() - begun;
  std::this_thread::sleep_for(seconds(2));
  const double quiet = per_second(length_s) - idle;
  const double grown = resident_mb() - before;
  std::printf(
      "%d nodes, %zu services, %zu endpoints: the writer has written all after %.0f s, holds %.1f MB and "
      "asks the API server %.1f times a second when nothing changes\n",
      nodes, services.size(), all, first.count(), grown, quiet);
  figure("nodes", nodes);
  figure("endpoints", static_cast<double>(all));
  figure("first_writes_s", first.count());
  figure("writer_mb", grown);
  figure("requests_per_s", quiet);
  EXPECT_LE(grown, 128);
  EXPECT_LE(quiet, 10) << "a renewed Lease and watches that are begun anew";
  agent = {};
  sink_->flush();
  EXPECT_EQ(written_endpoints(), 0U);
}

}  // namespace
}  // namespace ballast::mesh
