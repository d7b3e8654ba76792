// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/gains_networks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/spec/gains.h"

namespace ballast::sync {
namespace {

constexpr std::uint64_t kNow = 2'000'000'000;

/// So many gradients up and down of the first gain.
void learn(GlobalNetwork& network, int gradients) {
  for (int i = 0; i < gradients; ++i) {
    Gradient gradient{network.version(), 1, 0.5 + 0.01 * i, std::vector<float>(spec::kGains)};
    gradient.values[0] = static_cast<float>(gradient.norm);
    ASSERT_EQ(network.push(gradient), Verdict::kAccepted);
  }
}

TEST(GainsNetworks, GoOnUnderTheNextLeaderWhereTheyWere) {
  GainsNetworks before(3, {});
  EXPECT_EQ(before.state(kNow), "") << "nothing to keep";
  learn(*before.open("shop/web"), 3);
  learn(*before.open("shop/cart"), 2);
  EXPECT_EQ(before.versions(), 5U);
  const GlobalState was = before.open("shop/web")->state();

  GainsNetworks after(4, {});
  ASSERT_TRUE(after.restore(before.state(kNow)));
  EXPECT_TRUE(after.stats().empty()) << "nobody asked for any yet";
  EXPECT_EQ(after.versions(), 5U);
  const GlobalState is = after.open("shop/web")->state();
  EXPECT_EQ(is.parameters.epoch, 4U);
  EXPECT_EQ(is.parameters.version, was.parameters.version);
  EXPECT_EQ(is.parameters.theta, was.parameters.theta);
  EXPECT_EQ(is.mean_square, was.mean_square);
  EXPECT_EQ(after.stats().size(), 1U);
  learn(*after.open("shop/web"), 1);
}

TEST(GainsNetworks, AServiceThatNobodyAsksForIsForgottenAndMakesRoom) {
  GainsNetworks before(3, {}, 2);
  ASSERT_NE(before.open("shop/web"), nullptr);
  ASSERT_NE(before.open("shop/cart"), nullptr);
  ASSERT_EQ(before.open("shop/late"), nullptr);
  GainsNetworks after(4, {}, 2);
  ASSERT_TRUE(after.restore(before.state(kNow)));
  ASSERT_NE(after.open("shop/web"), nullptr);
  const std::uint64_t later = kNow + GainsNetworks::kForgottenS;
  EXPECT_THAT(after.state(later), ::testing::HasSubstr("shop/cart"));
  EXPECT_THAT(after.state(later + 1), ::testing::Not(::testing::HasSubstr("shop/cart")));
  EXPECT_THAT(after.state(later + 1), ::testing::HasSubstr("shop/web"));
  EXPECT_NE(after.open("shop/late"), nullptr);
  EXPECT_EQ(after.open("shop/later"), nullptr) << "both are in use";
}

TEST(GainsNetworks, WhatIsKeptFitsIntoAConfigMapAndIsWhatWasAskedForLast) {
  GainsNetworks before(3, {});
  for (int i = 0; i < 2'000; ++i) {
    ASSERT_NE(before.open("shop/" + std::string(240, 'x') + std::to_string(i)), nullptr);
  }
  GainsNetworks after(4, {});
  ASSERT_TRUE(after.restore(before.state(kNow)));
  ASSERT_NE(after.open("shop/zzz"), nullptr);
  const std::string state = after.state(kNow + 1);
  EXPECT_LE(state.size(), GainsNetworks::kMostBytes + 10);
  EXPECT_THAT(state, ::testing::HasSubstr("shop/zzz"));
  EXPECT_TRUE(GainsNetworks(5, {}).restore(state)) << "it is whole all the same";
}

TEST(GainsNetworks, WhatIsNotAsItWasWrittenIsRefusedWhole) {
  GainsNetworks before(3, {});
  learn(*before.open("shop/web"), 1);
  const std::string good = before.state(kNow);
  const auto with = [&](const std::string& from, const std::string& to) {
    const auto at = good.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    return good.substr(0, at) + to + good.substr(at + from.size());
  };
  for (const std::string& bad :
       {std::string("{}"), std::string("[1]"), good.substr(0, good.size() / 2),
        with("\"gains\":1", "\"gains\":9"), with("shop/web", "shop web"),
        with("\"gains\":[", "\"gains\":[0.1,"), with("\"gains\":[", "\"gains\":[\"x\","),
        with("\"gains\":[-", "\"gains\":[-7"), with("\"mean_square\":[", "\"mean_square\":[-1"),
        with("\"version\":1", "\"version\":-1e30")}) {
    GainsNetworks after(4, {});
    const Status restored = after.restore(bad);
    EXPECT_FALSE(restored) << bad;
    EXPECT_EQ(after.open("shop/web")->state().parameters.theta, std::vector<float>(spec::kGains)) << bad;
  }
}

}  // namespace
}  // namespace ballast::sync
