// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

/// Quantities for people: three significant digits and a unit. What is not finite reads "-".
namespace ballast {

std::string human_duration_ns(double ns);  ///< "870 ns", "12.3 µs", "4.56 ms", "1.20 s", "3.5 h"
std::string human_bytes(double bytes);     ///< "512 B", "12.3 MiB"
std::string human_number(double value);    ///< "0.0312", "4.20", "65.1", "1234"
std::string human_percent(double share);   ///< 0.123 -> "12.3 %"

}  // namespace ballast
