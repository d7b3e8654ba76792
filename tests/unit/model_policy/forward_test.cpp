// SPDX-License-Identifier: Apache-2.0
#include "model/policy/forward.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>
#include <thread>
#include <vector>

namespace ballast::policy {
namespace {

Parameters random_parameters(std::uint64_t seed) {
  Parameters p = initial(seed);
  std::mt19937_64 random(seed);
  std::normal_distribution<float> normal(0.0F, 0.2F);
  for (float& value : p.theta) {
    value += normal(random);
  }
  p.epoch = 3;
  p.version = seed;
  return p;
}

spec::Observation random_observation(std::mt19937_64& random) {
  std::uniform_real_distribution<float> uniform(-spec::kFeatureBound, spec::kFeatureBound);
  spec::Observation o;
  for (float& value : o) {
    value = uniform(random);
  }
  return o;
}

/// The documented layout, read as plainly as can be, in double.
struct Reference {
  std::vector<double> actor;
  double value = 0;
};

Reference reference(const Parameters& p, const spec::Observation& observation) {
  std::size_t at = 0;
  const auto dense = [&](const std::vector<double>& in, std::size_t outputs, bool relu) {
    std::vector<double> out(outputs, 0.0);
    for (std::size_t o = 0; o < outputs; ++o) {
      for (std::size_t i = 0; i < in.size(); ++i) {
        out[o] += in[i] * static_cast<double>(p.theta[at++]);
      }
    }
    for (std::size_t o = 0; o < outputs; ++o) {
      out[o] += static_cast<double>(p.theta[at++]);
      if (relu) {
        out[o] = std::max(out[o], 0.0);
      }
    }
    return out;
  };
  const std::vector<double> in(observation.begin(), observation.end());
  const std::vector<double> hidden = dense(dense(in, spec::kHidden, true), spec::kHidden, true);
  Reference result;
  result.actor = dense(hidden, spec::kActions, false);
  result.value = dense(hidden, 1, false)[0];
  EXPECT_EQ(at, spec::kParameters);
  return result;
}

TEST(Forward, AgreesWithThePlainReading) {
  std::mt19937_64 random(1);
  for (std::uint64_t seed = 0; seed < 20; ++seed) {
    const Parameters p = random_parameters(seed);
    const auto network = ForwardNetwork::create(p);
    ASSERT_TRUE(network.ok());
    for (int i = 0; i < 20; ++i) {
      const spec::Observation o = random_observation(random);
      const Reference want = reference(p, o);
      const auto logits = (*network)->logits(o);
      for (std::size_t a = 0; a < spec::kActions; ++a) {
        ASSERT_NEAR(logits[a], want.actor[a], 1e-5 * (1 + std::abs(want.actor[a])));
      }
      ASSERT_NEAR((*network)->value(o), want.value, 1e-5 * (1 + std::abs(want.value)));
    }
  }
}

TEST(Forward, UntrainedNetworkPrefersNothing) {
  const auto network = ForwardNetwork::create(initial(0));
  ASSERT_TRUE(network.ok());
  std::mt19937_64 random(2);
  for (int i = 0; i < 100; ++i) {
    const spec::Observation o = random_observation(random);
    for (const float logit : (*network)->logits(o)) {
      ASSERT_EQ(logit, 0.0F);
    }
    ASSERT_EQ((*network)->value(o), 0.0F);
  }
}

TEST(Forward, CarriesEpochAndVersion) {
  const auto network = ForwardNetwork::create(random_parameters(9));
  ASSERT_TRUE(network.ok());
  EXPECT_EQ((*network)->epoch(), 3U);
  EXPECT_EQ((*network)->version(), 9U);
}

TEST(Forward, RefusesWhatCheckRefuses) {
  Parameters p = initial(0);
  p.theta[7] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_FALSE(ForwardNetwork::create(p).ok());
  p = initial(0);
  p.theta.push_back(0);
  EXPECT_FALSE(ForwardNetwork::create(p).ok());
}

TEST(Forward, NanInputReachesTheCaller) {
  const auto network = ForwardNetwork::create(random_parameters(4));
  ASSERT_TRUE(network.ok());
  spec::Observation o{};
  o[0] = std::numeric_limits<float>::quiet_NaN();
  EXPECT_TRUE(std::isnan((*network)->logits(o)[0]));
}

TEST(Forward, ThreadsMayShareOne) {
  const auto network = ForwardNetwork::create(random_parameters(5));
  ASSERT_TRUE(network.ok());
  std::mt19937_64 random(6);
  const spec::Observation o = random_observation(random);
  const auto want = (*network)->logits(o);
  std::vector<int> wrong(4, 0);
  std::vector<std::thread> threads;
  for (std::size_t t = 0; t < wrong.size(); ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 500; ++i) {
        wrong[t] += (*network)->logits(o) != want;
      }
    });
  }
  for (std::thread& thread : threads) {
    thread.join();
  }
  EXPECT_EQ(wrong, std::vector<int>(4, 0));
}

}  // namespace
}  // namespace ballast::policy
