// SPDX-License-Identifier: Apache-2.0
//
// Enters its network namespace while there is one thread yet, and takes the control plane down at the end.
#include <gtest/gtest.h>

#include <cstdio>

#include "control_plane.h"

int main(int argc, char** argv) {
  ::testing::InitGoogleTest(&argc, argv);
  if (!ballast::mesh::missing()) {
    if (const auto wrong = ballast::mesh::enter_namespace()) {
      std::fprintf(stderr, "mesh: %s\n", wrong->c_str());
      return 1;
    }
  }
  const int code = RUN_ALL_TESTS();
  ballast::mesh::stop_plane();
  return code;
}
