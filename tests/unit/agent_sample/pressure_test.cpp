// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/pressure.h"

#include <gtest/gtest.h>

#include <fstream>

#include "core/base/file.h"

namespace ballast::sample {
namespace {

TEST(Pressure, BothLines) {
  const auto pressure = parse_pressure(
      "some avg10=12.50 avg60=3.00 avg300=0.10 total=4000123\n"
      "full avg10=1.25 avg60=0.00 avg300=0.00 total=77\n");
  ASSERT_TRUE(pressure.has_value());
  EXPECT_DOUBLE_EQ(pressure->some.avg10, 12.5);
  EXPECT_EQ(pressure->some.total_us, 4000123U);
  EXPECT_DOUBLE_EQ(pressure->full.avg10, 1.25);
  EXPECT_EQ(pressure->full.total_us, 77U);
}

TEST(Pressure, OlderKernelsHaveNoFullLineForTheCpu) {
  const auto pressure = parse_pressure("some avg10=0.00 avg60=0.00 avg300=0.00 total=5\n");
  ASSERT_TRUE(pressure.has_value());
  EXPECT_EQ(pressure->some.total_us, 5U);
  EXPECT_EQ(pressure->full.total_us, 0U);
}

TEST(Pressure, WhatIsNoPressureIsNone) {
  for (const char* text :
       {"", "some", "some avg10=x total=1\n", "some avg10=1.0\n", "full avg10=0 total=1\n"}) {
    EXPECT_FALSE(parse_pressure(text).has_value()) << text;
  }
}

TEST(Pressure, OfACgroupWithSomeOfTheFiles) {
  const auto folder = TempDir::create("/tmp", "ballast-psi-");
  ASSERT_TRUE(folder.ok());
  std::ofstream(folder->path() / "memory.pressure") << "some avg10=2.00 avg60=0.00 avg300=0.00 total=9\n";
  const Pressures pressures = read_pressures(folder->path());
  EXPECT_FALSE(pressures[0].has_value());
  ASSERT_TRUE(pressures[1].has_value());
  EXPECT_EQ(pressures[1]->some.total_us, 9U);
  EXPECT_FALSE(pressures[2].has_value());
}

}  // namespace
}  // namespace ballast::sample
