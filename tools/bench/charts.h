// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace ballast::bench {

/// Pieces of one HTML page: inline SVG that takes its colours from the page's style, and escaped text.

struct Series {
  std::string name;
  std::vector<double> x;
  std::vector<double> y;
  std::vector<double> low;  ///< band; empty: none
  std::vector<double> high;
  bool strong = false;  ///< drawn on top and thicker
};

struct LineChart {
  std::string title;
  std::string x_label;
  std::string y_label;
  std::vector<Series> series;
  std::optional<double> y_from;  ///< where the axis begins; nullopt: at the least value
};

/// As wide as its container, with a legend below.
std::string svg(const LineChart& chart);

struct HeatMap {
  std::string title;
  std::vector<std::string> rows;
  std::vector<std::string> columns;
  std::vector<std::vector<std::optional<double>>> values;  ///< ratios; 1 is neutral
  std::vector<std::string> strong;                         ///< columns to set apart
};

/// A table whose cells are coloured: green below 1, red above, by the logarithm, full at a factor
/// of `full`. The value stands in each cell, so that nothing is told by colour alone.
std::string html(const HeatMap& map, double full = 4);

struct TextTable {
  std::vector<std::string> head;
  std::vector<std::vector<std::string>> rows;
};
/// The first column is a row's name, the others are figures.
std::string html(const TextTable& table);

std::string escaped(const std::string& text);
/// Three figures that count: 0.123, 1.23, 12.3, 123, 1230, 12.3k.
std::string short_number(double value);

}  // namespace ballast::bench
