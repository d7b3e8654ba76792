// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/writer.h"

#include <fmt/format.h>

#include <utility>

namespace ballast::actuate::istio {
namespace {

using kube::Reply;
using kube::Request;

constexpr long kNotFound = 404;
constexpr std::chrono::milliseconds kRouteSettles{2000};

std::string collection(const std::string& kind, const std::string& ns) {
  const std::string plural = kind == "VirtualService" ? "virtualservices" : "serviceentries";
  return "/apis/networking.istio.io/v1/" + (ns.empty() ? "" : "namespaces/" + ns + "/") + plural;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

std::string ours_selector() {
  return "labelSelector=" + kube::encode(std::string(kManagedByLabel) + "=" + kManagedBy);
}

/// What an operator has to mend, as opposed to what time mends.
bool refused(long status) {
  return status == 400 || status == 409 || status == 413 || status == 422;
}

std::string locality_of(const Json& node) {
  std::string locality = kube::text_at(node, {"metadata", "labels", "topology.kubernetes.io/region"});
  const std::string zone = kube::text_at(node, {"metadata", "labels", "topology.kubernetes.io/zone"});
  const std::string subzone = kube::text_at(node, {"metadata", "labels", "topology.istio.io/subzone"});
  if (!zone.empty() || !subzone.empty()) {
    locality += "/" + zone;
  }
  return subzone.empty() ? locality : locality + "/" + subzone;
}

}  // namespace

Status Writer::apply(const Json& object) {
  const std::string kind = kube::text_at(object, {"kind"});
  const std::string ns = kube::text_at(object, {"metadata", "namespace"});
  const std::string path = collection(kind, ns) + "/" + kube::text_at(object, {"metadata", "name"});
  const Request look{.path = path};
  const Result<Reply> there = client_.call(look);
  if (!there) {
    return there.error();
  }
  if (there->status != kNotFound) {
    if (!there->ok()) {
      return kube::api_error(look, *there);
    }
    if (kube::text_at(there->json(), {"metadata", "labels", kManagedByLabel}) != kManagedBy) {
      return Error::usage(fmt::format("{} {}/{} is there and is not Ballast's; rename it", kind, ns,
                                      kube::text_at(object, {"metadata", "name"})));
    }
  }
  const Request request{.method = "PATCH",
                        .path = path + "?fieldManager=" + kFieldManager + "&force=true",
                        .body = dump(object),
                        .content_type = kube::kApplyPatch};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  if (reply->ok()) {
    return ok();
  }
  const Error error = kube::api_error(request, *reply);
  return refused(reply->status) ? Error::usage(error.message) : error;
}

Status Writer::patch_endpoints(const std::string& ns, const std::string& name, const Json& endpoints,
                               bool& gone) {
  const Request request{
      .method = "PATCH",
      .path = collection("ServiceEntry", ns) + "/" + name + "?fieldManager=" + kFieldManager,
      .body = dump({{"spec", {{"endpoints", endpoints}}}}),
      .content_type = kube::kMergePatch};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  gone = reply->status == kNotFound;
  if (reply->ok() || gone) {
    return ok();
  }
  const Error error = kube::api_error(request, *reply);
  return refused(reply->status) ? Error::usage(error.message) : error;
}

Status Writer::remove(const std::string& kind, const std::string& ns, const std::string& name) {
  const std::string path = collection(kind, ns) + "/" + name;
  const Request look{.path = path};
  const Result<Reply> there = client_.call(look);
  if (!there) {
    return there.error();
  }
  if (there->status == kNotFound) {
    return ok();
  }
  const Json object = there->json();
  if (!there->ok() || object.is_discarded()) {
    return kube::api_error(look, *there);
  }
  if (kube::text_at(object, {"metadata", "labels", kManagedByLabel}) != kManagedBy) {
    return ok();
  }
  const Json options = {{"apiVersion", "v1"},
                        {"kind", "DeleteOptions"},
                        {"preconditions", {{"uid", kube::text_at(object, {"metadata", "uid"})}}}};
  const Request request{.method = "DELETE", .path = path, .body = dump(options)};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  return reply->ok() || reply->status == kNotFound ? ok() : Status(kube::api_error(request, *reply));
}

Result<std::vector<Owned>> Writer::list(const std::string& kind) {
  const Request request{.path = collection(kind, "") + "?" + ours_selector()};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  std::vector<Owned> owned;
  if (reply->status == kNotFound) {
    return owned;
  }
  if (!reply->ok()) {
    return kube::api_error(request, *reply);
  }
  const Json page = reply->json();
  for (const Json& item : kube::at(page, {"items"})) {
    owned.push_back(
        {kube::text_at(item, {"metadata", "namespace"}), kube::text_at(item, {"metadata", "name"}),
         kube::text_at(item, {"metadata", "labels", "ballast.dev/service"}), kube::at(item, {"spec"})});
  }
  return owned;
}

Status Writer::read_pods(const kube::Service& service, Facts& facts) {
  std::string selector;
  for (const auto& [key, value] : service.selector) {
    selector += (selector.empty() ? "" : ",") + key + "=" + value;
  }
  if (selector.empty()) {
    return ok();
  }
  const Result<Json> page =
      client_.get("/api/v1/namespaces/" + service.ns + "/pods?labelSelector=" + kube::encode(selector));
  if (!page) {
    return page.error();
  }
  for (const Json& item : kube::at(*page, {"items"})) {
    PodFacts& pod = facts.pods[kube::text_at(item, {"metadata", "uid"})];
    pod.service_account = kube::text_at(item, {"spec", "serviceAccountName"});
    pod.labels.clear();
    if (const Json& labels = kube::at(item, {"metadata", "labels"}); labels.is_object()) {
      for (const auto& [key, value] : labels.items()) {
        pod.labels[key] = value.is_string() ? value.get<std::string>() : "";
      }
    }
  }
  return ok();
}

Status Writer::read_nodes(Facts& facts) {
  const Result<Json> page = client_.get("/api/v1/nodes");
  if (!page) {
    return page.error();
  }
  for (const Json& item : kube::at(*page, {"items"})) {
    facts.localities[kube::text_at(item, {"metadata", "name"})] = locality_of(item);
  }
  return ok();
}

std::set<std::string> released(const Json& annotations) {
  std::set<std::string> services;
  const std::string text = kube::text_at(annotations, {kReleasedAnnotation});
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) {
      services.insert(text.substr(begin, end - begin));
    }
    begin = end + 1;
  }
  return services;
}

