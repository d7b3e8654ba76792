// SPDX-License-Identifier: Apache-2.0
//
// An istiod that lost its way to the API server and answers proxies as if nothing had happened since.
#include <fmt/format.h>
#include <unistd.h>

#include <iterator>
#include <set>
#include <sstream>

#include "mesh_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

/// The ports from which a process has connections to the API server. Not those that it inherited of us.
std::set<std::string> connections_of(ControlPlane& plane, pid_t pid) {
  std::set<std::string> ports;
  const Ended sockets = plane.run({"ss", "-tnpH", "dst", fmt::format(":{}", kApiPort)}, seconds(10));
  std::istringstream lines(sockets.output);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string state, received, sent, local;
    words >> state >> received >> sent >> local;
    const auto of = [&](pid_t one) { return line.find(fmt::format("pid={},", one)) != std::string::npos; };
    if (of(pid) && (pid == ::getpid() || !of(::getpid()))) {
      ports.insert(local.substr(local.rfind(':') + 1));
    }
  }
  return ports;
}

/// What goes over these connections is lost while it lives.
class Deaf {
 public:
  Deaf(ControlPlane& plane, std::set<std::string> ports) : plane_(plane), ports_(std::move(ports)) {
    rule("-A");
  }
  ~Deaf() { rule("-D"); }
  Deaf(const Deaf&) = delete;
  Deaf& operator=(const Deaf&) = delete;
  std::size_t connections() const { return ports_.size(); }

 private:
  void rule(const char* what) {
    for (const std::string& port : ports_) {
      for (const char* end : {"--sport", "--dport"}) {
        const Ended done =
            plane_.run({"iptables", what, "OUTPUT", "-p", "tcp", end, port, "-j", "DROP"}, seconds(10));
        EXPECT_EQ(done.code, 0) << done.output;
      }
    }
  }
  ControlPlane& plane_;
  std::set<std::string> ports_;
};

TEST_F(MeshTest, AnIstiodThatHearsOfNothingIsSaid) {
  if (const auto why = missing_pilot_agent()) {
    GTEST_SKIP() << "*** SKIPPED, packets cannot be dropped here: " << *why;
  }
  start_web(2);
  sink_ = make_sink("a", true, 4, false, milliseconds(200));  // what is 30 s old as it comes is 6 s old here
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted(); }));
  const auto publish = [&](double first) { ASSERT_TRUE(sink_->publish(weights({first, 1})).ok()); };
  // Weights that change at each decision are no trouble.
  for (int i = 0; i < 8; ++i) {
    publish(2 + i % 3);
    std::this_thread::sleep_for(milliseconds(1000));
    EXPECT_EQ(sink_->trouble(), "");
  }
  const auto decides = [&] {
    sink_->renew({"shop", "web"});
    return true;
  };
  const auto has_event = [&](const std::string& reason) {
    const auto all = reasons("web");
    return std::count(all.begin(), all.end(), reason) > 0;
  };
  {
    const Deaf deaf(*plane(), connections_of(*plane(), plane()->istiod().pid()));
    ASSERT_GT(deaf.connections(), 0U);
    publish(6);
    const auto begun = std::chrono::steady_clock::now();
    EXPECT_TRUE(eventually([&] { return decides() && !sink_->trouble().empty(); }, seconds(25)));
    std::printf("an istiod that hears of nothing: said after %.1f s: %s\n",
                std::chrono::duration<double>(std::chrono::steady_clock::now() - begun).count(),
                sink_->trouble().c_str());
    EXPECT_THAT(sink_->trouble(), testing::HasSubstr("tells proxies of shop/web nothing"));
    publish(6.5);
    EXPECT_TRUE(eventually([&] { return decides() && has_event("StaleEndpoints"); }, seconds(10)));
    EXPECT_EQ(entry_status(), 200);
  }
  const auto last = weights({5, 1});
  ASSERT_TRUE(sink_->publish(last).ok());
  EXPECT_TRUE(eventually([&] { return decides() && proxy_->weights(kWeb) == expected(last); }));
  EXPECT_TRUE(eventually([&] { return decides() && sink_->trouble().empty(); }));
  EXPECT_TRUE(eventually([&] {
    EXPECT_TRUE(sink_->publish(last).ok());  // Events are written with the next weights
    return has_event("EndpointsCurrent");
  }));
}

