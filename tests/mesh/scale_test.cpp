// SPDX-License-Identifier: Apache-2.0
//
// The writer at size, against the real API server: what it holds in memory and how much it reads there. Small
// here; tools/bench/mesh.sh names the sizes.
#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <functional>
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

/// The most since the last reset_peak().
double peak_mb() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("VmHWM:")) {
      return std::atof(line.c_str() + 6) * 1024 / 1e6;
    }
  }
  return 0;
}
void reset_peak() {
  std::ofstream("/proc/self/clear_refs") << 5;
}

/// Calls for 0 to n - 1, four at a time: the API server waits for its disk and for us in turns.
void each(int n, const std::function<void(int)>& call) {
  std::atomic<int> next{0};
  std::vector<std::jthread> threads;
  for (int k = 0; k < 4; ++k) {
    threads.emplace_back([&] {
      for (int i = next++; i < n; i = next++) {
        call(i);
      }
    });
  }
}

/// What this process has of its heap in use, the least of a second: what a call in between needs is not kept.
double heap_kb() {
  double least = 0;
  for (int i = 0; i < 20; ++i) {
    const struct mallinfo2 now = ::mallinfo2();
    const double kb = static_cast<double>(now.uordblks + now.hblkhd) / 1000;
    least = i == 0 ? kb : std::min(least, kb);
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  }
  return least;
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
  static constexpr std::size_t kOthersKb = 60;
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
  /// A Service with its pods, spread over the nodes, and its slices of a hundred; the addresses. One that is
  /// not managed is no smaller than `kOthersKb` in each of its objects.
  std::vector<std::string> add(const std::string& name, int endpoints, int nodes, bool large, int number,
                               bool managed = true) {
    const std::size_t more = managed ? 0 : 1000 * kOthersKb;
    plane()->must(
        "POST", kServices,
        {{"metadata",
          metadata(name, managed ? Json{{"ballast.dev/mode", "active"}} : Json::object(), 500 + more)},
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
        plane()->must("POST", kSlices,
                      {{"metadata", metadata(fmt::format("{}-{}", name, i),
                                             {{"kubernetes.io/service-name", name}}, more)},
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
    // One at a time: this process's memory is measured.
    std::size_t sum = 0;
    const auto reply = plane()->admin().stream(
        {.path = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries", .objects_of_list = true},
        [&](std::string_view entry) {
          sum += kube::at(Json::parse(entry, nullptr, false), {"spec", "endpoints"}).size();
          return true;
        });
    EXPECT_TRUE(reply && reply->ok()) << (reply ? reply->body : reply.error().message);
    return sum;
  }
};

TEST_F(ScaleTest, MemoryAndReadsAreThoseOfTheManagedEndpoints) {
  const int nodes = asked("BALLAST_MESH_NODES", 20);
  const int small = asked("BALLAST_MESH_SMALL", 8);
  const int large = asked("BALLAST_MESH_LARGE", 1);
  const int endpoints = asked("BALLAST_MESH_ENDPOINTS", 60);
  each(nodes, [&](int i) {
    plane()->must("POST", "/api/v1/nodes",
                  {{"metadata", metadata(fmt::format("scale-{}", i),
                                         {{"topology.kubernetes.io/region", "r"},
                                          {"topology.kubernetes.io/zone", fmt::format("z{}", i % 3)}},
                                         10'000)}});
  });
  const int count = small + large;
  std::vector<std::pair<std::string, std::vector<std::string>>> services(static_cast<std::size_t>(count));
  each(count, [&](int i) {
    auto& [name, addresses] = services[static_cast<std::size_t>(i)];
    name = fmt::format("scale-{}", i);
    addresses = add(name, i < large ? endpoints : 2, nodes, i < large, i);
  });
  const std::size_t all = static_cast<std::size_t>(large) * static_cast<std::size_t>(endpoints) +
                          2 * static_cast<std::size_t>(small);
  const int length_s = asked("BALLAST_MESH_SECONDS", 4);
  const double idle = per_second(length_s);
  ::mallopt(M_ARENA_MAX, 2);  // as ballastd
  const double before = resident_mb();
  reset_peak();
  sink_ = make_sink("a", true, 10);
  // As agents do: what nobody decides any more is handed back, and the first writes take longer than that.
  std::atomic<double> first_share{1};
  std::jthread agent([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      for (const auto& [name, addresses] : services) {
        std::vector<double> shares(addresses.size(), 1);
        shares.front() = first_share;
        std::ignore = sink_->publish(weights_of(name, addresses, shares));
      }
      std::this_thread::sleep_for(seconds(1));
    }
  });
  const auto begun = std::chrono::steady_clock::now();
  const auto written = [&] {
    return std::all_of(services.begin(), services.end(), [&](const auto& service) {
      const guard::Outcome now = sink_->answer({"shop", service.first}).outcome;
      return now == guard::Outcome::kWritten || now == guard::Outcome::kAcknowledged;
    });
  };
  ASSERT_TRUE(eventually(written, seconds(600), std::chrono::milliseconds(500)))
      << written_endpoints() << " of " << all << " " << sink_->trouble().substr(0, 500);
  const std::chrono::duration<double> first = std::chrono::steady_clock::now() - begun;
  const double peak = peak_mb() - before;
  EXPECT_EQ(written_endpoints(), all);
  std::this_thread::sleep_for(seconds(2));
  const double quiet = per_second(length_s) - idle;
  const double grown = resident_mb() - before;
  std::printf(
      "%d nodes, %zu services, %zu endpoints: the writer has written all after %.0f s, took %.1f MB at most "
      "for it, holds %.1f and asks the API server %.1f times a second when nothing changes\n",
      nodes, services.size(), all, first.count(), peak, grown, quiet);
  figure("nodes", nodes);
  figure("endpoints", static_cast<double>(all));
  figure("first_writes_s", first.count());
  figure("writer_mb", grown);
  figure("writer_peak_mb", peak);
  figure("requests_per_s", quiet);
  EXPECT_LE(grown, 128);
  EXPECT_LE(peak, 128);

  // As many again that nobody manages: of them the writer keeps the keys of their slices, and no more.
  const int others_large = asked("BALLAST_MESH_OTHERS_LARGE", large);
  std::atomic<std::size_t> slices{0};
  const auto add_other = [&](int i) {
    const bool is_large = i < others_large;
    const int of = is_large ? endpoints : 2;
    add(fmt::format("other-{}", i), of, nodes, is_large, is_large ? 60 + i : 4000 + i, false);
    slices += static_cast<std::size_t>((of + 99) / 100);
  };
  // What comes after them in the same collection is heard of after them.
  std::size_t left_all = all;
  const auto hear = [&] {
    const Json page =
        plane()->must("GET", std::string(kSlices) + "?labelSelector=kubernetes.io/service-name%3D" +
                                 services.front().first);
    const Json& slice = page.at("items").at(0);
    Json left = slice.at("endpoints");
    left.erase(left.begin());
    plane()->must("PATCH", std::string(kSlices) + "/" + kube::text_at(slice, {"metadata", "name"}),
                  {{"endpoints", left}}, kube::kMergePatch);
    --left_all;
    return eventually([&] { return written_endpoints() == left_all; });
  };
  add_other(0);  // what is read into has room for such objects from then on
  ASSERT_TRUE(hear()) << sink_->trouble();
  const double kept_before = heap_kb();
  slices = 0;
  each(small + others_large - 1, [&](int i) { add_other(i + 1); });
  ASSERT_TRUE(hear()) << sink_->trouble();
  const double by_others = heap_kb() - kept_before;
  std::printf("%d more services that are not managed, in %zu slices: the writer keeps %.0f KB more\n",
              small + others_large - 1, slices.load(), by_others);
  figure("others_kb", by_others);
  EXPECT_LE(by_others, 150 + static_cast<double>(slices.load())) << "a key of each slice";
  EXPECT_LE(quiet, 10) << "a renewed Lease and watches that are begun anew";

  reset_peak();
  first_share = 2;
  const std::uint64_t writes = sink_->writes();
  EXPECT_TRUE(eventually([&] { return sink_->writes() >= writes + static_cast<std::uint64_t>(count) / 5; },
                         seconds(300), std::chrono::milliseconds(500)))
      << sink_->trouble();
  const double changing = peak_mb() - before;
  std::printf("while weights of all services changed it took %.1f MB at most\n", changing);
  figure("writer_changing_mb", changing);
  EXPECT_LE(changing, 128);
  agent = {};

  // Its successor lists what it left, to remove it.
  sink_.reset();
  std::ignore = resident_mb();
  reset_peak();
  sink_ = make_sink("b", true, 10);
  EXPECT_TRUE(eventually([] { return written_endpoints() == 0; }, seconds(300), seconds(1)))
      << written_endpoints() << " " << sink_->trouble();
  const double successor = peak_mb() - before;
  std::printf("the next writer took %.1f MB at most to remove what it left\n", successor);
  figure("successor_peak_mb", successor);
  EXPECT_LE(successor, 128);
  sink_->flush();
}

}  // namespace
}  // namespace ballast::mesh
