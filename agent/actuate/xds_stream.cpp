// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/xds_stream.h"

#include <algorithm>

namespace ballast::actuate {

void Push::write_to(envoy::service::discovery::v3::DiscoveryResponse& response) const {
  response.Clear();
  std::uint64_t version = 0;
  for (const ResourcePtr& resource : resources) {
    google::protobuf::Any* any = response.add_resources();
    any->set_type_url(kEndpointTypeUrl);
    any->set_value(resource->bytes);
    version = std::max(version, resource->version);
  }
  response.set_version_info(std::to_string(version));
  response.set_type_url(kEndpointTypeUrl);
  response.set_nonce(std::to_string(nonce));
}

XdsStream::Answer XdsStream::on_request(const envoy::service::discovery::v3::DiscoveryRequest& request,
                                        const ResourceTable& in_force, MonotonicNs now) {
  Answer answer;
  // An EDS stream of its own may leave the type out; on ADS other types are not ours to answer.
  if (!request.type_url().empty() && request.type_url() != kEndpointTypeUrl) {
    return answer;
  }
  const std::string expected = nonce_ == 0 ? "" : std::to_string(nonce_);
  if (request.response_nonce() != expected) {
    return answer;
  }
  if (static_cast<std::size_t>(request.resource_names_size()) > kMaxSubscriptions) {
    answer.refused = true;
    return answer;
  }
  if (awaiting_) {
    awaiting_ = false;
    const bool rejected = request.has_error_detail();
    for (const auto& [name, version] : sent_versions_) {
      Taken& taken = taken_[name];
      taken.version = rejected ? taken.version : version;
      taken.rejected = rejected ? request.error_detail().message() : "";
    }
    sent_versions_.clear();
    if (rejected) {
      answer.rejected = request.error_detail().message();
    } else if (live_published_ != 0) {
      answer.acknowledged_s = static_cast<double>(now - live_published_) * 1e-9;
    }
  }
  std::set<std::string> names(request.resource_names().begin(), request.resource_names().end());
  for (const std::string& name : names) {
    const auto resource = in_force.find(name);
    if (!subscriptions_.contains(name) && resource != in_force.end()) {
      pending_[name] = {resource->second, false};
    }
  }
  subscriptions_ = std::move(names);
  std::erase_if(taken_, [&](const auto& entry) { return !subscriptions_.contains(entry.first); });
  std::erase_if(pending_, [&](const auto& entry) { return !subscriptions_.contains(entry.first); });
  return answer;
}

XdsStream::Taken XdsStream::taken(const std::string& name) const {
  const auto found = taken_.find(name);
  Taken taken = found == taken_.end() ? Taken() : found->second;
  taken.subscribed = subscriptions_.contains(name);
  return taken;
}

void XdsStream::on_publish(const ResourcePtr& resource) {
  if (subscriptions_.contains(resource->name)) {
    pending_[resource->name] = {resource, true};
  }
}

std::optional<Push> XdsStream::next(MonotonicNs now, MonotonicNs patience) {
  if (pending_.empty() || (awaiting_ && now - sent_ < patience)) {
    return std::nullopt;
  }
  Push push;
  push.nonce = ++nonce_;
  live_published_ = 0;
  for (auto& [name, pending] : pending_) {
    if (pending.live) {
      live_published_ = std::max(live_published_, pending.resource->published);
    }
    sent_versions_[name] = pending.resource->version;
    push.resources.push_back(std::move(pending.resource));
  }
  pending_.clear();
  awaiting_ = true;
  sent_ = now;
  return push;
}

}  // namespace ballast::actuate
