// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <initializer_list>
#include <utility>

#include "core/base/options.h"

namespace ballast::testing {

/// Each of these options is refused as wrong use, by its key; those of the defaults are right.
template <typename Options>
void expect_refused(std::initializer_list<std::pair<Options, const char*>> cases) {
  EXPECT_TRUE(options::validate(Options{}).ok());
  for (const auto& [wrong, key] : cases) {
    const Status status = options::validate(wrong);
    ASSERT_FALSE(status.ok()) << key;
    EXPECT_EQ(status.error().kind, Error::Kind::kUsage);
    EXPECT_THAT(status.error().message, ::testing::HasSubstr(key));
  }
}

}  // namespace ballast::testing
