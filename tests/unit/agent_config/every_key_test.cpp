// SPDX-License-Identifier: Apache-2.0
//
// Goes through the schema, so that no key can be forgotten: an option that is declared is tried here.
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "agent/config/config.h"
#include "agent/decide/learned.h"
#include "agent/guard/guard.h"
#include "core/base/file.h"

namespace ballast::config {
namespace {

namespace fs = std::filesystem;
using ::testing::HasSubstr;
using ::testing::StartsWith;

class EveryKey : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(fs::temp_directory_path(), "ballast-keys-");
    ASSERT_TRUE(made.ok()) << made.error().message;
    dir_.emplace(std::move(*made));
    defaults_.declare(schema_);
    ASSERT_GT(schema_.keys().size(), 60U);
  }

  fs::path write(const std::string& text) const {
    fs::path path = dir_->path() / "c.yaml";
    std::ofstream(path) << text;
    return path;
  }
  /// A file that says this of the key, below its section.
  static std::string line(const options::Key& key, const std::string& value) {
    const auto dot = key.name.find('.');
    return dot == std::string::npos
               ? key.name + ": " + value + "\n"
               : key.name.substr(0, dot) + ":\n  " + key.name.substr(dot + 1) + ": " + value + "\n";
  }
  void refused(const options::Key& key, const std::string& text, int line, const std::string& says) const {
    const fs::path file = write(text);
    const auto config = load(file, {});
    ASSERT_FALSE(config.ok()) << "accepted:\n" << text;
    EXPECT_EQ(config.error().exit_code(), 2);
    EXPECT_THAT(config.error().message,
                StartsWith(fmt::format("{}:{}: {}: ", file.string(), line, key.name)));
    EXPECT_THAT(config.error().message, HasSubstr(says)) << text;
  }
  static int line_of(const options::Key& key) { return key.name.find('.') == std::string::npos ? 1 : 2; }

  /// The bounds of a number's range, as its help tells them.
  static std::pair<double, double> range(const options::Key& key) {
    const auto to = key.allowed.find(" to ");
    return {std::stod(key.allowed), std::stod(key.allowed.substr(to + 4))};
  }
  static bool is_number(const options::Key& key) { return key.type.ends_with("number"); }

  std::optional<TempDir> dir_;
  Config defaults_;
  options::Schema schema_;
};

TEST_F(EveryKey, SaysWhatItIs) {
  for (const options::Key& key : schema_.keys()) {
    EXPECT_FALSE(key.help.empty()) << key.name;
    EXPECT_FALSE(key.allowed.empty()) << key.name;
    EXPECT_EQ(key.name.ends_with("_s") && is_number(key), key.unit == "s" || key.unit == "/s") << key.name;
    EXPECT_EQ(key.name.ends_with("_ms"), key.unit == "ms") << key.name;
    EXPECT_EQ(std::count_if(schema_.keys().begin(), schema_.keys().end(),
                            [&](const options::Key& other) { return other.name == key.name; }),
              1)
        << key.name;
  }
}

TEST_F(EveryKey, BelowAndAboveItsRangeIsRefusedWithTheRange) {
  for (const options::Key& key : schema_.keys()) {
    if (!is_number(key)) {
      continue;
    }
    const auto [least, most] = range(key);
    ASSERT_LT(least, most) << key.name;
    const double little = key.type == "number" ? 1e-6 : 1;
    for (const double value : {least - little, most + std::max(little, most * 1e-6)}) {
      const double given = key.type == "number" ? value : std::round(value);
      refused(key, line(key, fmt::format("{}", given)), line_of(key), key.allowed);
    }
  }
}

TEST_F(EveryKey, OfTheWrongTypeIsRefused) {
  for (const options::Key& key : schema_.keys()) {
    refused(key, line(key, "[1, 2]"), line_of(key), "a list");
    refused(key, line(key, "{a: 1}"), line_of(key), "a map");
    refused(key, line(key, ""), line_of(key), "no value");
    if (is_number(key)) {
      refused(key, line(key, "much"), line_of(key), key.allowed);
      refused(key, line(key, ".nan"), line_of(key), "is not a");
      refused(key, line(key, ".inf"), line_of(key), "is not a");
      refused(key, line(key, "\"\""), line_of(key), "is not a");
    } else if (key.type == "word") {
      refused(key, line(key, "7"), line_of(key), key.allowed);
    }
    if (key.type == "whole number") {
      refused(key, line(key, "1.5"), line_of(key), "whole number");
      refused(key, line(key, "99999999999999999999"), line_of(key), key.allowed);
    }
  }
}

