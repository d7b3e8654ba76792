// SPDX-License-Identifier: Apache-2.0
#include "model/policy/shipped.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "core/base/file.h"
#include "model/policy/forward.h"
#include "model/policy/parameters.h"

namespace ballast::policy {
namespace {

std::string text_of(const char* file) {
  const auto read = read_file(std::string(BALLAST_POLICY_DIR) + "/" + file);
  return read ? *read : read.error().message;
}

std::string hex(std::uint32_t value) {
  std::string out;
  for (int shift = 28; shift >= 0; shift -= 4) {
    out += "0123456789abcdef"[value >> shift & 0xF];
  }
  return out;
}

TEST(Shipped, IsAParametersFileOfThisSpec) {
  EXPECT_EQ(shipped(), text_of("shipped.bin"));
  const auto parameters = parse(shipped());  // refuses another spec version or shape
  ASSERT_TRUE(parameters.ok()) << parameters.error().message;
  EXPECT_TRUE(ForwardNetwork::create(*parameters).ok());
  EXPECT_NE(parameters->theta, initial(0).theta);
}

TEST(Shipped, ItsGateTableIsOfTheseBytesAndPassed) {
  const auto gate = nlohmann::json::parse(text_of("shipped_gate.json"), nullptr, false);
  ASSERT_TRUE(gate.is_object());
  EXPECT_EQ(gate.at("candidate_crc32"), hex(fingerprint(shipped())));
  EXPECT_EQ(gate.at("passed"), true);
  EXPECT_EQ(gate.at("tolerance"), 1.02);
  EXPECT_GT(gate.at("log_p99_gain_over_prior").at("low"), 0.0);
  EXPECT_GE(gate.at("scenarios").size(), 18U);
  EXPECT_NE(text_of("README.md").find(hex(fingerprint(shipped()))), std::string::npos)
      << "README.md tells the provenance of other bytes";
}

}  // namespace
}  // namespace ballast::policy
