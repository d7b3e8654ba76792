// SPDX-License-Identifier: Apache-2.0
//
// What the global network believes of its workers: batches, outliers, replays, quarantine.
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "model/sync/network/global_network.h"
#include "model/sync/network/robust.h"
#include "model/sync/network/worker_table.h"

namespace ballast::sync {
namespace {

using namespace std::chrono_literals;

std::unique_ptr<GlobalNetwork> make(GlobalOptions options, std::size_t parameters = 4) {
  options.parameters = parameters;
  GlobalState state{{7, 100, std::vector<float>(parameters, 0.0F)}, std::vector<float>(parameters, 0.0F)};
  auto network = GlobalNetwork::create(std::move(state), options);
  EXPECT_TRUE(network);
  return network ? std::move(*network) : nullptr;
}

Gradient gradient(std::vector<float> values, Version acted = {7, 100}) {
  double sum = 0;
  for (const float x : values) {
    sum += static_cast<double>(x) * static_cast<double>(x);
  }
  return {acted, 20, std::sqrt(sum), std::move(values)};
}

// theta moves by lr * sign(g) in the first step: alpha 0, no epsilon to speak of.
constexpr RmsProp kSigned{.learning_rate = 1, .alpha = 0, .epsilon = 1e-12};

TEST(TrimmedMean, LeavesOutTheEndsOfEachCoordinate) {
  const std::vector<std::vector<float>> rows = {{1, 50},     {2, 10},    {3, -1e30F}, {4, 20},
                                                {1e30F, 30}, {5, 1e30F}, {-1e30F, 40}};
  // floor(.2 * 7) = 1 goes at either end: {1..5} and {10, 20, 30, 40, 50}.
  EXPECT_EQ(trimmed_mean(rows, 0.2), (std::vector<float>{3, 30}));
}

TEST(TrimmedMean, WithoutTrimItIsTheMean) {
  EXPECT_EQ(trimmed_mean(std::vector<std::vector<float>>{{1}, {2}, {6}}, 0), std::vector<float>{3});
  EXPECT_EQ(trimmed_mean(std::vector<std::vector<float>>{{4, -4}}, 0.2), (std::vector<float>{4, -4}));
}

TEST(TrimmedMean, AgreesWithSortingForEveryCountAndLength) {
  std::mt19937 random(3);
  std::normal_distribution<float> normal;
  for (const std::size_t k : {1, 2, 5, 8, 31, 64, 70}) {
    std::vector<std::vector<float>> rows(k, std::vector<float>(37));
    for (auto& row : rows) {
      for (float& x : row) {
        x = normal(random);
      }
    }
    const auto mean = trimmed_mean(rows, 0.25);
    for (std::size_t at = 0; at < 37; ++at) {
      std::vector<float> column;
      for (const auto& row : rows) {
        column.push_back(row[at]);
      }
      std::sort(column.begin(), column.end());
      const std::size_t cut = k / 4;
      double sum = 0;
      for (std::size_t i = cut; i < k - cut; ++i) {
        sum += static_cast<double>(column[i]);
      }
      EXPECT_NEAR(mean[at], sum / static_cast<double>(k - 2 * cut), 1e-6) << k << " at " << at;
    }
  }
}

TEST(RunningMedian, FollowsItsWindow) {
  RunningMedian median;
  EXPECT_EQ(median.median(), 0);
  for (const double x : {5.0, 1.0, 3.0}) {
    median.add(x);
  }
  EXPECT_EQ(median.median(), 3);
  for (std::size_t i = 0; i < RunningMedian::kWindow; ++i) {
    median.add(9);
  }
  EXPECT_EQ(median.median(), 9);
}

TEST(GlobalRules, KIsASixteenthOfTheWorkersAndOneVersionIsOneBatch) {
  auto network = make({});
  for (int i = 0; i < 64; ++i) {
    EXPECT_EQ(network->push("w" + std::to_string(i), gradient({1, static_cast<float>(i), 0, 1})),
              Verdict::kAccepted);
  }
  // K is 1 for the first 31 workers, 2 for the next pushes, 3 from the 48th worker on.
  const auto before = network->version().version;
  EXPECT_EQ(network->stats().workers, 64U);
  for (int i = 0; i < 64; ++i) {
    network->push("w" + std::to_string(i), gradient({2, static_cast<float>(i), 0, 1}, {7, before}));
  }
  EXPECT_EQ(network->stats().batch, 4U);
  EXPECT_NEAR(static_cast<double>(network->version().version - before), 16, 2);
}

TEST(GlobalRules, AFifthOfLiarsInABatchMovesNothing) {
  auto network = make({.rms_prop = kSigned, .clip_norm = 1e9, .batch_most = 8});
  for (int i = 0; i < 160; ++i) {  // 160 workers: K would be 10
    network->push("w" + std::to_string(i), gradient({1, 1, 1, 1 + 0.001F * static_cast<float>(i)}));
  }
  network->flush();
  const auto before = network->state().parameters.theta;
  const Version acted = network->version();
  for (int i = 0; i < 8; ++i) {
    const float lie = i == 3 ? -1e9F : 1;
    network->push("v" + std::to_string(i),
                  gradient({lie, lie, lie, 1 + 0.001F * static_cast<float>(i)}, acted));
  }
  ASSERT_EQ(network->version().version, acted.version + 1) << "one batch of eight";
  const auto after = network->state().parameters.theta;
  for (std::size_t i = 0; i < after.size(); ++i) {
    EXPECT_NEAR(after[i], before[i] - 1, 1e-4) << "a step of the honest sign, coordinate " << i;
  }
}

TEST(GlobalRules, ABatchThatWaitsTooLongIsAppliedAsItIs) {
  auto network = make({.batch_age = 0ms});
  for (int i = 0; i < 40; ++i) {
    network->push("w" + std::to_string(i), gradient({1, static_cast<float>(i), 0, 1}));
  }
  network->flush();
  const auto before = network->version();
  network->push("w0", gradient({3, 2, 1, 0}, before));
  ASSERT_EQ(network->stats().buffered, 1U);
  EXPECT_EQ(network->version(), before);
  network->tick();
  EXPECT_EQ(network->version().version, before.version + 1);
  EXPECT_EQ(network->stats().buffered, 0U);
}

TEST(GlobalRules, OutliersAreShortenedToFourMediansAndMonstersRefused) {
  auto network = make({.rms_prop = {.learning_rate = 1, .alpha = 0, .epsilon = 1}});
  for (int i = 0; i < 20; ++i) {
    ASSERT_EQ(network->push("w", gradient({1, 0, 0, 0.001F * static_cast<float>(i)})), Verdict::kAccepted);
  }
  const Version now = network->version();
  ASSERT_EQ(network->push("w", gradient({30, 0, 0, 0}, now)), Verdict::kAccepted);
  EXPECT_NEAR(network->state().mean_square[0], 16, 0.1) << "as if it were 4";
  for (int i = 0; i < 10; ++i) {  // an honest worker's rare episode is far longer than its others
    EXPECT_EQ(network->push("w", gradient({5000, 0, 0, static_cast<float>(i)}, network->version())),
              Verdict::kAccepted);
  }
  EXPECT_EQ(network->stats().quarantines, 0U);
  std::string why;
  EXPECT_EQ(network->push("w", gradient({1e9F, 0, 0, 0}, network->version()), &why), Verdict::kNorm);
  EXPECT_NE(why.find("median"), std::string::npos) << why;
}

TEST(GlobalRules, AnExplodingWorkerMovesNothingBeforeThereIsAMedianEither) {
  auto network = make({});
  const auto released = network->snapshot();
  const GlobalState before = network->state();
  for (int i = 0; i < 8; ++i) {  // finite, enormous, never the same
    const float big = 1e30F * static_cast<float>(i + 1);
    std::string why;
    const Verdict verdict = network->push("foreign", gradient({big, -big, big, big}), &why);
    EXPECT_TRUE(verdict == Verdict::kNorm || verdict == Verdict::kQuarantined) << why;
  }
  network->flush();
  EXPECT_EQ(network->snapshot()->bytes, released->bytes);
  EXPECT_EQ(network->version(), released->version);
  EXPECT_EQ(network->state().mean_square, before.mean_square) << "later steps would be too short";
  EXPECT_EQ(network->stats().quarantines, 1U);
  EXPECT_EQ(network->push("honest", gradient({1, 0, 0, 0})), Verdict::kAccepted);
}

TEST(GlobalRules, TheLaterTheLighterAndFarBeyondTheMedianNotAtAll) {
  auto network =
      make({.rms_prop = {.learning_rate = 1e-3, .alpha = 0, .epsilon = 1}, .staleness_limit = 1000});
  for (int i = 0; i < 60; ++i) {  // all fresh: median 0
    ASSERT_EQ(network->push("w", gradient({1, 0, 0, 0.001F * static_cast<float>(i)}, network->version())),
              Verdict::kAccepted);
  }
  const Version now = network->version();
  ASSERT_EQ(network->push("w", gradient({0, 1, 0, 0}, {7, now.version - 3})), Verdict::kAccepted);
  EXPECT_NEAR(network->state().mean_square[1], 1.0 / 16, 1e-6) << "weight (0 + 1) / (3 + 1), squared";
  EXPECT_EQ(network->push("w", gradient({0, 1, 1, 0}, {7, now.version - 30})), Verdict::kStale);
}

TEST(GlobalRules, AReplayIsFoundWhateverVersionItClaims) {
  auto network = make({});
  ASSERT_EQ(network->push("w", gradient({1, 2, 3, 4})), Verdict::kAccepted);
  EXPECT_EQ(network->push("w", gradient({1, 2, 3, 4}, network->version())), Verdict::kReplay);
  EXPECT_EQ(network->push("w", gradient({1, 2, 3, 4})), Verdict::kAccepted)
      << "two equal rollouts at one theta are honest";
  EXPECT_EQ(network->push("other", gradient({1, 2, 3, 4}, network->version())), Verdict::kAccepted);
  EXPECT_EQ(network->push("w", gradient({0, 0, 0, 0}, network->version())), Verdict::kAccepted);
  EXPECT_EQ(network->push("w", gradient({0, 0, 0, 0}, network->version())), Verdict::kAccepted)
      << "says nothing";
}

TEST(GlobalRules, AWorkerThatKeepsSendingBadGradientsIsShutOutAndTheReasonIsReadable) {
  auto network = make({});
  const auto poison = gradient({std::numeric_limits<float>::quiet_NaN(), 0, 0, 0});
  for (int i = 0; i < 5; ++i) {
    EXPECT_EQ(network->push("bad", poison), Verdict::kNotFinite);
  }
  EXPECT_EQ(network->push("bad", gradient({1, 0, 0, 0})), Verdict::kQuarantined);
  EXPECT_EQ(network->push("good", gradient({1, 0, 0, 0})), Verdict::kAccepted) << "nobody else is";
  const auto stats = network->stats();
  EXPECT_EQ(stats.quarantined, 1U);
  EXPECT_EQ(stats.quarantines, 1U);
  const auto workers = network->worst_workers(1);
  ASSERT_EQ(workers.size(), 1U);
  EXPECT_EQ(workers[0].id, "bad");
  EXPECT_GT(workers[0].quarantined_s, 0);
  EXPECT_NE(workers[0].last_bad.find("not_finite"), std::string::npos) << workers[0].last_bad;
}

TEST(GlobalRules, BeingLateOrOfAFormerEpochIsNoCrime) {
  auto network = make({.staleness_limit = 10});
  for (int i = 0; i < 50; ++i) {
    EXPECT_EQ(network->push("w", gradient({1, 0, 0, static_cast<float>(i)}, {6, 100})), Verdict::kEpoch);
    EXPECT_EQ(network->push("w", gradient({1, 0, 0, static_cast<float>(i)}, {7, 50})), Verdict::kStale);
  }
  EXPECT_EQ(network->stats().quarantined, 0U);
}

TEST(GlobalRules, PlainTakesWhatMnihsWouldTake) {
  auto network = make({.robust = false});
  for (int i = 0; i < 100; ++i) {
    EXPECT_EQ(network->push("w" + std::to_string(i), gradient({1, 2, 3, 4}, network->version())),
              Verdict::kAccepted);
  }
  EXPECT_EQ(network->version(), (Version{7, 200}));
}

TEST(WorkerTable, QuarantineEndsAndDoubles) {
  WorkerTable table({.bad_limit = 2, .first_quarantine = 10s, .longest_quarantine = 25s, .pushes_per_s = 0});
  WorkerTable::Time now{};
  table.bad("w", true, "one", now);
  ASSERT_TRUE(table.bad("w", true, "two", now));
  for (const auto length : {10s, 20s, 25s, 25s}) {
    EXPECT_EQ(table.admit("w", now + length - 1s), WorkerTable::Admission::kQuarantined);
    now += length + 1s;
    EXPECT_EQ(table.admit("w", now), WorkerTable::Admission::kFine);
    EXPECT_TRUE(table.bad("w", true, "again", now)) << "on probation";
  }
}

TEST(WorkerTable, GoodGradientsForgiveBadOnes) {
  WorkerTable table({.bad_limit = 3});
  const WorkerTable::Time now{};
  for (int round = 0; round < 20; ++round) {
    EXPECT_FALSE(table.bad("w", true, "bad", now));
    for (int i = 0; i < 10; ++i) {
      table.good("w", 0, {}, now);
    }
  }
}

TEST(WorkerTable, LimitsTheRateOfEachWorker) {
  WorkerTable table({.pushes_per_s = 10});
  WorkerTable::Time now{};
  int fine = 0;
  for (int i = 0; i < 100; ++i) {
    fine += table.admit("w", now) == WorkerTable::Admission::kFine ? 1 : 0;
  }
  EXPECT_EQ(fine, 20) << "a burst";
  EXPECT_EQ(table.admit("v", now), WorkerTable::Admission::kFine);
  now += 1s;
  fine = 0;
  for (int i = 0; i < 100; ++i) {
    fine += table.admit("w", now) == WorkerTable::Admission::kFine ? 1 : 0;
  }
  EXPECT_EQ(fine, 10);
}

TEST(WorkerTable, IsBoundedAndForgetsWhoWasSilentForLongest) {
  WorkerTable table({.most = 3});
  WorkerTable::Time now{};
  for (const char* id : {"a", "b", "c", "a", "d"}) {
    table.good(id, 0, {}, now);
    now += 1s;
  }
  EXPECT_EQ(table.size(), 3U);
  const auto all = table.worst(10, now);
  EXPECT_TRUE(std::none_of(all.begin(), all.end(), [](const auto& w) { return w.id == "b"; }));
}

}  // namespace
}  // namespace ballast::sync
