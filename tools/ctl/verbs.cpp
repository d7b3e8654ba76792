// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/verbs.h"

#include <algorithm>

namespace ballast::ctl {

const Verb* find_verb(const std::string& name) {
  const auto found =
      std::find_if(verbs().begin(), verbs().end(), [&](const Verb& v) { return v.name == name; });
  return found == verbs().end() ? nullptr : &*found;
}

}  // namespace ballast::ctl
