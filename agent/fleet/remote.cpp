// SPDX-License-Identifier: Apache-2.0
#include "agent/fleet/remote.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/spec/unnamed.h"

namespace ballast::fleet {

namespace {

constexpr MonotonicNs kSlack = 1'000'000;
/// More endpoints of one service are believed of nobody who tells their number alone.
constexpr std::size_t kMostMembers = 10'000;

bool older(MonotonicNs then, MonotonicNs now, std::chrono::milliseconds than) {
  return now > then && now - then > static_cast<MonotonicNs>(std::chrono::nanoseconds(than).count());
}

}  // namespace

RemoteFleet::RemoteFleet(RemoteOptions options, std::unique_ptr<Exchange> exchange)
    : options_(options), exchange_(std::move(exchange)) {}

std::vector<Service> RemoteFleet::exchange(LocalReport report) {
  const bool sent = send(report);
  complete(report.endpoints,
           take_view(report.loop.now, sent ? options_.answer_wait : std::chrono::milliseconds(0)));
  if (options_.adopt_members) {
    stand_in(report.endpoints);
  }
  std::vector<Service> services = local_.exchange(std::move(report));
  if (view_ == nullptr || view_->whole) {
    return services;  // aggregates made here, of all endpoints
  }
  for (Service& service : services) {
    spec::ServiceAggregate& aggregate = service.aggregate;
    const auto joined = std::ranges::find_if(view_->services, [&](const ServiceReport& theirs) {
      return theirs.aggregate.service == aggregate.service;
    });
    if (joined != view_->services.end()) {
      const std::size_t members = std::max(aggregate.endpoints, joined->aggregate.endpoints);
      aggregate = joined->aggregate;
      aggregate.endpoints = members;
    }
  }
  return services;
}

bool RemoteFleet::send(const LocalReport& local) {
  const MonotonicNs now = local.loop.now;
  const std::chrono::nanoseconds interval =
      options_.interval * static_cast<int>(std::min(nodes_, kLargeFleet)) / static_cast<int>(kLargeFleet);
  if (sent_ != 0 && static_cast<MonotonicNs>(interval.count()) > now - sent_ + kSlack) {
    return false;
  }
  sent_ = now;
  NodeReport report;
  report.sent = now;
  report.tick_s = local.loop.tick_s;
  report.loop_delay_s = local.loop.loop_delay_s;
  report.whole = local.writes;
  for (const Member& member : local.endpoints) {
    if (member.telemetry.known) {
      report.endpoints.push_back({member.telemetry, member.offset});
    }
  }
  exchange_->offer(std::move(report));
  return true;
}

RemoteFleet::ById RemoteFleet::take_view(MonotonicNs now, std::chrono::milliseconds wait) {
  const bool was = joined();
  view_ = wait.count() > 0 ? exchange_->answered(wait) : exchange_->latest();
  nodes_ = kLargeFleet;
  if (view_ != nullptr) {
    nodes_ = view_->nodes;
    if (older(view_->received, now, options_.longest_age)) {
      view_ = nullptr;
    }
  }
  if (joined() != was) {
    spdlog::log(was ? spdlog::level::warn : spdlog::level::info, "fleet state=\"{}\" nodes={}",
                was ? "away: this node's own view" : "joined", was ? 1 : nodes_);
  }
  began_ = began_ == 0 ? now : began_;
  trouble_ =
      !joined() && (was || !trouble_.empty() || older(began_, now, options_.longest_age))
          ? "ballast-global (fleet.remote) does not answer: this node decides by what it measures alone"
          : "";
  ById others;
  if (view_ == nullptr) {
    return others;
  }
  for (const ServiceReport& service : view_->services) {
    for (const EndpointReport& e : service.others) {
      if (e.telemetry.known && !older(e.telemetry.taken, now, options_.longest_age)) {
        others[e.telemetry.id] = &e;
      }
    }
  }
  return others;
}

void RemoteFleet::complete(std::vector<Member>& endpoints, ById others) const {
  const auto theirs = [](const EndpointReport& report) {
    constexpr double kBound = spec::kMaxOffset;
    return Member{report.telemetry, std::clamp(report.offset, -kBound, kBound), false};
  };
  for (Member& member : endpoints) {
    const auto found = others.find(member.telemetry.id);
    if (found == others.end()) {
      continue;
    }
    if (!member.telemetry.known) {
      // Where it is, this node's identity says; how it is, the other node.
      Member measured = theirs(*found->second);
      measured.telemetry.address = member.telemetry.address;
      measured.telemetry.port = member.telemetry.port;
      member = std::move(measured);
    }
    others.erase(found);  // what is measured here is not another's
  }
  if (options_.adopt_members) {
    for (const auto& [id, other] : others) {
      endpoints.push_back(theirs(*other));
    }
  }
}

/// Who does not write is told how many endpoints there are and not which: they stand here without a name, so
/// that a policy takes those of this node for a part of the service. While the server is away there are as
/// many as there were.
void RemoteFleet::stand_in(std::vector<Member>& endpoints) {
  std::map<spec::ServiceId, std::size_t> here;
  for (const Member& member : endpoints) {
    ++here[member.telemetry.id.service];
  }
  if (view_ != nullptr) {
    members_.clear();
    for (const ServiceReport& service : view_->services) {
      members_[service.aggregate.service] =
          view_->whole ? 0 : std::min(service.aggregate.endpoints, kMostMembers);
    }
  }
  std::erase_if(members_, [&](const auto& one) { return !here.contains(one.first); });
  for (const auto& [id, members] : members_) {
    for (std::size_t i = here[id]; i < members; ++i) {
      Member member{.own = false};
      member.telemetry.id = {id, fmt::format("{}{:06}", spec::kUnnamed, i)};
      endpoints.push_back(std::move(member));
    }
  }
}

}  // namespace ballast::fleet
