// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/identity/identity.h"
#include "agent/sample/sample.h"
#include "core/spec/latency.h"
#include "core/spec/telemetry.h"

namespace ballast::observe {

/// What callers on this node saw of the endpoints on it, by the callers' own sockets and the endpoint's
/// address. A pod's own calls to itself are not among them. Where its sidecar hands it its requests, that is
/// the caller, whoever asked the sidecar and from whichever node: then nobody else counts, or each request
/// would twice.
class Callers {
 public:
  struct Seen {
    std::uint64_t answers = 0;
    spec::Latency first_byte;
  };

  void plan(const std::vector<identity::Pod>& pods, const std::vector<std::string>& sidecars);
  /// What came since the rows before, of the endpoints that were planned then: at first the rows tell only
  /// from where to count.
  std::map<spec::EndpointId, Seen> update(const std::vector<sample::CallRow>& rows);

 private:
  using Peer = std::pair<std::array<std::uint8_t, 16>, std::uint16_t>;
  using Edge = std::pair<sample::CgroupId, std::pair<Peer, std::uint8_t>>;
  struct Caller {
    std::string pod;  // with its namespace
    bool sidecar = false;
  };

  std::map<Peer, std::vector<spec::EndpointId>> endpoints_;
  std::map<sample::CgroupId, Caller> callers_;
  std::map<Edge, Seen> before_;
  std::map<Peer, bool> known_;  // whether its sidecar was seen to call it
};

}  // namespace ballast::observe
