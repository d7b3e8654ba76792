// SPDX-License-Identifier: Apache-2.0
#include "model/twin/twin.h"

#include <gtest/gtest.h>

#include <cmath>
#include <utility>

#include "agent/decide/queue_rule.h"
#include "agent/decide/recorder.h"
#include "model/policy/gains_file.h"
#include "model/policy/recording_file.h"
#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"
#include "model/twin/gain_learner.h"

namespace ballast::twin {
namespace {

constexpr sim::LoopOptions kIstio{1.1, 0.12};

/// Pods that lose their CPU for six ticks at random times: level and neutral to the strong rule.
sim::Scenario bouts(double seconds) {
  sim::Scenario world;
  world.clients = 10;
  world.service = {.mean_s = 0.02, .cv = 1};
  world.servers.assign(6, {.speed = 1});
  world.arrivals.rho = 0.6;
  world.slowness.push_back(
      {.kind = sim::Slowness::Kind::kPause, .factor = 0.3, .every_s = 26, .duration_s = 6.6});
  world.duration_s = seconds;
  world.overload = true;
  return world;
}

std::vector<spec::RecordedTick> recording(const sim::Scenario& world, std::uint64_t seed) {
  std::vector<spec::RecordedTick> ticks;
  const auto recorded = sim::agent_technique("recorded", "", [&ticks] {
    return std::make_unique<decide::Recorder>(std::make_unique<decide::QueueRule>(),
                                              [&ticks](const auto& tick) { ticks.push_back(tick); });
  });
  sim::Simulation(world, recorded, seed, kIstio).run();
  return ticks;
}

TEST(Twin, IsTheServiceThatWasRecorded) {
  const auto twin = build(recording(bouts(300), 1), sim::kSimulated, {});
  ASSERT_TRUE(twin.ok()) << twin.error().message;
  EXPECT_EQ(twin->scenario.servers.size(), 6U);
  EXPECT_NEAR(twin->scenario.service.mean_s, 0.02, 0.003);
  EXPECT_NEAR(twin->scenario.arrivals.rate_rps, sim::base_rate(bouts(300)), 0.1 * sim::base_rate(bouts(300)));
  EXPECT_EQ(twin->scenario.clients, 10U);
  EXPECT_GT(twin->scenario.slowness.size(), 20U);
  EXPECT_EQ(twin->gaps, 0U);
  EXPECT_NEAR(std::log(twin->predicted_p50_ms / twin->happened_p50_ms), 0, 0.25);
  EXPECT_NEAR(std::log(twin->predicted_p99_ms / twin->happened_p99_ms), 0, 0.6);
}

TEST(Twin, GapsAreCutOutAndSaidAndTooLittleIsRefused) {
  auto ticks = recording(bouts(200), 2);
  ticks.erase(ticks.begin() + 50, ticks.begin() + 80);
  const auto twin = build(ticks, sim::kSimulated, {});
  ASSERT_TRUE(twin.ok());
  EXPECT_EQ(twin->gaps, 1U);
  EXPECT_NEAR(twin->recorded_s, static_cast<double>(ticks.size()) * 1.1, 1);
  ASSERT_FALSE(twin->notes.empty());
  EXPECT_NE(twin->notes[0].find("gap"), std::string::npos);
  ticks.resize(40);
  const auto little = build(ticks, sim::kSimulated, {});
  ASSERT_FALSE(little.ok());
  EXPECT_NE(little.error().message.find("goes on as before"), std::string::npos) << little.error().message;
  EXPECT_FALSE(build(ticks, {"no", "such"}, {}).ok());
}

TEST(Recording, SurvivesAFileAndSaysWhatItCouldNotUse) {
  const auto ticks = recording(bouts(20), 3);
  std::string text = policy::recording_header();
  for (const auto& tick : ticks) {
    text += policy::recording_line(tick);
  }
  const auto whole = policy::parse_recording(text);
  EXPECT_TRUE(whole.notes.empty());
  ASSERT_EQ(whole.ticks.size(), ticks.size());
  EXPECT_EQ(whole.ticks[5].service, ticks[5].service);
  EXPECT_EQ(whole.ticks[5].pods[3].pod, ticks[5].pods[3].pod);
  EXPECT_DOUBLE_EQ(whole.ticks[5].pods[3].cpu_cores, ticks[5].pods[3].cpu_cores);
  const auto cut = policy::parse_recording(text.substr(0, text.size() - 30));
  EXPECT_EQ(cut.ticks.size(), ticks.size() - 1);
  ASSERT_EQ(cut.notes.size(), 1U);
  text.replace(text.find('1'), 1, "7");
  const auto other = policy::parse_recording(text);
  EXPECT_EQ(other.ticks.size(), ticks.size());
  ASSERT_EQ(other.notes.size(), 1U);
  EXPECT_NE(other.notes[0].find("version 7"), std::string::npos);
  EXPECT_EQ(policy::parse_recording("[1,\"a/b\",1e999]\n\xff\n{}\n").ticks.size(), 0U);
}

TEST(GainsFile, ComesBackAndRefusesWhatIsNone) {
  policy::GainsByService gains;
  gains[{"shop", "web"}] = {0.5, 0, 0, 0, 0, -1};
  const auto back = policy::parse_gains(policy::serialize_gains(gains));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(*back, gains);
  for (const char* wrong : {"", "[]", "{\"gains\": 9, \"services\": {}}",
                            "{\"gains\": 1, \"services\": {\"a/b\": {\"tilt\": 1.5}}}",
                            "{\"gains\": 1, \"services\": {\"a/b\": {\"speed\": 0}}}"}) {
    EXPECT_FALSE(policy::parse_gains(wrong).ok()) << wrong;
  }
}

TEST(Gains, OfZeroAreTheStrongRuleToTheLastBit) {
  const auto p99 = [](sim::GainsByService gains) {
    return sim::Simulation(bouts(100), sim::queue_rule_technique(std::move(gains)), 5, kIstio).run().p99_ms;
  };
  EXPECT_EQ(p99({}), p99({{sim::kSimulated, spec::Gains{}}}));
}

TEST(Improved, ByBoundsBothWays) {
  std::string why;
  EXPECT_TRUE(improved({{.2, .25, .3, .22}, {0, 0, 0, 0}}, &why)) << why;
  EXPECT_FALSE(improved({{0, 0, 0, 0}, {0, 0, 0, 0}}, &why)) << "a tie is no improvement";
  EXPECT_FALSE(improved({{.9, -.5, .3, .1}, {0, 0, 0, 0}}, &why)) << "perhaps not";
  EXPECT_FALSE(improved({{.2, .25, .3, .22}, {-.1, -.1, -.1, -.1}}, &why)) << "the median pays for it";
  EXPECT_FALSE(improved({{.2}, {0}}, &why)) << "one pair has no bounds";
}

TEST(GainLearner, LearnsWhatPaysInTheTwinTheSameTwice) {
  const auto twin = build(recording(bouts(200), 4), sim::kSimulated, {});
  ASSERT_TRUE(twin.ok());
  const auto learned = learn_gains(*twin, nullptr, {.updates = 6});
  ASSERT_TRUE(learned.ok()) << learned.error().message;
  EXPECT_EQ(learned->updates, 6U);
  for (const double gain : learned->gains) {
    EXPECT_LE(std::abs(gain), 1);
  }
  EXPECT_GT(learned->gains[spec::kReadyGain], 0) << "weights in force sooner are worth it here";
  EXPECT_NEAR(learned->simulated_s, 6 * 4 * twin->recorded_s, 1);
  const auto again = learn_gains(*twin, nullptr, {.updates = 6});
  ASSERT_TRUE(again.ok());
  EXPECT_EQ(again->gains, learned->gains);
}

}  // namespace
}  // namespace ballast::twin
