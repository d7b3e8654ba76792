// SPDX-License-Identifier: Apache-2.0
#include "core/cli/version.h"

namespace ballast {

const char* version() {
  return BALLAST_VERSION;
}

}  // namespace ballast
