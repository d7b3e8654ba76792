// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <string>

#include "core/base/file.h"

namespace ballast::golden {

/// The bits of a value, for rows that have to be equal and not only alike.
template <typename T>
void add_bits(std::string& to, const T& value) {
  to.append(reinterpret_cast<const char*>(&value), sizeof value);
}

/// Of this machine's elementary functions: the C library picks them by the processor, and another last bit is
/// another run of a simulator.
inline std::uint32_t mathematics() {
  std::string bits;
  for (int i = 1; i <= 1000; ++i) {
    const double x = i / 37.0;
    for (const double y : {std::exp(-x), std::log(x), std::pow(x, 0.37), std::log1p(x), std::cos(x),
                           static_cast<double>(std::tanh(static_cast<float>(x)))}) {
      add_bits(bits, y);
    }
  }
  return crc32(bits);
}

/// Holds `made` against tests/golden/NAME.txt, byte for byte. With BALLAST_REGENERATE set the file is made
/// anew (tests/golden/regenerate.sh). A machine whose mathematics are not the file's skips.
inline void compare(const std::string& name, const std::string& made) {
  const auto file =
      std::filesystem::path(std::getenv("BALLAST_SOURCE_DIR")) / "tests/golden" / (name + ".txt");
  const std::string head = "mathematics " + std::to_string(mathematics()) + "\n";
  if (std::getenv("BALLAST_REGENERATE") != nullptr) {
    ASSERT_TRUE(write_file_atomic(file, head + made).ok());
    return;
  }
  const auto kept = read_file(file);
  ASSERT_TRUE(kept.ok()) << kept.error().message;
  if (!kept->starts_with(head)) {
    GTEST_SKIP() << "made where exp, log and their like end in other bits";
  }
  EXPECT_EQ(head + made, *kept) << "see tests/golden/regenerate.sh, if it is meant to be another";
}

}  // namespace ballast::golden
