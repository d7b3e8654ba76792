// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/process.h"

namespace ballast::testing {

/// Path of a program of this build: tests stand in the folder below.
inline std::string program(const std::string& name) {
  return (binary_dir().parent_path() / name).string();
}

}  // namespace ballast::testing
