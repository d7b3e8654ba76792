// SPDX-License-Identifier: Apache-2.0
#include "core/base/table.h"

#include <algorithm>
#include <utility>

namespace ballast {
namespace {

bool continues(char c) {
  return (static_cast<unsigned char>(c) & 0xC0U) == 0x80U;
}

}  // namespace

std::size_t display_width(const std::string& text) {
  return static_cast<std::size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return !continues(c); }));
}

std::string fit(const std::string& text, std::size_t width) {
  const std::size_t have = display_width(text);
  if (have <= width) {
    return text + std::string(width - have, ' ');
  }
  if (width == 0) {
    return "";
  }
  std::size_t end = 0;
  for (std::size_t column = 0; column + 1 < width; ++column) {
    ++end;
    while (end < text.size() && continues(text[end])) {
      ++end;
    }
  }
  return text.substr(0, end) + "…";
}

Table::Table(std::vector<Column> columns) : columns_(std::move(columns)) {}

void Table::row(std::vector<std::string> cells) {
  cells.resize(columns_.size());
  rows_.push_back(std::move(cells));
}

std::string Table::text(std::size_t width) const {
  std::vector<std::size_t> widths;
  std::vector<std::string> titles;
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    std::size_t widest = display_width(columns_[i].title);
    for (const auto& row : rows_) {
      widest = std::max(widest, display_width(row[i]));
    }
    widths.push_back(widest);
    titles.push_back(columns_[i].title);
  }
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (std::size_t i = 0; i < cells.size(); ++i) {
      const std::string padding(widths[i] - display_width(cells[i]), ' ');
      out += (i == 0 ? "" : "  ");
      out += columns_[i].align == Align::kRight ? padding + cells[i] : cells[i] + padding;
    }
    out.erase(out.find_last_not_of(' ') + 1);
    return (width != 0 && display_width(out) > width ? fit(out, width) : out) + "\n";
  };
  std::string out = line(titles);
  for (const auto& row : rows_) {
    out += line(row);
  }
  return out;
}

}  // namespace ballast
