// SPDX-License-Identifier: Apache-2.0
#include "model/learn/twin_worker.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "eventually.h"
#include "recorded_service.h"

namespace ballast::learn {
namespace {

std::string text_of(const std::vector<spec::RecordedTick>& ticks) {
  std::string text = policy::recording_header("queue_rule");
  for (const auto& tick : ticks) {
    text += policy::recording_line(tick);
  }
  return text;
}

/// What the worker says of the service once it has looked at this.
spec::TwinWord said_of(const std::string& text) {
  TwinSettings settings;
  settings.every_s = 0.05;
  settings.learning.updates = 1;
  settings.learning.gains = false;
  TwinWorker worker(settings);
  worker.take({text});
  const auto first = worker.take_gains();
  EXPECT_TRUE(first && policy::parse_gains(*first)->twins.empty()) << "the rule's own gains at first";
  spec::TwinWord word;
  EXPECT_TRUE(eventually([&] {
    const auto file = worker.take_gains();
    const auto parsed = file ? policy::parse_gains(*file) : Error::failed("");
    if (!parsed || !parsed->twins.contains(sim::kSimulated)) {
      return false;
    }
    word = parsed->twins.at(sim::kSimulated);
    return true;
  }));
  return word;
}

TEST(TwinWorker, ARecordingIsUsedAsFarAsItGoesAndThatIsSaid) {
  const auto ticks = twin::recording(twin::bouts(300), 1);
  const auto whole = said_of(text_of(ticks));
  EXPECT_NEAR(whole.recorded_s, 300, 5);
  EXPECT_EQ(whole.gaps, 0U);
  EXPECT_GT(whole.foreseen_p99_ms, 0);
  EXPECT_GT(whole.came_p99_ms, 0);
  EXPECT_EQ(whole.note, "");
  // With a gap.
  auto with_gap = ticks;
  with_gap.erase(with_gap.begin() + 50, with_gap.begin() + 80);
  const auto gap = said_of(text_of(with_gap));
  EXPECT_EQ(gap.gaps, 1U);
  EXPECT_GT(gap.foreseen_p99_ms, 0);
  EXPECT_THAT(gap.note, ::testing::HasSubstr("1 gaps of 33 s"));
  // Of another version: what reads the same.
  std::string other = text_of(ticks);
  other.replace(other.find("1,"), 1, "7");
  const auto version = said_of(other);
  EXPECT_GT(version.foreseen_p99_ms, 0);
  EXPECT_THAT(version.note, ::testing::HasSubstr("version 7"));
  // Too short: no twin.
  const auto little = said_of(text_of({ticks.begin(), ticks.begin() + 100}));
  EXPECT_EQ(little.foreseen_p99_ms, 0);
  EXPECT_THAT(little.note, ::testing::HasSubstr("60 s of two that take requests would be the least"));
}

TEST(TwinWorker, ForgetsWhatIsTooOldAndNeverKeepsMoreThanItMay) {
  TwinSettings settings;
  settings.span_s = 150;
  settings.every_s = 0.05;
  settings.learning.gains = false;
  TwinWorker worker(settings);
  worker.take({text_of(twin::recording(twin::bouts(400), 1))});
  EXPECT_TRUE(eventually([&] { return worker.summary().busiest.recorded_s == 0 && worker.take_gains(); }))
      << "150 s are too short to learn from and to judge by";
}

}  // namespace
}  // namespace ballast::learn
