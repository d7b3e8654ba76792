// SPDX-License-Identifier: Apache-2.0
#include "core/base/backoff.h"

#include <algorithm>

namespace ballast {

std::chrono::milliseconds Backoff::next() {
  std::uniform_int_distribution<std::chrono::milliseconds::rep> wait(ceiling_.count() / 2, ceiling_.count());
  ceiling_ = std::min(most_, ceiling_ * 2);
  return std::chrono::milliseconds(wait(random_));
}

}  // namespace ballast
