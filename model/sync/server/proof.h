// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"

namespace ballast::sync {

/// Says which node a bearer token proves, where nodes have no certificates. Thread-safe; may block.
class Proof {
 public:
  virtual ~Proof() = default;
  /// Errors: kPrivilege, the token proves nothing; anything else: it could not be asked now.
  virtual Result<std::string> node_of(const std::string& token) = 0;
};

}  // namespace ballast::sync
