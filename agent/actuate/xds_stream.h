// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "core/base/clock.h"
#include "envoy/service/discovery/v3/discovery.pb.h"

/// State-of-the-world xDS as one stream sees it, without gRPC: which resources a proxy asked for,
/// what it has not been sent yet, what it has not answered yet. One thread at a time.
namespace ballast::actuate {

inline constexpr const char* kEndpointTypeUrl =
    "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";

/// One service's ClusterLoadAssignment, serialised once for all streams.
struct Resource {
  std::string name;  ///< NAMESPACE/SERVICE
  std::string bytes;
  std::uint64_t version = 0;  ///< grows with every publication of any service
  MonotonicNs published = 0;
};
using ResourcePtr = std::shared_ptr<const Resource>;
using ResourceTable = std::map<std::string, ResourcePtr>;

/// A response that next() decided to send.
struct Push {
  std::uint64_t nonce = 0;
  std::vector<ResourcePtr> resources;  ///< never empty

  void write_to(envoy::service::discovery::v3::DiscoveryResponse& response) const;
};

class XdsStream {
 public:
  /// A proxy may name so many resources; more are refused.
  static constexpr std::size_t kMaxSubscriptions = 4096;

  struct Answer {
    bool refused = false;                  ///< too many names: the stream is to be closed
    std::optional<double> acknowledged_s;  ///< ACK of a push that a publication caused: how long it took
    std::string rejected;                  ///< NACK: the proxy's message
  };

  /// A request: a subscription, an ACK, a NACK, or all in one. Requests for other types and
  /// answers to any but the last response are ignored, as the protocol says.
  Answer on_request(const envoy::service::discovery::v3::DiscoveryRequest& request,
                    const ResourceTable& in_force, MonotonicNs now);

  /// A publication. Replaces what waits under the same name, so a slow proxy is sent the latest alone.
  void on_publish(const ResourcePtr& resource);

  /// What to send now. Nothing while the proxy has not answered the last response, unless
  /// `patience` ns have gone by: a proxy that never answers is still sent what is new.
  std::optional<Push> next(MonotonicNs now, MonotonicNs patience);

  /// What the proxy has of one resource.
  struct Taken {
    bool subscribed = false;
    std::uint64_t version = 0;  ///< acknowledged last; 0: none
    std::string rejected;       ///< its message, until it takes a later one
  };
  Taken taken(const std::string& name) const;

  bool subscribed() const { return !subscriptions_.empty(); }
  bool waiting() const { return !pending_.empty(); }               ///< something is to be sent
  bool settled() const { return pending_.empty() && !awaiting_; }  ///< all is sent and answered
  MonotonicNs sent() const { return sent_; }                       ///< when the last response went

 private:
  struct Pending {
    ResourcePtr resource;
    bool live = false;  ///< caused by a publication, not by a subscription
  };

  std::set<std::string> subscriptions_;
  std::map<std::string, Pending> pending_;
  std::map<std::string, std::uint64_t> sent_versions_;  ///< since the last answer
  std::map<std::string, Taken> taken_;
  std::uint64_t nonce_ = 0;  ///< of the last response; 0 before the first
  bool awaiting_ = false;    ///< the last response is not answered
  MonotonicNs sent_ = 0;
  MonotonicNs live_published_ = 0;  ///< latest publication in the last response; 0: none was live
};

}  // namespace ballast::actuate
