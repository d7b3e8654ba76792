// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "model/env/acrobot.h"
#include "model/env/cart_pole.h"
#include "model/env/registry.h"
#include "model/env/two_servers.h"

namespace ballast::env {
namespace {

using State = std::array<double, 4>;

void expect_near(const State& got, const State& wanted) {
  for (std::size_t i = 0; i < got.size(); ++i) {
    EXPECT_NEAR(got[i], wanted[i], 1e-12) << "coordinate " << i;
  }
}

Outcome act(Environment& environment, std::size_t action) {
  const std::array<std::size_t, 1> actions = {action};
  return environment.step(actions);
}

// The states are Gymnasium 1.0.0's own, from the same start and actions.
TEST(CartPole, MovesAsGymnasiumDoes) {
  CartPole world;
  world.reset(1);
  world.set_state({0.01, -0.02, 0.03, 0.04});
  act(world, 1);
  expect_near(world.state(),
              {0.009600000000000001, 0.17467919574755525, 0.030799999999999998, -0.2430687179600081});
  act(world, 1);
  act(world, 0);
  act(world, 1);
  expect_near(world.state(),
              {0.02395795968820654, 0.3687690101747617, 0.010918284757949377, -0.5129163478026587});
}

TEST(CartPole, EndsWhereGymnasiumEnds) {
  CartPole world;
  world.reset(1);
  world.set_state({2.39, 1.0, 0, 0});
  const Outcome left = act(world, 1);
  EXPECT_TRUE(left.terminated);
  EXPECT_EQ(left.reward, 1);
  world.reset(1);
  world.set_state({0, 0, 0.2095, 0.0});  // 12 degrees are .20944
  EXPECT_TRUE(act(world, 0).terminated);
  world.reset(1);
  world.set_state({0, 0, 0.2094, 0.0});
  EXPECT_FALSE(act(world, 0).terminated);
}

TEST(CartPole, IsTruncatedAfterFiveHundredSteps) {
  CartPole world;
  world.reset(3);
  for (int step = 1; step < 500; ++step) {
    ASSERT_FALSE(act(world, static_cast<std::size_t>(step % 2)).truncated) << step;
    world.set_state({0, 0, 0, 0});
  }
  EXPECT_TRUE(act(world, 1).truncated);
}

TEST(Acrobot, MovesAsGymnasiumDoes) {
  Acrobot world;
  world.reset(1);
  world.set_state({0.05, -0.03, 0.02, -0.04});
  const Outcome first = act(world, 2);
  EXPECT_EQ(first.reward, -1);
  expect_near(world.state(),
              {0.03390161375594522, 0.0043769288531439535, -0.17638111787949443, 0.37486153494590896});
  act(world, 2);
  act(world, 0);
  act(world, 1);
  expect_near(world.state(),
              {-0.06699426305526684, 0.19155158763669922, 0.01985301624616262, -0.14734904314479125});
}

TEST(Acrobot, WrapsAnglesBoundsVelocitiesAndEndsAtTheLine) {
  Acrobot world;
  world.reset(1);
  world.set_state({3.0, 0.5, 2.0, -1.0});
  const Outcome up = act(world, 0);
  EXPECT_TRUE(up.terminated);
  EXPECT_EQ(up.reward, 0);
  expect_near(world.state(),
              {-2.8734451516902064, 0.28922054414490905, 2.186641464550782, -1.1996064950226955});
  world.reset(1);
  world.set_state({2.0, 2.5, 12.0, -27.0});
  act(world, 0);
  expect_near(world.state(),
              {-2.0374965765635187, -2.5628420203212396, 9.542554909491663, -21.556212183641627});
}

TEST(TwoServers, LawsSumToOneAndTurnAwayWhatDoesNotFit) {
  for (std::size_t state = 0; state < TwoServers::kStates; ++state) {
    for (std::size_t action = 0; action < 2; ++action) {
      double sum = 0;
      for (const auto& branch : TwoServers::branches(state, action)) {
        sum += branch.probability;
        EXPECT_LT(branch.next, TwoServers::kStates);
      }
      EXPECT_NEAR(sum, 1, 1e-12);
    }
  }
  const auto full = TwoServers::branches(TwoServers::state_of(4, 1), 0);
  EXPECT_EQ(full[0].next, TwoServers::state_of(4, 1));
  EXPECT_DOUBLE_EQ(full[0].reward, -5 - TwoServers::kTurnedAway);
  EXPECT_EQ(full[1].next, TwoServers::state_of(3, 1));
}

TEST(Registry, AnUnknownNameListsTheKnownOnes) {
  const auto none = find_environment("pong");
  ASSERT_FALSE(none.ok());
  EXPECT_EQ(none.error().exit_code(), 2);
  for (const auto& name : environment_names()) {
    EXPECT_NE(none.error().message.find(name), std::string::npos) << none.error().message;
    EXPECT_TRUE(find_environment(name).ok()) << name;
  }
}

TEST(Registry, EpisodesAreTheSeedsAlone) {
  for (const std::string name : {"cartpole", "acrobot", "two_servers"}) {
    const auto make = find_environment(name);
    ASSERT_TRUE(make.ok());
    const auto one = (*make)();
    const auto two = (*make)();
    for (auto* world : {one.get(), two.get()}) {
      world->reset(7);
      for (int i = 0; i < 5; ++i) {
        act(*world, 0);
      }
    }
    EXPECT_TRUE(std::ranges::equal(one->context(), two->context())) << name;
    two->reset(8);
    one->reset(7);
    EXPECT_FALSE(std::ranges::equal(one->context(), two->context())) << name;
  }
}

}  // namespace
}  // namespace ballast::env
