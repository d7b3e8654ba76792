// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/live_figure.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/base/file.h"

namespace ballast::bench {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

std::string arm(const std::string& policy, const std::string& p99_of_rounds) {
  std::string runs;
  for (const char* end = p99_of_rounds.c_str(); *end != '\0';) {
    char* next = nullptr;
    const double p99 = std::strtod(end, &next);
    end = next;
    runs += (runs.empty() ? "" : ",") +
            std::string(R"({"answered_by_s":[10,20],"p50_ms":1,"goodput_rps":15,"p99_ms":)") +
            std::to_string(p99) + "}";
  }
  return R"({"policy":")" + policy + R"(","errors":0,"results":[)" + runs + "]}";
}

class LiveFigureTest : public ::testing::Test {
 protected:
  LiveFigureTest()
      : folder_(std::move(TempDir::create(std::filesystem::temp_directory_path(), "live").value())) {}
  Result<std::vector<LiveFigure>> read(const std::string& arms) {
    const std::string report = R"({"duration_s":2,"arms":[)" + arms + "]}";
    EXPECT_TRUE(
        write_file_atomic(folder_.path() / "jmeter-stress.json", report.substr(0, report.size() - cut_)));
    return read_live(folder_.path());
  }
  TempDir folder_;
  std::size_t cut_ = 0;
};

TEST_F(LiveFigureTest, SaysWhoIsTheBestAndWhoIsNot) {
  const auto best = read(arm("least_request", "90 100 110") + "," + arm("ballast_shipped", "40 50 60"));
  ASSERT_TRUE(best) << best.error().message;
  EXPECT_THAT(best->front().judgement, ElementsAre("ballast_shipped has the lowest p99 of all."));
  EXPECT_EQ(best->front().chart.series.front().y, (std::vector<double>{10, 20}));
  const auto within = read(arm("least_request", "90 100 110") + "," + arm("ballast_shipped", "95 105 115"));
  EXPECT_THAT(within->front().judgement, ElementsAre(HasSubstr("within its interval of least_request")));
  const auto worse = read(arm("least_request", "90 100 110") + "," + arm("ballast_shipped", "195 200 205"));
  EXPECT_THAT(worse->front().judgement,
              ElementsAre("ballast_shipped is not the best: least_request has 0.50 of its p99."));
  EXPECT_THAT(html(*worse), HasSubstr("stress traffic, Apache JMeter"));
}

TEST_F(LiveFigureTest, NoFigureOfHalfAReport) {
  EXPECT_THAT(read_live(folder_.path()).error().message, HasSubstr("holds no report"));
  EXPECT_FALSE(read(""));
  cut_ = 30;
  const auto half = read(arm("least_request", "90"));
  ASSERT_FALSE(half);
  EXPECT_THAT(half.error().message, HasSubstr("jmeter-stress.json is no whole report"));
}

}  // namespace
}  // namespace ballast::bench
