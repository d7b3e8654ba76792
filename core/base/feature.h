// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ballast {

/// Something that the running kernel or host may or may not offer, found by trying it.
struct Feature {
  std::string name;
  bool available = false;
  /// What is done instead, and what is lost by it; empty where it is available.
  std::string fallback;
};

}  // namespace ballast
