// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/global.h"

#include <gtest/gtest.h>

namespace ballast::ctl {
namespace {

constexpr const char* kStatus = R"({"leader": true, "ready": true, "address": "127.0.0.1:1", "epoch": 12,
  "version": 34, "version_age_s": 0.5, "accepted": 100, "rejected": {"shape": 0, "not_finite": 3},
  "clipped": 2, "staleness_median": 4, "norm_median": 1.5, "batch": {"size": 4, "buffered": 1, "age_s": 0.2},
  "workers_pushing": 64, "workers_quarantined": 1, "streams": 70, "messages": 9, "unchanged": 1,
  "ended": {"silent": 2, "malformed": 0}, "checkpoint_age_s": 3, "checkpoint_failures": 0,
  "workers": [{"worker": "node-7", "accepted": 5, "rejected": 9, "quarantines": 1, "quarantined_s": 41,
               "idle_s": 1, "last_bad": "not_finite: a NaN"}]})";

TEST(Global, ShowsVersionReasonsAndWhoIsShutOut) {
  const auto report = global_report(kStatus);
  ASSERT_TRUE(report) << report.error().message;
  for (const char* part : {"leader", "epoch 12", "version 34", "1 of 4", "3 not_finite", "2 silent", "node-7",
                           "not_finite: a NaN", "64 pushing, 70 streams, 1 quarantined"}) {
    EXPECT_NE(report->text.find(part), std::string::npos) << part << " in\n" << report->text;
  }
  EXPECT_EQ(report->text.find("shape"), std::string::npos) << "what never happened is not shown";
  EXPECT_EQ(report->json["version"], 34);
}

TEST(Global, ShowsWhatEachNodeLearnsTheForecastFrom) {
  std::string status = kStatus;
  status.insert(1,
                R"("forecast": {"epoch": 12, "version": 56, "version_age_s": 1, "released": 50, "accepted": 7,
      "rejected": {"norm": 2}, "staleness_median": 0, "workers_pushing": 1, "workers_quarantined": 0,
      "error": 0.01, "error_as_now": 0.04, "nodes": [{"worker": "node-1", "accepted": 7, "rejected": 2,
      "quarantines": 0, "quarantined_s": 0, "idle_s": 1, "last_bad": "", "version": 55, "samples": 900,
      "span_s": 120, "error": 0.01, "error_as_now": 0.04, "twin_s": 600, "twin_foreseen_p99_ms": 41.5,
      "twin_came_p99_ms": 43, "twin_gains": 3}]}, )");
  const auto report = global_report(status);
  ASSERT_TRUE(report) << report.error().message;
  for (const char* part :
       {"forecast  version 56 (50 released), 1 nodes push; error over that of \"as now\": 0.25",
        "2 norm of the forecast", "node-1", "900", "0.01000", "10.0 min", "41.5 ms", "43.0 ms"}) {
    EXPECT_NE(report->text.find(part), std::string::npos) << part << " in\n" << report->text;
  }
}

TEST(Global, ShowsWhoTriesWhatAndWhatBecameOfIt) {
  std::string status = kStatus;
  EXPECT_EQ(global_report(status)->text.find("canaries"), std::string::npos)
      << "a server of the version before";
  status.insert(1, R"("promotion": {"on": true, "released": 30, "trial": true, "canaries": 2,
      "canary_nodes": ["node-3", "node-8"], "promoted": 4, "returned": 1, "canary_objective": -0.5,
      "rest_objective": -0.75, "canary_reports": 12, "rest_reports": 99}, )");
  const auto report = global_report(status);
  ASSERT_TRUE(report) << report.error().message;
  const std::string wanted =
      "canaries  2 nodes (node-3, node-8) are paid -0.50 over 12 reports, the others -0.75 over 99; "
      "version "
      "30 is all nodes', 4 released, 1 taken back\n";
  EXPECT_NE(report->text.find(wanted), std::string::npos) << report->text;
}

TEST(Global, RefusesWhatIsNoStatusAndWhatIsNoAddress) {
  for (const char* status : {"", "not json", "{}", "[]", R"({"leader": 1})"}) {
    EXPECT_FALSE(global_report(status)) << status;
  }
  for (const char* address : {"", "nowhere", "unix:/x"}) {
    const auto report = global(address);
    ASSERT_FALSE(report) << address;
    EXPECT_EQ(report.error().kind, Error::Kind::kUsage) << address;
  }
  const auto nobody = global("127.0.0.1:1");
  ASSERT_FALSE(nobody);
  EXPECT_NE(nobody.error().message.find("127.0.0.1:1"), std::string::npos);
}

}  // namespace
}  // namespace ballast::ctl
