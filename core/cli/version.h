// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace ballast {

/// Of this build, as CMakeLists.txt names it: "0.2.0".
const char* version();

}  // namespace ballast