TEST_F(EveryKey, GivenTwiceIsRefused) {
  for (const options::Key& key : schema_.keys()) {
    const auto dot = key.name.find('.');
    const std::string one = "  " + key.name.substr(dot + 1) + ": \"" + key.standard + "\"\n";
    if (dot == std::string::npos) {
      const std::string top = key.name + ": \"" + key.standard + "\"\n";
      refused(key, top + top, 2, "twice");
    } else {
      refused(key, key.name.substr(0, dot) + ":\n" + one + one, 3, "twice");
    }
  }
}

TEST_F(EveryKey, ASlipIsAnsweredWithTheKey) {
  for (const options::Key& key : schema_.keys()) {
    const auto dot = key.name.find('.');
    std::string leaf = key.name.substr(dot + 1);
    std::swap(leaf[leaf.size() / 2], leaf[leaf.size() / 2 - 1]);
    if (leaf == key.name.substr(dot + 1)) {
      continue;  // two letters alike
    }
    const std::string text =
        dot == std::string::npos ? leaf + ": 1\n" : key.name.substr(0, dot) + ":\n  " + leaf + ": 1\n";
    const auto config = load(write(text), {});
    ASSERT_FALSE(config.ok());
    EXPECT_THAT(config.error().message, HasSubstr("did you mean " + key.name.substr(dot + 1) + "?"));
  }
}

TEST_F(EveryKey, IsPrintedAndReadBackAtBothEndsOfItsRange) {
  for (const options::Key& key : schema_.keys()) {
    std::vector<std::string> values;
    if (is_number(key)) {
      const auto [least, most] = range(key);
      values = {fmt::format("{}", least), fmt::format("{}", most)};
    } else if (key.type == "word") {
      for (std::size_t at = 0; at != std::string::npos;) {
        const auto comma = key.allowed.find(", ", at);
        values.push_back(key.allowed.substr(at, comma - at));
        at = comma == std::string::npos ? comma : comma + 2;
      }
    }
    for (const std::string& value : values) {
      Config config;
      options::Schema schema;
      config.declare(schema);
      ASSERT_EQ(schema.find(key.name)->set(value), std::nullopt) << key.name;
      EXPECT_EQ(schema.find(key.name)->get(), value) << key.name;
      if (schema.check().ok()) {
        const std::string text = to_yaml(config);
        const auto again = load(write(text), {});
        ASSERT_TRUE(again.ok()) << again.error().message << "\n" << text;
        EXPECT_EQ(*again, config) << key.name << "\n" << text;
        EXPECT_EQ(to_yaml(*again), text);
      }
    }
  }
}

// What was accepted here is what the rooms are made from: none may find it wrong, and none mends it.
TEST_F(EveryKey, WhatIsAcceptedIsAcceptedByTheRooms) {
  int accepted = 0;
  for (const options::Key& key : schema_.keys()) {
    if (!is_number(key)) {
      continue;
    }
    const auto [least, most] = range(key);
    for (const double value : {least, most}) {
      const auto config = load(write(line(key, fmt::format("{}", value))), {});
      if (!config) {
        EXPECT_THAT(config.error().message, ::testing::Not(HasSubstr("out of range"))) << key.name;
        continue;
      }
      ++accepted;
      EXPECT_TRUE(options::Checked<guard::GuardOptions>::of(config->guard).ok()) << key.name;
      EXPECT_TRUE(options::Checked<decide::LearnedOptions>::of(config->learned).ok()) << key.name;
      EXPECT_TRUE(options::validate(config->observer).ok()) << key.name;
      EXPECT_TRUE(options::validate(config->istio).ok()) << key.name;
      EXPECT_TRUE(options::validate(config->fleet).ok()) << key.name;
      EXPECT_TRUE(options::validate(config->fleet_client).ok()) << key.name;
      EXPECT_TRUE(options::validate(config->reward).ok()) << key.name;
    }
  }
  EXPECT_GT(accepted, 50);  // the others contradict a default of another key
}

}  // namespace
}  // namespace ballast::config