namespace {

/// Adds the service to the Lease's annotation; a Lease that is not there is made without a holder.
Status note_release(kube::Client& client, const std::string& ns, const std::string& name,
                    const std::string& service) {
  const std::string path = "/apis/coordination.k8s.io/v1/namespaces/" + ns + "/leases";
  const Request look{.path = path + "/" + name};
  const Result<Reply> there = client.call(look);
  if (!there) {
    return there.error();
  }
  if (!there->ok() && there->status != kNotFound) {
    return kube::api_error(look, *there);
  }
  const Json now = there->json();
  std::set<std::string> services = released(kube::at(now, {"metadata", "annotations"}));
  services.insert(service);
  std::string text;
  for (const std::string& one : services) {
    text += (text.empty() ? "" : ",") + one;
  }
  const Json metadata = {{"name", name}, {"namespace", ns}, {"annotations", {{kReleasedAnnotation, text}}}};
  const bool fresh = there->status == kNotFound;
  const Request request{
      .method = fresh ? "POST" : "PATCH",
      .path = fresh ? path : path + "/" + name + "?fieldManager=ballastctl",
      .body = dump({{"apiVersion", "coordination.k8s.io/v1"}, {"kind", "Lease"}, {"metadata", metadata}}),
      .content_type = fresh ? kube::kJsonBody : kube::kMergePatch};
  const Result<Reply> reply = client.call(request);
  if (!reply) {
    return reply.error();
  }
  return reply->ok() ? ok() : Status(kube::api_error(request, *reply));
}

Result<int> remove_all(Writer& writer, const std::string& kind, const std::string& service) {
  const Result<std::vector<Owned>> owned = writer.list(kind);
  if (!owned) {
    return owned.error();
  }
  int removed = 0;
  for (const Owned& object : *owned) {
    if (service != "*" && object.key() != service) {
      continue;
    }
    if (Status gone = writer.remove(kind, object.ns, object.name); !gone) {
      return gone.error();
    }
    ++removed;
  }
  return removed;
}

}  // namespace

Result<int> release_by_hand(kube::Client& client, const std::string& lease_ns, const std::string& lease_name,
                            const std::string& service) {
  // The routes go whatever the Lease says: traffic first, book-keeping second.
  Writer writer(client);
  const Status noted = note_release(client, lease_ns, lease_name, service);
  const Result<int> routes = remove_all(writer, "VirtualService", service);
  if (!routes) {
    return routes.error();
  }
  if (!noted) {
    return noted.error().in("routes removed, but a leader that lives is not told and may come back");
  }
  client.sleep(kRouteSettles);
  // A leader that was in the middle of an adoption has seen the annotation by now or within a renewal.
  const Result<int> late = remove_all(writer, "VirtualService", service);
  const Result<int> entries = late ? remove_all(writer, "ServiceEntry", service) : late;
  return entries ? Result<int>(*routes + *late + *entries) : entries;
}

}  // namespace ballast::actuate::istio
