// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/lease.h"

#include <fmt/format.h>
#include <time.h>

#include <utility>

namespace ballast::kube {
namespace {

constexpr MonotonicNs kSecond = 1'000'000'000ULL;
constexpr long kNotFound = 404;
constexpr long kConflict = 409;

}  // namespace

std::string micro_time() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char text[32];
  ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  return fmt::format("{}.{:06}Z", text, now.tv_nsec / 1000);
}

std::string LeaderLease::path() const {
  return "/apis/coordination.k8s.io/v1/namespaces/" + options_.ns + "/leases";
}

Status LeaderLease::write(const Json& lease, MonotonicNs now, bool& won) {
  const bool fresh = at(lease, {"metadata", "resourceVersion"}).is_null();
  const Request request{.method = fresh ? "POST" : "PUT",
                        .path = fresh ? path() : path() + "/" + options_.name,
                        .body = lease.dump(-1, ' ', false, Json::error_handler_t::replace)};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  won = reply->ok();
  if (!won && reply->status != kConflict) {
    return api_error(request, *reply);
  }
  if (won) {
    seen_ = options_.holder + text_at(lease, {"spec", "renewTime"});
    seen_at_ = now;
    term_ += fresh || valid_until_ <= now ? 1 : 0;
    valid_until_ = now + static_cast<MonotonicNs>(options_.duration_s - 1) * kSecond;
  }
  return ok();
}

Result<LeaseView> LeaderLease::create(MonotonicNs now) {
  const std::string time = micro_time();
  const Json lease = {{"apiVersion", "coordination.k8s.io/v1"},
                      {"kind", "Lease"},
                      {"metadata", {{"name", options_.name}, {"namespace", options_.ns}}},
                      {"spec",
                       {{"holderIdentity", options_.holder},
                        {"leaseDurationSeconds", options_.duration_s},
                        {"acquireTime", time},
                        {"renewTime", time},
                        {"leaseTransitions", 0}}}};
  LeaseView view;
  if (Status written = write(lease, now, view.took); !written) {
    return written.error();
  }
  view.leading = view.took;
  view.term = term_;
  return view;
}

Result<LeaderLease::Seen> LeaderLease::look(MonotonicNs now, bool cached) {
  const Request request{.path = path() + "/" + options_.name + (cached ? "?resourceVersion=0" : "")};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  if (reply->status == kNotFound) {
    if (!seen_.empty()) {
      seen_.clear();
      seen_at_ = now;
    }
    Seen none{nullptr, {}, true};
    none.view.lapsed =
        seen_at_ != 0 && now - seen_at_ > static_cast<MonotonicNs>(options_.duration_s) * kSecond;
    return none;
  }
  Seen seen{reply->json(), {}, false};
  if (!reply->ok() || !seen.lease.is_object()) {
    return api_error(request, *reply);
  }
  LeaseView& view = seen.view;
  view.annotations = at(seen.lease, {"metadata", "annotations"});
  view.holder = text_at(seen.lease, {"spec", "holderIdentity"});
  const std::string renewal = view.holder + text_at(seen.lease, {"spec", "renewTime"});
  if (renewal != seen_) {
    seen_ = renewal;
    seen_at_ = now;
  }
  const Json& length = at(seen.lease, {"spec", "leaseDurationSeconds"});
  const auto length_s = length.is_number_integer() ? length.get<std::int64_t>() : options_.duration_s;
  const bool mine = view.holder == options_.holder;
  view.lapsed =
      !view.holder.empty() && !mine && now - seen_at_ > static_cast<MonotonicNs>(length_s) * kSecond;
  seen.free = mine || view.holder.empty() || view.lapsed;
  return seen;
}

Result<LeaseView> LeaderLease::step(MonotonicNs now, bool candidate) {
  const bool cached = valid_until_ <= now;
  Result<Seen> found = look(now, cached);
  if (found && found->free && candidate && cached) {
    found = look(now, false);  // what is decided on has to be what is written over
  }
  if (!found) {
    return found.error();
  }
  Json& lease = found->lease;
  LeaseView& view = found->view;
  const bool mine = view.holder == options_.holder;
  if (!mine) {
    valid_until_ = 0;
  }
  if (!candidate || !found->free) {
    return view;
  }
  if (lease.is_null()) {
    return create(now);
  }
  Json& spec = lease["spec"];
  spec["renewTime"] = micro_time();
  if (!mine) {
    const Json& transitions = at(lease, {"spec", "leaseTransitions"});
    spec["leaseTransitions"] = transitions.is_number_integer() ? transitions.get<int>() + 1 : 1;
    spec["acquireTime"] = spec["renewTime"];
    spec["holderIdentity"] = options_.holder;
  }
  spec["leaseDurationSeconds"] = options_.duration_s;  // his own may have lapsed by give_up()
  const bool led = valid_until_ > now;
  if (Status written = write(lease, now, view.leading); !written) {
    return written.error();
  }
  if (!view.leading) {
    // What came between may be an annotation, or our own write whose answer was lost: it is ours still.
    Result<Seen> again = look(now, false);
    if (!again) {
      return again.error();
    }
    if (again->view.holder == options_.holder) {
      again->lease["spec"]["renewTime"] = micro_time();
      if (Status written = write(again->lease, now, view.leading); !written) {
        return written.error();
      }
    }
  }
  view.took = view.leading && !led;
  view.term = term_;
  if (!view.leading) {
    valid_until_ = 0;
  }
  return view;
}

Status LeaderLease::give_up(bool handed_back) {
  if (valid_until_.exchange(0) == 0) {
    return ok();
  }
  const Request read{.path = path() + "/" + options_.name};
  const Result<Reply> reply = client_.call(read);
  if (!reply) {
    return reply.error();
  }
  Json lease = reply->json();
  if (!reply->ok() || text_at(lease, {"spec", "holderIdentity"}) != options_.holder) {
    return ok();
  }
  if (handed_back) {
    lease["spec"]["holderIdentity"] = "";
  } else {
    lease["spec"]["leaseDurationSeconds"] = 1;
  }
  const Request request{.method = "PUT", .path = path() + "/" + options_.name, .body = lease.dump()};
  const Result<Reply> written = client_.call(request);
  return written ? ok() : Status(written.error());
}

}  // namespace ballast::kube
