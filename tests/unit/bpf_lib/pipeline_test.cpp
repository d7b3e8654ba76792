// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <deque>
#include <random>

#include "bpf/lib/http1_pipeline.h"

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

// A connection as both directions see it. Every request has a start of its own, by which it is told
// whether an answer was timed, and by the right one.
class Exchange {
 public:
  void request() {
    dropped_ += http1_settle(&pipeline_, 0);
    http1_push(&pipeline_, ++now_, 0);
    true_starts_.push_back(now_);
  }
  // One whose head fell into a gap.
  void missed_request() {
    true_starts_.push_back(++now_);
    http1_doubt(&pipeline_);
  }
  void answer() {
    u8 flags = 0;
    ++pipeline_.answers;
    const u64 start = http1_oldest(&pipeline_, &flags);
    if (start != 0) {
      ++timed_;
      EXPECT_EQ(start, true_starts_.front()) << "timed by another request's start";
    }
    if (http1_waiting(&pipeline_) != 0) {
      ++pipeline_.ended;
    }
    true_starts_.pop_front();
  }
  void missed_answer() {
    true_starts_.pop_front();
    http1_doubt(&pipeline_);
  }
  int timed() const { return timed_; }
  u32 dropped() const { return dropped_; }
  const http1_pipeline& pipeline() const { return pipeline_; }

 private:
  http1_pipeline pipeline_{};
  std::deque<u64> true_starts_;
  u64 now_ = 0;
  int timed_ = 0;
  u32 dropped_ = 0;
};

TEST(Doubt, EndsWithTheNextExchangeOfAClientThatWaits) {
  Exchange e;
  for (int i = 0; i < 2; ++i) {
    e.request();
    e.answer();
  }
  e.missed_request();
  e.answer();
  e.request();  // an answer came before it, but perhaps that of a request before the doubt
  e.answer();
  EXPECT_EQ(e.timed(), 2);
  e.request();
  e.answer();
  EXPECT_EQ(e.timed(), 3);
  EXPECT_EQ(e.dropped(), 0U);
}

TEST(Doubt, AnAnswerThatWasMissedFreesItsRequest) {
  Exchange e;
  e.request();
  e.answer();
  e.request();
  e.missed_answer();
  for (int i = 0; i < 3; ++i) {
    e.request();
    e.answer();
  }
  EXPECT_EQ(e.timed(), 3);
  EXPECT_EQ(e.dropped(), 1U) << "the one without an answer";
  EXPECT_EQ(http1_waiting(&e.pipeline()), 0U);
}

// With two requests out all the time every order of events is also that of a client that waits.
TEST(Doubt, OfAPipeliningConnectionNeverEnds) {
  Exchange e;
  e.request();
  e.request();
  e.answer();
  e.request();
  e.answer();
  e.missed_request();
  e.answer();
  for (int i = 0; i < 50; ++i) {
    e.request();
    e.answer();
  }
  EXPECT_EQ(e.timed(), 2);
}

TEST(Doubt, WhateverIsMissedNobodyIsTimedByAnother) {
  for (unsigned seed = 1; seed <= 300; ++seed) {
    std::minstd_rand random(seed);
    Exchange e;
    const bool pipelines = seed % 2 == 0;
    if (pipelines) {
      e.request();
    }
    for (int i = 0; i < 200; ++i) {
      random() % 10 == 0 ? e.missed_request() : e.request();
      random() % 10 == 0 ? e.missed_answer() : e.answer();
    }
    // Unless its second exchange is in doubt, one that waits is trusted again and again.
    EXPECT_TRUE(pipelines || e.timed() < 2 || e.timed() > 50) << e.timed();
  }
}

// Whoever answers unasked, and whoever loses packets on purpose, gains one answer a gap.
// In doubt an answer to HEAD is read as if it had the body that it announces, which eats the answers
// after it: its end is not that of the exchange.
TEST(Doubt, DoesNotEndInsideAnAnswerThatIsMisread) {
  http1_pipeline pipeline{};
  const auto request = [&](int midway) {
    const u32 left = http1_settle(&pipeline, midway);
    http1_push(&pipeline, 1, 0);
    return left;
  };
  const auto answer = [&] {
    ++pipeline.answers;
    ++pipeline.ended;
  };
  request(0);
  answer();
  request(0);
  answer();
  http1_doubt(&pipeline);
  request(0);
  answer();
  request(1);
  EXPECT_TRUE(http1_in_doubt(&pipeline));
  answer();
  request(0);
  EXPECT_FALSE(http1_in_doubt(&pipeline));
}

TEST(Missed, OneAnswerAGap) {
  http1_pipeline pipeline{};
  EXPECT_FALSE(http1_answers_missed(&pipeline)) << "nothing was missed";
  http1_missed(&pipeline);
  http1_missed(&pipeline);
  http1_push(&pipeline, 1, 0);
  EXPECT_FALSE(http1_answers_missed(&pipeline)) << "it is for the request that waits";
  ++pipeline.ended;
  EXPECT_TRUE(http1_answers_missed(&pipeline));
  EXPECT_TRUE(http1_answers_missed(&pipeline));
  EXPECT_FALSE(http1_answers_missed(&pipeline));
}

TEST(Missed, IsOverWithTheDoubt) {
  http1_pipeline pipeline{};
  const auto exchange = [&] {
    http1_settle(&pipeline, 0);
    http1_push(&pipeline, 1, 0);
    ++pipeline.answers;
    ++pipeline.ended;
  };
  exchange();
  exchange();
  http1_doubt(&pipeline);
  http1_missed(&pipeline);
  exchange();
  exchange();
  EXPECT_FALSE(http1_in_doubt(&pipeline));
  EXPECT_FALSE(http1_answers_missed(&pipeline)) << "no such request is out any more";
}

TEST(Gap, InABodyThatMayBeKeptBackHidesTheNextRequest) {
  http1_pipeline pipeline{};
  http1_stream stream{};
  stream.kind = HTTP1_REQUEST;
  stream.state = HTTP1_BODY;
  stream.remaining = 100;
  stream.flags = HTTP1_EXPECTS;
  http1_push(&pipeline, 1, 0);
  EXPECT_TRUE(http1_gap_inside(&stream, &pipeline, 99)) << "not answered: the body comes";
  ++pipeline.ended;
  EXPECT_FALSE(http1_gap_inside(&stream, &pipeline, 99));
  stream.flags = 0;  // it has begun
  EXPECT_TRUE(http1_gap_inside(&stream, &pipeline, 99));
  EXPECT_FALSE(http1_gap_inside(&stream, &pipeline, 100)) << "its end, and perhaps more";
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
