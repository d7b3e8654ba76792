// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "agent/sample/maps.h"
#include "tools/ctl/names.h"

namespace ballast::ctl {

/// The far end of a call, as far as it has a name.
struct Peer {
  std::string text;  ///< ADDRESS:PORT, [ADDRESS]:PORT for IPv6
  std::uint16_t port = 0;
  std::string pod;  ///< empty: no pod is known at this address
  std::string ns;
  std::string service;
};

/// All calls of one cgroup to one peer in one protocol. `from` and `to` are the names under which
/// an edge's ends meet: namespace/pod where there is a pod, else the cgroup or the address.
struct CallEdge {
  sample::CgroupId caller = 0;
  Name caller_name;
  Peer peer;
  std::uint8_t protocol = 0;
  ballast_call_value value{};
  std::string from;
  std::string to;
};

/// Resolves the rows of the `calls` map, busiest first. A peer is named only when a pod is known at its
/// very address and port.
std::vector<CallEdge> call_edges(const std::vector<sample::CallRow>& rows,
                                 const std::vector<sample::PodAddress>& pods, Names& names);

/// From a caller that nobody calls (or, in a circle, from the edge with the most waiting), always
/// along the edge on which its callers waited longest in sum; ends where the callee calls nobody.
/// Indices into `edges`, in the order of the calls. Empty without edges.
std::vector<std::size_t> bottleneck_path(std::span<const CallEdge> edges);

}  // namespace ballast::ctl
