// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <string>
#include <vector>

#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/call_graph.h"
#include "tools/ctl/latency.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using Align = Table::Align;

Json edge_json(const CallEdge& edge, bool bottleneck) {
  const auto quantile = [&](double q) {
    return static_cast<std::uint64_t>(quantile_ns(edge.value.first_byte, q));
  };
  Json json = {{"from", edge.from}, {"to", edge.to}};
  json["caller"] = name_json(edge.caller, edge.caller_name);
  json["peer"] = {{"address", edge.peer.text},
                  {"pod", edge.peer.pod},
                  {"namespace", edge.peer.ns},
                  {"service", edge.peer.service},
                  {"port", edge.peer.port}};
  json["protocol"] = protocol_name(edge.protocol);
  json["responses"] = edge.value.responses;
  json["errors"] = edge.value.errors;
  json["latency_ns"] = {{"first_byte",
                         {{"count", edge.value.first_byte.count},
                          {"sum", edge.value.first_byte.sum_ns},
                          {"p50", quantile(0.5)},
                          {"p90", quantile(0.9)},
                          {"p99", quantile(0.99)},
                          {"max", edge.value.first_byte.max_ns}}}};
  json["bottleneck"] = bottleneck;
  return json;
}

std::string quoted(const std::string& text) {
  std::string out = "\"";
  for (const char c : text) {
    out += c == '"' || c == '\\' ? std::string("\\") + c : std::string(1, c);
  }
  return out + "\"";
}

std::string dot(const std::vector<CallEdge>& edges, const std::set<std::size_t>& path) {
  std::string text = "digraph calls {\n  rankdir=LR;\n  node [shape=box];\n";
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const CallEdge& edge = edges[i];
    const std::string p99 = human_duration_ns(quantile_ns(edge.value.first_byte, 0.99));
    text += fmt::format(
        "  {} -> {} [label={}{}];\n", quoted(edge.from), quoted(edge.to),
        quoted(fmt::format("{} answers, {} errors, p99 {}", edge.value.responses, edge.value.errors, p99)),
        path.contains(i) ? ", color=red, penwidth=2" : "");
  }
  return text + "}\n";
}

std::string table_text(const std::vector<CallEdge>& edges, const std::set<std::size_t>& path) {
  Table table({{"CALLER"},
               {"PEER"},
               {"PROTOCOL"},
               {"ANSWERS", Align::kRight},
               {"ERRORS", Align::kRight},
               {"P50", Align::kRight},
               {"P99", Align::kRight},
               {"MAX", Align::kRight},
               {"BOTTLENECK"}});
  for (std::size_t i = 0; i < edges.size(); ++i) {
    const CallEdge& edge = edges[i];
    const auto time = [&](double q) { return human_duration_ns(quantile_ns(edge.value.first_byte, q)); };
    table.row({edge.from, edge.to, protocol_name(edge.protocol), std::to_string(edge.value.responses),
               std::to_string(edge.value.errors), time(0.5), time(0.99),
               human_duration_ns(static_cast<double>(edge.value.first_byte.max_ns)),
               path.contains(i) ? "<<" : ""});
  }
  return table.empty()
             ? "No calls were seen.\n"
             : table.text() + "<<: the path on which callers wait longest, by the sum of waiting.\n";
}

}  // namespace

Result<Report> calls(View& view, const std::string& target) {
  const auto rows = view.maps.calls();
  if (!rows) {
    return rows.error();
  }
  const auto pods = view.maps.addresses();
  if (!pods) {
    return pods.error();
  }
  std::vector<CallEdge> edges;
  for (CallEdge& edge : call_edges(*rows, *pods, view.names)) {
    if (matches(edge.caller_name, edge.caller, target) || target == edge.from || target == edge.to ||
        matches({.pod = edge.peer.pod, .ns = edge.peer.ns, .service = edge.peer.service}, 0, target)) {
      edges.push_back(std::move(edge));
    }
  }
  const auto path = bottleneck_path(edges);
  const std::set<std::size_t> on_path(path.begin(), path.end());
  Report report{Json::array(), table_text(edges, on_path), dot(edges, on_path)};
  for (std::size_t i = 0; i < edges.size(); ++i) {
    report.json.push_back(edge_json(edges[i], on_path.contains(i)));
  }
  return report;
}

}  // namespace ballast::ctl
