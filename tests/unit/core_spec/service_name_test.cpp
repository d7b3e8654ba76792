// SPDX-License-Identifier: Apache-2.0
#include "core/spec/service_name.h"

#include <gtest/gtest.h>

namespace ballast::spec {
namespace {

TEST(ServiceName, IsReadAsItIsWritten) {
  const ServiceId service{"shop", "cart"};
  EXPECT_EQ(to_string(service), "shop/cart");
  EXPECT_EQ(parse_service("shop/cart"), service);
}

TEST(ServiceName, BothPartsAreWantedAndNoThird) {
  for (const char* bad : {"", "/", "cart", "shop/", "/cart", "shop/cart/web-0"}) {
    EXPECT_EQ(parse_service(bad), std::nullopt) << bad;
  }
}

}  // namespace
}  // namespace ballast::spec
