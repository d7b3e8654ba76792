// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstring>
#include <string_view>

namespace ballast::telemetry {

/// Fills a text field of bpf/wire: NUL-terminated, zero behind. What is longer ends in "...", behind a whole
/// word where there is one.
template <std::size_t N>
void copy_sentence(char (&to)[N], std::string_view from) {
  std::memset(to, 0, N);
  if (from.size() < N) {
    from.copy(to, N - 1);
    return;
  }
  const std::size_t word = from.rfind(' ', N - 4);
  const std::size_t end = word == std::string_view::npos || word == 0 ? N - 4 : word;
  from.copy(to, end);
  std::memcpy(to + end, "...", 3);
}

/// The same, cut at its size: for names, of which a part is still found.
template <std::size_t N>
void copy_text(char (&to)[N], std::string_view from) {
  std::memset(to, 0, N);
  from.copy(to, N - 1);
}

}  // namespace ballast::telemetry
