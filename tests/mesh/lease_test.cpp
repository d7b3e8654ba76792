// SPDX-License-Identifier: Apache-2.0
//
// One writer in the cluster: what happens to its override when it dies, and whose clock counts.
#include "agent/actuate/istio/writer.h"
#include "mesh_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

double ms_since(steady_clock::time_point begun) {
  return std::chrono::duration<double, std::milli>(steady_clock::now() - begun).count();
}

TEST_F(MeshTest, TheLeaderDiesAndTheOverrideGoesWithIt) {
  start_web(2);
  auto leader = make_sink("leader");
  ASSERT_TRUE(leader->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted(); }));
  // The second has no weights of its own: what it finds it only removes.
  sink_ = make_sink("second");
  std::this_thread::sleep_for(seconds(2));
  leader.reset();  // as SIGKILL: nothing is handed back
  const auto begun = steady_clock::now();
  int failed = 0;
  const bool gone = eventually(
      [&] {
        failed += proxy_->get(kWeb) == 200 ? 0 : 1;
        return plain() && entry_status() == 404;
      },
      seconds(30), milliseconds(50));
  std::printf("leader dead -> override gone: %.1f s (Lease of 4 s), %d requests failed\n",
              ms_since(begun) / 1000, failed);
  EXPECT_TRUE(gone);
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(proxy_->get(kWeb), 200);
}

/// Takes or renews the Lease by hand, as a holder whose clock says `time`.
void hold_lease(ControlPlane& plane, const char* path, const std::string& time) {
  const Json spec = {{"holderIdentity", "skewed"},
                     {"leaseDurationSeconds", 3},
                     {"acquireTime", time},
                     {"renewTime", time},
                     {"leaseTransitions", 0}};
  if (plane.status_of("GET", path) == 404) {
    const std::string collection = std::string(path).substr(0, std::string(path).rfind('/'));
    plane.must("POST", collection, {{"metadata", {{"name", "ballast-leader"}}}, {"spec", spec}});
  } else {
    plane.must("PATCH", path, {{"spec", spec}}, kube::kMergePatch);
  }
}

TEST_F(MeshTest, AHolderWhoseClockIsWrongIsJudgedByOurs) {
  start_web(2);
  // It lives, and renews with times of years ago: nobody takes the Lease from it.
  hold_lease(*plane(), kLease, "2020-01-01T00:00:00.000000Z");
  sink_ = make_sink("b", true, 3);
  ASSERT_TRUE(sink_->publish(weights({3, 1})).ok());
  for (int i = 1; i <= 10; ++i) {
    std::this_thread::sleep_for(milliseconds(500));
    hold_lease(*plane(), kLease, "2020-01-01T00:00:" + std::to_string(10 + i) + ".000000Z");
    EXPECT_FALSE(sink_->leading());
  }
  EXPECT_EQ(entry_status(), 404);
  // Its last word is of tomorrow, and it dies: the Lease is taken all the same.
  hold_lease(*plane(), kLease, "2099-01-01T00:00:00.000000Z");
  const auto begun = steady_clock::now();
  EXPECT_TRUE(eventually([&] { return sink_->leading() && entry_status() == 200; }));
  std::printf("a Lease renewed for the year 2099 by a holder that died: taken after %.1f s (Lease of 3 s)\n",
              ms_since(begun) / 1000);
}

/// What a leader sent before its Lease ran out, and the API server does after another has led.
TEST_F(MeshTest, ALateWriteOfADeposedLeaderDoesNotLandOrIsUndone) {
  static constexpr const char* kEntries = "/apis/networking.istio.io/v1/namespaces/shop/serviceentries";
  const std::string entry = std::string(kEntries) + "/web-ballast";
  start_web(2);
  auto former = make_sink("former");
  ASSERT_TRUE(former->publish(weights({3, 1})).ok());
  ASSERT_TRUE(eventually([&] { return weighted() && managed(); }));
  const Json known = plane()->must("GET", entry);
  former.reset();  // as SIGKILL

  sink_ = make_sink("second");
  const auto current = weights({1, 4});
  ASSERT_TRUE(sink_->publish(current).ok());
  ASSERT_TRUE(eventually([&] { return proxy_->weights(kWeb) == expected(current); }));
  Json late = known;
  for (Json& endpoint : late["spec"]["endpoints"]) {
    endpoint["weight"] = 7;
  }
  const auto was = [&] {
    return kube::text_at(plane()->must("GET", entry), {"metadata", "resourceVersion"});
  };
  const std::string before = was();
  // Changed, and made anew: the first write was under way when the Lease ran out.
  for (const bool there : {true, false}) {
    actuate::istio::Object have;
    if (there) {
      have = {.uid = kube::text_at(known, {"metadata", "uid"}),
              .version = kube::text_at(known, {"metadata", "resourceVersion"}),
              .spec = known.at("spec")};
    }
    Json wanted = late;
    wanted["metadata"].erase("uid");
    wanted["metadata"].erase("resourceVersion");
    actuate::istio::Writer writer(plane()->admin(), "");
    int asked = 0;
    writer.may_write = [&] { return asked++ == 0; };
    auto others = actuate::istio::Others::kNothing;
    const Status put = writer.put(wanted, have, others);
    ASSERT_FALSE(put.ok());
    EXPECT_THAT(put.error().message, testing::HasSubstr("not leading any more"));
    EXPECT_EQ(asked, 2) << "the first was refused by the API server, and the second never sent";
    EXPECT_EQ(was(), before);
  }
  EXPECT_EQ(proxy_->weights(kWeb), expected(current));

  // Its successor has swept, and then there is an object of ours that nobody decided.
  sink_->flush();
  ASSERT_EQ(entry_status(), 404);
  sink_ = make_sink("third");
  ASSERT_TRUE(eventually([&] { return sink_->leading(); }));
  ASSERT_TRUE(eventually([&] { return plain(); }));
  std::this_thread::sleep_for(seconds(2));
  Json made = late;
  for (const char* field : {"uid", "resourceVersion", "creationTimestamp", "generation", "managedFields"}) {
    made["metadata"].erase(field);
  }
  plane()->must("POST", kEntries, made);
  const auto begun = steady_clock::now();
  EXPECT_TRUE(eventually([&] { return entry_status() == 404; }, seconds(20)));
  std::printf("a late POST of an entry -> gone: %.2f s\n", ms_since(begun) / 1000);
  EXPECT_LT(ms_since(begun), 2000);
  EXPECT_TRUE(eventually([&] { return plain(); }));
}

}  // namespace
}  // namespace ballast::mesh
