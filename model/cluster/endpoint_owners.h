// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <mutex>
#include <string>
#include <tuple>

#include "agent/kube/catalog.h"
#include "core/spec/telemetry.h"

namespace ballast::cluster {

/// Which node may speak for an endpoint: the one that the EndpointSlices name. Thread-safe.
class EndpointOwners {
 public:
  explicit EndpointOwners(const kube::Catalog& catalog) : catalog_(catalog) {}

  /// False also for an endpoint that no slice of a Service that opted in has.
  bool owns(const std::string& node, const spec::EndpointTelemetry& endpoint);

 private:
  struct Place {
    std::string node, address;
  };
  const kube::Catalog& catalog_;
  std::mutex mutex_;
  std::uint64_t version_ = UINT64_MAX;
  std::map<std::tuple<std::string, std::string, std::string>, Place> places_;  ///< by namespace, Service, pod
};

}  // namespace ballast::cluster