/// As after an API server that was away: istiod knows the Service and has not heard of entries yet. A writer
/// that begins then knows nothing of that, and does not take it for one by which they do not take.
TEST_F(MeshTest, AWriterThatBeginsBeforeIstiodHearsOfEntriesWaits) {
  if (const auto why = missing_pilot_agent()) {
    GTEST_SKIP() << "*** SKIPPED, packets cannot be dropped here: " << *why;
  }
  start_web(2);
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb).size() == 2 && plain(); }));
  const auto last = weights({3, 1});
  const auto decides = [&] {
    sink_->renew({"shop", "web"});
    return true;
  };
  {
    const Deaf deaf(*plane(), connections_of(*plane(), plane()->istiod().pid()));
    ASSERT_GT(deaf.connections(), 0U);
    sink_ = make_sink("a");
    ASSERT_TRUE(sink_->publish(last).ok());
    ASSERT_TRUE(eventually([&] { return decides() && managed(); }));
    // Twenty looks, a second apart, refute where istiod tells of ours behind the Service's own.
    for (const auto begun = std::chrono::steady_clock::now();
         std::chrono::steady_clock::now() - begun < seconds(35);) {
      decides();
      const Json entry =
          plane()->must("GET", "/apis/networking.istio.io/v1/namespaces/shop/serviceentries/web-ballast");
      ASSERT_EQ(kube::at(entry, {"spec", "hosts"}), Json::array({kWeb})) << "by route";
      std::this_thread::sleep_for(milliseconds(500));
    }
    EXPECT_TRUE(plain());
  }
  EXPECT_TRUE(eventually([&] { return decides() && proxy_->weights(kWeb) == expected(last); }, seconds(120)));
  EXPECT_EQ(route_status(), 404);
}

/// The way of the writer's own watches and calls is lost, as where a node between drops what it carries: it
/// notices, and is up to date again by other connections.
TEST_F(MeshTest, AWriterWhoseConnectionsFallSilentNoticesWithin10S) {
  if (const auto why = missing_pilot_agent()) {
    GTEST_SKIP() << "*** SKIPPED, packets cannot be dropped here: " << *why;
  }
  start_web(3);
  const std::set<std::string> before = connections_of(*plane(), ::getpid());
  sink_ = make_sink("a", true, 10);
  ASSERT_TRUE(sink_->publish(weights({3, 1, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && managed(); }));
  const std::set<std::string> now = connections_of(*plane(), ::getpid());
  std::set<std::string> of_writer;
  std::set_difference(now.begin(), now.end(), before.begin(), before.end(),
                      std::inserter(of_writer, of_writer.end()));
  ASSERT_GE(of_writer.size(), 6U) << "its watches, at the least";
  const std::string leaving = node_->pods()[0];
  const Deaf deaf(*plane(), of_writer);
  const auto begun = std::chrono::steady_clock::now();
  node_->set_ready(leaving, false);
  EXPECT_TRUE(eventually([&] { return !proxy_->weights(kWeb).contains(node_->address(leaving)); }));
  const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begun;
  std::printf("the writer's connections silent: a pod that left is gone after %.1f s, by %zu connections\n",
              taken.count(), of_writer.size());
  EXPECT_LE(taken.count(), 12) << "noticed within 10 s; " << sink_->trouble();
  EXPECT_TRUE(eventually([&] { return weighted() && sink_->trouble().empty(); })) << sink_->trouble();
}

}  // namespace
}  // namespace ballast::mesh
