// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace ballast {

/// Columns on a terminal: their number on the screen, not their bytes (UTF-8, no wide characters).
std::size_t display_width(const std::string& text);
/// `text` padded or cut to exactly `width` columns; a cut ends in "…".
std::string fit(const std::string& text, std::size_t width);

/// A table of text with aligned columns, two spaces apart, readable without colour.
class Table {
 public:
  enum class Align { kLeft, kRight };
  struct Column {
    std::string title;
    Align align = Align::kLeft;
  };

  explicit Table(std::vector<Column> columns);
  /// Missing cells are empty, surplus ones dropped.
  void row(std::vector<std::string> cells);
  bool empty() const { return rows_.empty(); }
  /// Title line and one line a row, each ending in a newline. Where `width` is not 0 the last
  /// column is cut so that no line is longer.
  std::string text(std::size_t width = 0) const;

 private:
  std::vector<Column> columns_;
  std::vector<std::vector<std::string>> rows_;
};

}  // namespace ballast
