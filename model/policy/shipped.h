// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string_view>

namespace ballast::policy {

/// The bytes of model/policy/shipped.bin, compiled in: a parameters file that passed `ballast-bench gate`
/// (README.md beside it says how it was made and how it was judged). What acts, learns and is simulated
/// begins with it where no other file is given.
std::string_view shipped();

}  // namespace ballast::policy
