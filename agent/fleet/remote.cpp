// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/remote.h"

#include <algorithm>
#include <utility>

#include "core/base/log.h"

namespace ballast::fleet {

namespace {

bool older(MonotonicNs then, MonotonicNs now, std::chrono::milliseconds than) {
  return now > then && now - then > static_cast<MonotonicNs>(std::chrono::nanoseconds(than).count());
}

}  // namespace

RemoteFleet::RemoteFleet(RemoteOptions options, std::unique_ptr<Exchange> exchange)
    : options_(options), exchange_(std::move(exchange)) {}

void RemoteFleet::set_loop(double tick_s, double loop_delay_s, bool writes) {
  tick_s_ = tick_s;
  loop_delay_s_ = loop_delay_s;
  writes_ = writes;
  local_.set_loop(tick_s, loop_delay_s, writes);
}

void RemoteFleet::send(const std::vector<spec::EndpointTelemetry>& own, MonotonicNs now) {
  if (sent_ != 0 && !older(sent_, now, options_.interval - std::chrono::milliseconds(1))) {
    return;
  }
  sent_ = now;
  NodeReport report;
  report.sent = now;
  report.tick_s = tick_s_;
  report.loop_delay_s = loop_delay_s_;
  report.whole = writes_;
  for (const spec::EndpointTelemetry& telemetry : own) {
    if (telemetry.known) {
      const auto decided = decided_.find(telemetry.id);
      const Decided d = decided == decided_.end() ? Decided() : decided->second;
      report.endpoints.push_back({telemetry, d.log_prior, d.offset});
    }
  }
  exchange_->offer(std::move(report));
}

void RemoteFleet::take_view(MonotonicNs now) {
  const bool was = joined();
  view_ = exchange_->latest();
  if (view_ != nullptr && older(view_->received, now, options_.longest_age)) {
    view_ = nullptr;
  }
  if (joined() != was) {
    spdlog::log(was ? spdlog::level::warn : spdlog::level::info, "fleet state=\"{}\" nodes={}",
                was ? "away: this node's own view" : "joined", was ? 1 : view_->nodes);
  }
  others_.clear();
  if (view_ == nullptr) {
    return;
  }
  for (const ServiceReport& service : view_->services) {
    for (const EndpointReport& e : service.others) {
      if (e.telemetry.known && !older(e.telemetry.taken, now, options_.longest_age)) {
        others_[e.telemetry.id] = &e;
      }
    }
  }
}

std::vector<spec::EndpointTelemetry> RemoteFleet::complete(std::vector<spec::EndpointTelemetry> own,
                                                           MonotonicNs now) {
  send(own, now);
  take_view(now);
  std::set<spec::EndpointId> here;
  for (spec::EndpointTelemetry& telemetry : own) {
    here.insert(telemetry.id);
    const auto other = others_.find(telemetry.id);
    if (telemetry.known) {
      others_.erase(telemetry.id);  // what is measured here is not another's
    } else if (other != others_.end()) {
      // Where it is, this node's identity says; how it is, the other node.
      spec::EndpointTelemetry measured = other->second->telemetry;
      measured.address = telemetry.address;
      measured.port = telemetry.port;
      telemetry = std::move(measured);
    }
  }
  if (options_.adopt_members) {
    for (const auto& [id, other] : others_) {
      if (!here.contains(id)) {
        own.push_back(other->telemetry);
      }
    }
    std::sort(own.begin(), own.end(), [](const auto& a, const auto& b) { return a.id < b.id; });
  }
  return own;
}

std::vector<spec::ServiceAggregate> RemoteFleet::report(const std::vector<spec::EndpointTelemetry>& endpoints,
                                                        MonotonicNs now) {
  auto aggregates = local_.report(endpoints, now);
  if (view_ == nullptr || view_->whole) {
    return aggregates;  // made here, of all endpoints
  }
  for (spec::ServiceAggregate& aggregate : aggregates) {
    const auto joined = std::ranges::find_if(view_->services, [&](const ServiceReport& service) {
      return service.aggregate.service == aggregate.service;
    });
    if (joined != view_->services.end()) {
      const std::size_t members = std::max(aggregate.endpoints, joined->aggregate.endpoints);
      aggregate = joined->aggregate;
      aggregate.endpoints = members;
    }
  }
  return aggregates;
}

void RemoteFleet::honour(decide::ServiceProposal& proposal) const {
  for (decide::Proposal& p : proposal.endpoints) {
    if (const auto other = others_.find(p.id); other != others_.end()) {
      p.offset = std::clamp(other->second->offset, -static_cast<double>(spec::kMaxOffset),
                            static_cast<double>(spec::kMaxOffset));
      p.action = spec::kKeep;
      p.behaviour_probability = 1;
    }
  }
}

std::vector<ServiceView> RemoteFleet::join(const std::vector<decide::ServiceProposal>& proposals,
                                           MonotonicNs now) {
  decided_.clear();
  for (const decide::ServiceProposal& proposal : proposals) {
    for (const decide::Proposal& p : proposal.endpoints) {
      if (!others_.contains(p.id)) {
        decided_[p.id] = {p.log_prior, p.offset};
      }
    }
  }
  return local_.join(proposals, now);
}

}  // namespace ballast::fleet
