// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/routes.h"

#include <gtest/gtest.h>

#include <set>
#include <string>

namespace ballast::sample {
namespace {

TEST(Routes, IdsAndQueriesAreNoRoutes) {
  Routes routes;
  EXPECT_EQ(routes.of("/users/17/orders?page=2"), "/users/{id}/orders");
  EXPECT_EQ(routes.of("/users/18/orders"), "/users/{id}/orders");
  EXPECT_EQ(routes.of("/a/0f6e3b1c-7777-4222-8888-d4d0f7c5ee10"), "/a/{id}");
  EXPECT_EQ(routes.of("/"), "/");
  EXPECT_EQ(routes.of("/cart"), "/cart");
  EXPECT_EQ(routes.of("*"), Routes::kOther);
  EXPECT_EQ(routes.of(""), Routes::kOther) << "a path that is not known";
}

TEST(Routes, ASegmentOfManyValuesBecomesAName) {
  Routes routes;
  EXPECT_EQ(routes.of("/shop/checkout"), "/shop/checkout");
  for (std::size_t i = 0; i < Routes::kVariants; ++i) {
    const std::string name = std::string("item") + static_cast<char>('a' + i) + "x";
    EXPECT_EQ(routes.of("/products/" + name + "/view"), "/products/" + name + "/view");
  }
  const auto before = routes.folds();
  EXPECT_EQ(routes.of("/products/onemore/view"), "/products/{name}/view");
  EXPECT_GT(routes.folds(), before);
  EXPECT_EQ(routes.of("/products/itemax/view"), "/products/{name}/view") << "those given before too";
  EXPECT_EQ(routes.of("/shop/checkout"), "/shop/checkout");
}

TEST(Routes, HoweverManyPathsThereAreTheyAreFew) {
  Routes routes;
  std::set<std::string> seen;
  for (int i = 0; i < 20'000; ++i) {
    std::string path;
    for (int k = i, depth = 0; depth < 1 + i % 12; ++depth, k /= 3) {
      path += std::string("/") + static_cast<char>('g' + (k + depth) % 17) + std::string(1 + k % 5, 'z');
    }
    seen.insert(routes.of(path));
  }
  // What became part of another was a name once.
  std::set<std::string> now;
  for (const std::string& route : seen) {
    now.insert(routes.of(route));
  }
  EXPECT_LE(now.size(), Routes::kMost + 1);
  EXPECT_TRUE(now.contains(Routes::kOther));
}

TEST(Routes, PatternsOfTheConfigurationComeFirst) {
  Routes routes(route_patterns("/users/{name}, /static/*"));
  EXPECT_EQ(routes.of("/users/ada"), "/users/{name}");
  EXPECT_EQ(routes.of("/users/ada/orders"), "/users/ada/orders");
  EXPECT_EQ(routes.of("/static/js/app.js?v=1"), "/static/*");
}

TEST(Routes, PatternsThatMatchEverythingAreWrong) {
  EXPECT_FALSE(route_patterns_form("").has_value());
  EXPECT_FALSE(route_patterns_form("/users/{id}, /static/*").has_value());
  for (const char* wrong : {"/*", "/{a}", "/{a}/{b}/*", "/", "users", "/a/*/b", "/a, /*"}) {
    EXPECT_TRUE(route_patterns_form(wrong).has_value()) << wrong;
  }
}

}  // namespace
}  // namespace ballast::sample
