// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "agent/sample/span.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using Align = Table::Align;
using sample::Span;

Json span_json(const Span& span, const Name& name) {
  Json json = {{"trace_id", sample::hex(span.trace)},
               {"span_id", sample::hex(span.id)},
               {"parent_span_id", span.parent ? Json(sample::hex(*span.parent)) : Json(nullptr)}};
  json["cgroup"] = name_json(span.cgroup, name);
  json["role"] = role_name(span.role);
  json["protocol"] = protocol_name(span.protocol);
  json["method"] = span.head.method;
  json["path"] = span.head.target;
  json["route"] = sample::path_template(span.head.target);
  json["status"] = span.status;
  json["grpc_status"] = span.grpc_status ? Json(*span.grpc_status) : Json(nullptr);
  json["start_ns"] = span.start;
  json["first_byte_ns"] = span.first_byte - span.start;
  json["last_byte_ns"] = span.end - span.start;
  json["local"] = span.local;
  json["peer"] = span.peer;
  json["traceparent"] = span.head.traceparent.has_value();
  return json;
}

/// Parents before children, children by start; `depth` says how far to indent.
void in_order(const std::vector<Span>& spans, const std::multimap<sample::SpanId, std::size_t>& children,
              std::size_t at, std::size_t depth, std::vector<std::pair<std::size_t, std::size_t>>& out) {
  out.emplace_back(at, depth);
  if (out.size() > spans.size()) {
    return;
  }
  const auto [begin, end] = children.equal_range(spans[at].id);
  for (auto child = begin; child != end; ++child) {
    in_order(spans, children, child->second, depth + 1, out);
  }
}

std::vector<std::pair<std::size_t, std::size_t>> trees(const std::vector<Span>& spans) {
  std::map<sample::SpanId, std::size_t> places;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    places[spans[i].id] = i;
  }
  std::multimap<sample::SpanId, std::size_t> children;
  std::vector<std::size_t> roots;
  for (std::size_t i = 0; i < spans.size(); ++i) {
    if (spans[i].parent && places.contains(*spans[i].parent) && *spans[i].parent != spans[i].id) {
      children.emplace(*spans[i].parent, i);
    } else {
      roots.push_back(i);
    }
  }
  std::vector<std::pair<std::size_t, std::size_t>> order;
  for (const std::size_t root : roots) {
    in_order(spans, children, root, 0, order);
  }
  return order;
}

}  // namespace

Result<Report> spans(View& view, const std::string& target) {
  auto rows = view.maps.spans();
  if (!rows) {
    return rows.error();
  }
  std::ranges::sort(*rows, {}, [](const sample::SpanRow& row) { return row.value.start_ns; });
  sample::Http2Heads heads;
  std::vector<Span> all;
  for (const sample::SpanRow& row : *rows) {
    all.push_back(sample::read_span(row.value, heads));
  }
  sample::join_spans(all);
  Report report{Json::array(), "", ""};
  Table table({{"TRACE"},
               {"SPAN"},
               {"ROLE"},
               {"STATUS", Align::kRight},
               {"PEER"},
               {"FIRST BYTE", Align::kRight},
               {"LAST BYTE", Align::kRight}});
  for (const auto& [at, depth] : trees(all)) {
    const Span& span = all[at];
    const Name& name = view.names.of(span.cgroup);
    if (!matches(name, span.cgroup, target)) {
      continue;
    }
    report.json.push_back(span_json(span, name));
    const auto time = [&](MonotonicNs until) {
      return until < span.start ? "-" : human_duration_ns(static_cast<double>(until - span.start));
    };
    table.row({depth == 0 ? sample::hex(span.trace).substr(0, 8) : "",
               std::string(2 * depth, ' ') + label(name) + " " + span.head.method + " " + span.head.target,
               role_name(span.role), std::to_string(span.status), span.peer, time(span.first_byte),
               time(span.end)});
  }
  report.text =
      table.empty() ? "No spans: sampling is off (spans.every) or nothing was sampled yet.\n" : table.text();
  return report;
}

}  // namespace ballast::ctl
