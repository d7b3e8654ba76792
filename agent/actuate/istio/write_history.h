// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "agent/kube/client.h"
#include "core/base/clock.h"

namespace ballast::actuate::istio {

/// An endpoint as istiod tells of it, or as an entry of ours says it.
struct ProbedEndpoint {
  std::string address;
  std::uint16_t port = 0;
  std::uint32_t weight = 0;
  bool operator==(const ProbedEndpoint&) const = default;
};

/// Those of a ServiceEntry's first port that have a weight.
std::vector<ProbedEndpoint> entry_endpoints(const kube::Json& spec);

/// What an entry has said of late. istiod is late by right, and where weights are written at each decision it
/// hardly ever tells the last of them: what counts is how old that is which it tells, and whether it still
/// sends to who was taken out.
class WriteHistory {
 public:
  /// It says this since a write that began at `at`. What was replaced longer than `keep` ago is forgotten.
  void add(std::vector<ProbedEndpoint> entry, MonotonicNs at, MonotonicNs keep);

  /// For how long what istiod tells of the Service, in its order, has been out of date; 0: it is not, or
  /// nothing can be said, because it tells of no endpoint at all (a Sidecar scope may hide the Service).
  /// `whole`: the Service has no other entry, so that an address which this one had once and has not now is
  /// nobody's.
  MonotonicNs behind(const std::vector<ProbedEndpoint>& told, bool whole, MonotonicNs now) const;

 private:
  using Key = std::pair<std::string, std::uint16_t>;
  struct Write {
    MonotonicNs at = 0;
    std::vector<ProbedEndpoint> endpoints;
  };
  bool tells(const std::map<Key, std::uint32_t>& first, const Write& write, bool whole) const;
  std::deque<Write> writes_;         ///< the oldest first; the last is in force
  std::map<Key, MonotonicNs> ours_;  ///< who stood in it, and when last
};

}  // namespace ballast::actuate::istio
