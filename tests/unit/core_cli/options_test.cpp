// SPDX-License-Identifier: Apache-2.0
#include "core/base/options.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace ballast::options {
namespace {

using ::testing::HasSubstr;

struct Room {
  double low = 1;
  double high = 2;
  int count = 3;
  float share = 0.1F;
  bool on = true;
  std::string word = "a";
  std::chrono::milliseconds tick{250};
  std::chrono::milliseconds age{1500};
  bool operator==(const Room&) const = default;

  void declare(Schema& s) {
    s.section("room");
    s.number("low", low, 0, 10, "", "the lower");
    s.number("high", high, 0, 10, "", "the upper");
    s.number("count", count, 1, 5, "", "how many");
    s.number("share", share, 0, 1, "", "a share");
    s.flag("on", on, "whether");
    s.one_of("word", word, {"a", "b"}, "which");
    s.milliseconds("tick_ms", tick, 100, 1000, "how long");
    s.seconds("age_s", age, 0.5, 10, "how old");
    s.ordered("low", low, "high", high);
  }
};

TEST(Options, AreSetFromTextAndTellTheirDefault) {
  Room room;
  Schema schema;
  room.declare(schema);
  const std::pair<const char*, const char*> wanted[] = {
      {"room.low", "0.5"}, {"room.count", "5"},   {"room.share", "0.7"},   {"room.on", "false"},
      {"room.word", "b"},  {"room.age_s", "0.5"}, {"room.tick_ms", "1000"}};
  for (const auto& [name, text] : wanted) {
    const Key* key = schema.find(name);
    ASSERT_NE(key, nullptr) << name;
    EXPECT_EQ(key->set(text), std::nullopt) << name;
    EXPECT_EQ(key->get(), text);
    EXPECT_NE(key->standard, text);
  }
  EXPECT_EQ(room, (Room{0.5, 2, 5, 0.7F, false, "b", std::chrono::milliseconds(1000),
                        std::chrono::milliseconds(500)}));
  EXPECT_EQ(schema.find("room.share")->standard, "0.1");
}

TEST(Options, StayAsTheyWereWhereTheTextIsWrong) {
  Room room;
  Schema schema;
  room.declare(schema);
  const std::pair<const char*, const char*> wrong[] = {
      {"room.low", "11"},    {"room.low", "nan"},    {"room.low", "1x"},      {"room.low", ""},
      {"room.count", "0"},   {"room.count", "2.5"},  {"room.count", "0x2"},   {"room.on", "yes"},
      {"room.word", "c"},    {"room.tick_ms", "99"}, {"room.tick_ms", "1e2"}, {"room.age_s", "0.4"},
      {"room.low", "1e999"}, {"room.count", "+1"},   {"room.count", " 1"}};
  for (const auto& [name, text] : wrong) {
    EXPECT_NE(schema.find(name)->set(text), std::nullopt) << name << " " << text;
  }
  EXPECT_EQ(room, Room{});
}

TEST(Options, CheckFindsWhatAFieldHoldsAndWhatHoldsBetweenFields) {
  EXPECT_TRUE(validate(Room{}).ok());
  EXPECT_THAT(validate(Room{.count = 9}).error().message,
              HasSubstr("room.count: 9 is out of range; give 1 to 5"));
  EXPECT_THAT(validate(Room{.low = std::nan("")}).error().message, HasSubstr("room.low: "));
  EXPECT_THAT(validate(Room{.low = 5}).error().message,
              HasSubstr("room.low: room.low 5 is above room.high 2"));
}

TEST(Options, OnlyCheckedOnesMakeARoom) {
  EXPECT_EQ(**Checked<Room>::of({.count = 5}), Room{.count = 5});
  EXPECT_EQ(Checked<Room>::of({.count = 6}).error().exit_code(), 2);
  EXPECT_DEATH(Checked<Room>(Room{.count = 6}), "room.count: 6 is out of range");
}

TEST(Options, ASlipHasANearestName) {
  const std::vector<std::string> names = {"floor", "cap", "max_step", "deadband", "stale_after_s"};
  EXPECT_EQ(nearest("flor", names), "floor");
  EXPECT_EQ(nearest("dedaband", names), "deadband");
  EXPECT_EQ(nearest("stale_afters", names), "stale_after_s");
  EXPECT_EQ(nearest("cpa", names), "cap");
  EXPECT_EQ(nearest("temperature", names), std::nullopt);
  EXPECT_EQ(nearest("x", names), std::nullopt);
  EXPECT_EQ(nearest("", names), std::nullopt);
  EXPECT_EQ(did_you_mean("flor", names), ", did you mean floor?");
  EXPECT_EQ(did_you_mean("temperature", names), "");
}

}  // namespace
}  // namespace ballast::options
