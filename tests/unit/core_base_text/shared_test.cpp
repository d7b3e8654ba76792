// SPDX-License-Identifier: Apache-2.0
#include "core/base/shared.h"

#include <gtest/gtest.h>

#include <string>
#include <thread>
#include <vector>

namespace ballast {
namespace {

using Labels = Shared<std::map<std::string, std::string>>;

TEST(Shared, EqualValuesAreOneInMemory) {
  const Labels one = {{"app", "web"}};
  const Labels other(std::map<std::string, std::string>{{"app", "web"}});
  EXPECT_EQ(&*one, &*other);
  EXPECT_EQ(one, other);
  EXPECT_NE(one, (Labels{{"app", "db"}}));
  EXPECT_NE(one, Labels());
  EXPECT_EQ(Labels(std::map<std::string, std::string>()), Labels());
  EXPECT_TRUE(Labels()->empty());
}

TEST(Shared, ValuesComeAndGoInSeveralThreads) {
  std::vector<std::jthread> threads;
  for (int k = 0; k < 4; ++k) {
    threads.emplace_back([] {
      for (int i = 0; i < 20'000; ++i) {
        const Labels one = {{"n", std::to_string(i % 3)}};
        ASSERT_EQ(one->at("n"), std::to_string(i % 3));
      }
    });
  }
}

}  // namespace
}  // namespace ballast
