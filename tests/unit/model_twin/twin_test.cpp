// SPDX-License-Identifier: Apache-2.0
#include "model/twin/twin.h"

#include <gtest/gtest.h>

#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "model/policy/forecast_file.h"
#include "model/policy/gains_file.h"
#include "model/policy/recording_file.h"
#include "model/sim/agent_controller.h"
#include "model/sim/simulation.h"
#include "model/twin/gain_learner.h"
#include "recorded_service.h"

namespace ballast::twin {
namespace {

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
  std::string text = policy::recording_header("queue_rule");
  for (const auto& tick : ticks) {
    text += policy::recording_line(tick);
  }
  const auto whole = policy::parse_recording(text);
  EXPECT_TRUE(whole.notes.empty());
  EXPECT_EQ(whole.policy, "queue_rule");
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
  policy::GainsFile file;
  file.gains[{"shop", "web"}] = {0.5, 0, 0, 0, 0, -1};
  file.twins[{"shop", "web"}] = {600, 2, 41.5, 43, 0.8, 0.75, 0.86, true, "2 gaps"};
  file.twins[{"shop", "db"}].note = "too short";
  const auto back = policy::parse_gains(policy::serialize_gains(file));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(back->gains, file.gains);
  ASSERT_EQ(back->twins.size(), 2U);
  const spec::TwinWord& web = back->twins.at({"shop", "web"});
  EXPECT_EQ(web.gaps, 2U);
  EXPECT_EQ(web.foreseen_p99_ms, 41.5);
  EXPECT_EQ(web.high, 0.86);
  EXPECT_TRUE(web.in_force);
  EXPECT_FALSE(back->twins.at({"shop", "db"}).in_force);
  EXPECT_EQ(back->twins.at({"shop", "db"}).note, "too short");
  for (const char* wrong : {"", "[]", "{\"gains\": 9, \"services\": {}}",
                            "{\"gains\": 1, \"services\": {\"a/b\": {\"tilt\": 1.5}}}",
                            "{\"gains\": 1, \"services\": {\"a/b\": {\"speed\": 0}}}",
                            "{\"gains\": 1, \"services\": {}, \"twins\": {\"a/b\": {\"low\": []}}}"}) {
    EXPECT_FALSE(policy::parse_gains(wrong).ok()) << wrong;
  }
}

TEST(Gains, OfZeroAreTheStrongRuleToTheLastBit) {
  const auto p99 = [](sim::GainsByService gains) {
    return sim::Simulation(bouts(100), sim::queue_rule_technique(std::move(gains)), 5, kIstio).run().p99_ms;
  };
  EXPECT_EQ(p99({}), p99({{sim::kSimulated, spec::Gains{}}}));
}

TEST(Judge, ByBoundsBothWays) {
  EXPECT_TRUE(judge({{.2, .25, .3, .22}, {0, 0, 0, 0}}).improved);
  EXPECT_FALSE(judge({{0, 0, 0, 0}, {0, 0, 0, 0}}).improved) << "a tie is no improvement";
  EXPECT_FALSE(judge({{.9, -.5, .3, .1}, {0, 0, 0, 0}}).improved) << "perhaps not";
  EXPECT_FALSE(judge({{.2, .25, .3, .22}, {-.1, -.1, -.1, -.1}}).improved) << "the median pays for it";
  EXPECT_FALSE(judge({{.2}, {0}}).improved) << "one pair has no bounds";
}

TEST(Judge, ByStudentsBoundsForAnyNumberOfSeeds) {
  const auto upper = [](std::size_t seeds) {  // of gains of -1 and 1 in turn
    Comparison comparison;
    for (std::size_t i = 0; i < seeds; ++i) {
      comparison.p99.push_back(i % 2 == 0 ? -1 : 1);
      comparison.p50.push_back(0);
    }
    return std::log(judge(comparison).p99.high) * std::sqrt(static_cast<double>(seeds - 1));
  };
  EXPECT_NEAR(upper(2), 12.7062, 1e-4);  // Student's t of 1, 11 and 29 degrees of freedom, .975
  EXPECT_NEAR(upper(12), 2.2010, 1e-4);
  EXPECT_NEAR(upper(30), 2.0452, 1e-4);
}

TEST(Parts, TheLastThirdIsForesaidByATwinThatNeverSawIt) {
  const auto ticks = recording(bouts(400), 6);
  const Parts parts = parts_of(ticks, sim::kSimulated);
  EXPECT_EQ(parts.learned.size() + parts.held_out.size(), ticks.size());
  EXPECT_EQ(parts.held_out.size(), ticks.size() / 3);
  EXPECT_LT(parts.learned.back().at_s, parts.held_out.front().at_s);
  const auto learned = build(parts.learned, sim::kSimulated, {});
  ASSERT_TRUE(learned.ok());
  const auto held_out = build(parts.held_out, sim::kSimulated, {}, &*learned);
  ASSERT_TRUE(held_out.ok());
  EXPECT_EQ(held_out->scenario.service.cv, learned->scenario.service.cv);
  EXPECT_NEAR(std::log(held_out->predicted_p99_ms / held_out->happened_p99_ms), 0, 0.6);
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
  const auto noisy = learn_gains(*twin, nullptr, {.updates = 6, .baseline = false});
  ASSERT_TRUE(noisy.ok());
  EXPECT_NE(noisy->gains, learned->gains) << "without the other replays' mean";
}

TEST(Gains, AreLearnedTogetherWithWhoeverElseLearnsThem) {
  const auto twin = build(recording(bouts(240), 4), sim::kSimulated, {});
  ASSERT_TRUE(twin.ok());
  GainOptions options{.updates = 3};
  const auto alone = learn_gains(*twin, nullptr, options);
  ASSERT_TRUE(alone.ok());
  // Nobody answers: alone, to the last bit.
  std::size_t pushes = 0;
  options.sharing = {.newest = [] { return std::nullopt; },
                     .push = [&](const SharedGains&, const spec::Gains&, double) { ++pushes; }};
  const auto unanswered = learn_gains(*twin, nullptr, options);
  ASSERT_TRUE(unanswered.ok());
  EXPECT_EQ(unanswered->gains, alone->gains);
  EXPECT_EQ(unanswered->version, 0U);
  EXPECT_EQ(pushes, 0U);
  // A global network, in which another worker moves the first gain with each push of ours.
  SharedGains global{.epoch = 5, .version = 10};
  options.sharing = {.newest = [&] { return std::optional(global); },
                     .push =
                         [&](const SharedGains& at, const spec::Gains& gradient, double mean_return) {
                           ++pushes;
                           EXPECT_EQ(at.version, global.version) << "taken at what acted";
                           EXPECT_EQ(at.gains, global.gains);
                           EXPECT_TRUE(std::isfinite(mean_return));
                           for (std::size_t i = 0; i < spec::kGains; ++i) {
                             EXPECT_LT(std::abs(gradient[i]), 10);
                             global.gains[i] -= 0.1 * gradient[i];
                           }
                           global.gains[0] = 0.125 * static_cast<double>(pushes);
                           global.version += 2;
                         }};
  const auto together = learn_gains(*twin, nullptr, options);
  ASSERT_TRUE(together.ok());
  EXPECT_EQ(pushes, 3U);
  EXPECT_EQ(together->epoch, 5U);
  EXPECT_EQ(together->version, 16U);
  EXPECT_EQ(together->gains, global.gains) << "what was learned is what all have";
  EXPECT_EQ(together->gains[0], 0.375);
}

TEST(Gains, OfTheGlobalNetworkSurviveAFileAndAreRefusedByVersion) {
  const std::vector<float> gains = {0.5F, -1, 0, 1, 0.25F, -0.125F};
  std::string bytes = policy::serialize_shared_gains(gains);
  const auto back = policy::parse_shared_gains(bytes);
  ASSERT_TRUE(back) << back.error().message;
  EXPECT_EQ(*back, gains);
  EXPECT_FALSE(policy::parse_shared_gains(policy::serialize_shared_gains(std::vector<float>(6, 1.5F))));
  EXPECT_FALSE(policy::parse_shared_gains(bytes.substr(0, bytes.size() - 1)));
  EXPECT_FALSE(policy::parse_forecast(bytes));
  bytes[8] = 7;  // of another version
  const auto other = policy::parse_shared_gains(bytes);
  ASSERT_FALSE(other);
  EXPECT_NE(other.error().message.find("version 7, this build's is 1"), std::string::npos)
      << other.error().message;
}

}  // namespace
}  // namespace ballast::twin
