// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <string_view>

namespace ballast::telemetry {

/// Fills a text field of bpf/wire: NUL-terminated, cut at its size, zero behind.
template <std::size_t N>
void copy_text(char (&to)[N], std::string_view from) {
  std::memset(to, 0, N);
  from.copy(to, N - 1);
}

}  // namespace ballast::telemetry
