// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/call_graph.h"

#include <algorithm>
#include <optional>
#include <set>
#include <tuple>

#include "agent/sample/span.h"
#include "tools/ctl/view.h"

namespace ballast::ctl {
namespace {

std::string pod_name(const std::string& ns, const std::string& pod) {
  return ns.empty() ? pod : ns + "/" + pod;
}

std::uint64_t waiting(const CallEdge& edge) {
  return edge.value.first_byte.sum_ns;
}

/// The edge of `from` (of any caller where none) that has the most waiting.
std::optional<std::size_t> slowest(std::span<const CallEdge> edges, const std::string* from,
                                   const std::set<std::string>& not_from) {
  std::optional<std::size_t> best;
  for (std::size_t i = 0; i < edges.size(); ++i) {
    if ((from == nullptr || edges[i].from == *from) && !not_from.contains(edges[i].from) &&
        (!best || waiting(edges[i]) > waiting(edges[*best]))) {
      best = i;
    }
  }
  return best;
}

}  // namespace

std::vector<CallEdge> call_edges(const std::vector<sample::CallRow>& rows,
                                 const std::vector<sample::PodAddress>& pods, Names& names) {
  std::vector<CallEdge> edges;
  for (const sample::CallRow& row : rows) {
    CallEdge edge;
    edge.caller = row.key.cgroup_id;
    edge.caller_name = names.of(edge.caller);
    edge.protocol = row.key.protocol;
    edge.value = row.value;
    edge.peer.port = row.key.port;
    edge.peer.text = sample::address_text(row.key.peer, row.key.port);
    const auto pod = std::ranges::find(pods, edge.peer.text, &sample::PodAddress::address);
    if (pod != pods.end()) {
      edge.peer.pod = pod->pod;
      edge.peer.ns = pod->ns;
      edge.peer.service = pod->service;
    }
    edge.from = edge.caller_name.pod.empty() ? edge.caller_name.cgroup
                                             : pod_name(edge.caller_name.ns, edge.caller_name.pod);
    edge.to = edge.peer.pod.empty() ? edge.peer.text : pod_name(edge.peer.ns, edge.peer.pod);
    edges.push_back(std::move(edge));
  }
  std::ranges::sort(edges, [](const CallEdge& a, const CallEdge& b) {
    return a.value.responses != b.value.responses ? a.value.responses > b.value.responses
                                                  : std::tie(a.from, a.to) < std::tie(b.from, b.to);
  });
  return edges;
}

std::vector<std::size_t> bottleneck_path(std::span<const CallEdge> edges) {
  std::set<std::string> called;
  for (const CallEdge& edge : edges) {
    called.insert(edge.to);
  }
  std::vector<std::size_t> path;
  std::set<std::string> visited;
  auto next = slowest(edges, nullptr, called);
  next = next ? next : slowest(edges, nullptr, {});
  while (next) {
    path.push_back(*next);
    visited.insert(edges[*next].from);
    next = slowest(edges, &edges[*next].to, visited);
  }
  return path;
}

}  // namespace ballast::ctl
