// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include "bpf/lib/http1.h"

namespace ballast::bpf {
namespace {

TEST(Pipeline, FirstInFirstOut) {
  http1_pipeline pipeline{};
  u8 flags = 0;
  EXPECT_EQ(http1_oldest(&pipeline, &flags), 0U);
  EXPECT_TRUE(http1_push(&pipeline, 100, 0));
  EXPECT_TRUE(http1_push(&pipeline, 200, HTTP1_HEAD_METHOD));
  EXPECT_EQ(http1_waiting(&pipeline), 2U);
  EXPECT_EQ(http1_oldest(&pipeline, &flags), 100U);
  EXPECT_EQ(flags, 0);
  ++pipeline.ended;
  EXPECT_EQ(http1_oldest(&pipeline, &flags), 200U);
  EXPECT_EQ(flags, HTTP1_HEAD_METHOD);
  ++pipeline.ended;
  EXPECT_EQ(http1_oldest(&pipeline, &flags), 0U);
}

// Requests that found no room lose their own start and nobody else's.
TEST(Pipeline, OverflowForgetsOnlyItsOwn) {
  http1_pipeline pipeline{};
  u8 flags = 0;
  for (u64 i = 1; i <= 20; ++i) {
    EXPECT_EQ(http1_push(&pipeline, i, 0) != 0, i <= HTTP1_PIPELINE) << i;
  }
  for (u64 i = 1; i <= 10; ++i) {
    EXPECT_EQ(http1_oldest(&pipeline, &flags), i);
    ++pipeline.ended;
  }
  EXPECT_TRUE(http1_push(&pipeline, 21, 0));
  for (u64 i = 11; i <= 21; ++i) {
    EXPECT_EQ(http1_oldest(&pipeline, &flags), i <= HTTP1_PIPELINE || i == 21 ? i : 0) << i;
    ++pipeline.ended;
  }
  EXPECT_EQ(http1_waiting(&pipeline), 0U);
}

TEST(Pipeline, CountsWrap) {
  http1_pipeline pipeline{};
  u8 flags = 0;
  pipeline.begun = 0xfffffffeU;
  pipeline.ended = 0xfffffffeU;
  for (u64 i = 1; i <= 5; ++i) {
    http1_push(&pipeline, i, 0);
  }
  for (u64 i = 1; i <= 5; ++i) {
    EXPECT_EQ(http1_waiting(&pipeline), 6 - i);
    const u64 start = http1_oldest(&pipeline, &flags);
    EXPECT_TRUE(start == i || start == 0) << "one ordinal in four thousand million is the empty one";
    ++pipeline.ended;
  }
}

}  // namespace
}  // namespace ballast::bpf
