// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/events.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "agent/kube/lease.h"

namespace ballast::kube {
namespace {

/// Of a namespace that is being deleted the API server takes nothing new, whatever we may.
bool is_ending(const Reply& reply) {
  const Json body = reply.json();
  const Json& causes = at(body, {"details", "causes"});
  return causes.is_array() && std::any_of(causes.begin(), causes.end(), [](const Json& cause) {
           return text_at(cause, {"reason"}) == "NamespaceTerminating";
         });
}

}  // namespace

Status post_event(Client& client, const ObjectRef& object, bool warning, const std::string& reason,
                  const std::string& message) {
  thread_local std::mt19937_64 draw{std::random_device{}()};
  const std::string time = micro_time();
  const std::string second = time.substr(0, time.find('.')) + "Z";
  const Json event = {
      {"apiVersion", "v1"},
      {"kind", "Event"},
      {"metadata",
       {{"name", fmt::format("{}.{:016x}", object.name.substr(0, 200), draw())}, {"namespace", object.ns}}},
      {"involvedObject",
       {{"apiVersion", object.api_version},
        {"kind", object.kind},
        {"namespace", object.ns},
        {"name", object.name},
        {"uid", object.uid}}},
      {"type", warning ? "Warning" : "Normal"},
      {"reason", reason},
      {"message", message.substr(0, 1024)},
      {"source", {{"component", "ballast"}}},
      {"firstTimestamp", second},
      {"lastTimestamp", second},
      {"count", 1}};
  const Request request{.method = "POST",
                        .path = "/api/v1/namespaces/" + object.ns + "/events",
                        .body = event.dump(-1, ' ', false, Json::error_handler_t::replace)};
  const Result<Reply> reply = client.call(request);
  if (!reply) {
    return reply.error();
  }
  if (reply->ok()) {
    return ok();
  }
  const Error error = api_error(request, *reply);
  // That namespace has gone or is going, or the API server will never take such an Event.
  const bool never =
      reply->status == 400 || reply->status == 404 || reply->status == 422 || is_ending(*reply);
  return never ? Error::usage(error.message) : error;
}

}  // namespace ballast::kube
