// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/writer.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <thread>
#include <tuple>
#include <utility>

#include "agent/actuate/istio/merge_window.h"
#include "core/base/backoff.h"

namespace ballast::actuate::istio {
namespace {

using kube::Reply;
using kube::Request;

/// The server need not look for fields that its schema does not know: nobody here reads its warnings.
const std::string kQuery = std::string("?fieldManager=") + kFieldManager + "&fieldValidation=Ignore";
constexpr long kNotFound = 404;
constexpr long kConflict = 409;
constexpr std::chrono::milliseconds kRouteSettles{2000};
constexpr std::chrono::milliseconds kLooksAgain{100};
constexpr int kLists = 6;   ///< tries more of a list that nobody else asks for again
constexpr int kNotes = 20;  ///< tries to note a release at a Lease that others write to
/// zlib's own tables are a quarter of a megabyte each time: shorter text is written before they are there.
constexpr std::size_t kWorthPacking = 8192;
/// So many pods are read one by one; more are listed.
constexpr std::size_t kOneByOne = 8;
constexpr std::chrono::seconds kListSilence{5};
/// The API server says nothing while it looks for what is ours, longer the more there is and the busier it
/// is.
constexpr std::chrono::seconds kSweepSilence{20};
constexpr std::chrono::seconds kLongSweepSilence{160};

std::string collection(const std::string& kind, const std::string& ns) {
  const std::string plural = kind == "VirtualService" ? "virtualservices"
                             : kind == "EnvoyFilter"  ? "envoyfilters"
                                                      : "serviceentries";
  const std::string version = kind == "EnvoyFilter" ? "v1alpha3" : "v1";
  return "/apis/networking.istio.io/" + version + "/" + (ns.empty() ? "" : "namespaces/" + ns + "/") + plural;
}

std::string dump(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

/// Of ours: what carries our label, and what somebody took that from.
std::array<std::string, 2> ours_selectors() {
  const std::string managed = kManagedByLabel;
  return {"labelSelector=" + kube::encode(managed + "=" + kManagedBy),
          "labelSelector=" + kube::encode(kServiceLabel + ("," + managed) + "!=" + kManagedBy)};
}

bool has_label(const Json& object) {
  return kube::text_at(object, {"metadata", "labels", kManagedByLabel}) == kManagedBy;
}

/// As the admission policy of the manifests says it, which would refuse us what this let through.
bool is_of_our_role(const Json& object) {
  const Json& owners = kube::at(object, {"metadata", "ownerReferences"});
  const std::string name = kube::text_at(object, {"metadata", "name"});
  return (name.find("-ballast") != std::string::npos || name == kMergeWindowName) && owners.is_array() &&
         std::any_of(owners.begin(), owners.end(), [](const Json& owner) {
           return kube::text_at(owner, {"kind"}) == "ClusterRole" &&
                  kube::text_at(owner, {"name"}) == kOwnerRole;
         });
}

/// What an operator has to mend, as opposed to what time mends.
bool refused(long status) {
  return status == 400 || status == kConflict || status == 413 || status == 422;
}

/// As istiod writes it (getPodLocality): all three parts with their slashes, or nothing.
std::string locality_of(const Json& node) {
  const auto label = [&](const char* name, const char* older) {
    const std::string value = kube::text_at(node, {"metadata", "labels", name});
    return value.empty() ? kube::text_at(node, {"metadata", "labels", older}) : value;
  };
  const std::string region =
      label("topology.kubernetes.io/region", "failure-domain.beta.kubernetes.io/region");
  const std::string zone = label("topology.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/zone");
  const std::string subzone = kube::text_at(node, {"metadata", "labels", "topology.istio.io/subzone"});
  return region.empty() && zone.empty() && subzone.empty() ? "" : region + "/" + zone + "/" + subzone;
}

/// What of an object's metadata anybody may set.
Json settable(const Json& object) {
  Json out = Json::object();
  for (const char* key : {"annotations", "finalizers", "labels", "ownerReferences"}) {
    if (const Json& value = kube::at(object, {"metadata", key}); !value.empty()) {
      out[key] = value;
    }
  }
  return out;
}

void take(const Json& object, const Json& wanted, Object& have) {
  have.seen = false;
  have.uid = kube::text_at(object, {"metadata", "uid"});
  have.version = kube::text_at(object, {"metadata", "resourceVersion"});
  have.created = kube::text_at(object, {"metadata", "creationTimestamp"});
  const Json& generation = kube::at(object, {"metadata", "generation"});
  have.generation = generation.is_number_integer() ? generation.get<std::int64_t>() : 0;
  have.spec = kube::at(object, {"spec"});
  Json metadata = settable(object);
  have.metadata = metadata == settable(wanted) ? Json() : std::move(metadata);
}

/// The object as it is to stand in place of that version: what is ours, and what others put beside it.
Json in_place(const Json& wanted, const Object& have) {
  Json metadata = have.metadata.is_null() ? Json::object() : have.metadata.json();
  const Json owners = kube::at(metadata, {"ownerReferences"});
  metadata.merge_patch(wanted.at("metadata"));
  if (!owners.is_null()) {
    metadata["ownerReferences"] = owners;
  }
  // The version tells another object of the same name, too.
  metadata["resourceVersion"] = have.version;
  // Who owns which field nobody asks of an entry, and to keep it takes the API server longer than the write.
  metadata["managedFields"] = Json::array({Json::object()});
  Json out = wanted;
  out["metadata"] = std::move(metadata);
  return out;
}

std::map<std::string, std::string> labels_of(const Json& object) {
  std::map<std::string, std::string> out;
  if (const Json& labels = kube::at(object, {"metadata", "labels"}); labels.is_object()) {
    for (const auto& [key, value] : labels.items()) {
      out[key] = value.is_string() ? value.get<std::string>() : "";
    }
  }
  return out;
}

void take_pod(const Json& object, PodFacts& pod) {
  pod.gone = false;
  pod.service_account = kube::text_at(object, {"spec", "serviceAccountName"});
  take_metadata(object, pod);
}

std::string selector_of(const kube::Service& service) {
  std::string selector;
  for (const auto& [key, value] : service.selector) {
    selector.append(selector.empty() ? "" : ",").append(key).append("=").append(value);
  }
  return selector;
}

}  // namespace

Kept::Kept(const Json& spec) {
  if (spec.is_null()) {
    return;
  }
  std::string text = dump(spec);
  size_ = text.size();
  endpoints_ = kube::at(spec, {"endpoints"}).size();
  if (size_ < kWorthPacking) {
    packed_ = std::move(text);
    return;
  }
  std::string room(::compressBound(text.size()), '\0');
  uLongf packed = room.size();
  const bool done =
      ::compress2(reinterpret_cast<Bytef*>(room.data()), &packed, reinterpret_cast<const Bytef*>(text.data()),
                  text.size(), Z_BEST_SPEED) == Z_OK;
  packed_ = done && packed < size_ ? room.substr(0, packed) : text;
}

std::string Kept::text() const {
  if (packed_.size() == size_) {
    return packed_;
  }
  std::string text(size_, '\0');
  uLongf size = size_;
  // It fails only for want of memory; what is no text then is like no spec, and is written again.
  std::ignore = ::uncompress(reinterpret_cast<Bytef*>(text.data()), &size,
                             reinterpret_cast<const Bytef*>(packed_.data()), packed_.size());
  return text;
}

bool Kept::operator==(const Json& spec) const {
  if (is_null() || spec.is_null()) {
    return is_null() && spec.is_null();
  }
  const std::string other = dump(spec);
  return other.size() == size_ && other == text();
}

void take_metadata(const Json& pod, PodFacts& facts) {
  facts.labels = labels_of(pod);
  facts.ambient =
      kube::text_at(pod, {"metadata", "annotations", "ambient.istio.io/redirection"}) == "enabled";
}

bool ours(const Json& object, const std::string& lease) {
  const std::string of = kube::text_at(object, {"metadata", "labels", kLeaseLabel});
  return (has_label(object) || is_of_our_role(object)) && (of.empty() || lease.empty() || of == lease);
}

Owned owned_of(const Json& object) {
  const Json& generation = kube::at(object, {"metadata", "generation"});
  const Json& hosts = kube::at(object, {"spec", "hosts"});
  const std::string host = hosts.is_array() && !hosts.empty() && hosts[0].is_string() ? hosts[0] : "";
  return {.ns = kube::text_at(object, {"metadata", "namespace"}),
          .name = kube::text_at(object, {"metadata", "name"}),
          .service = kube::text_at(object, {"metadata", "labels", kServiceLabel}),
          .uid = kube::text_at(object, {"metadata", "uid"}),
          .generation = generation.is_number_integer() ? generation.get<std::int64_t>() : 0,
          .own_host = kube::text_at(object, {"kind"}) != "VirtualService" && !host.ends_with(kShadowDomain),
          .labelled = has_label(object)};
}

Writer::Writer(kube::Client& client, std::string lease)
    : client_(client), lease_(std::move(lease)), sweep_silence_(kSweepSilence) {}

Result<Reply> Writer::write(const Request& request) {
  if (!may_write()) {
    return Error::failed(request.method + " " + request.path + ": not leading any more");
  }
  return client_.call(request);
}

Status Writer::look(const Json& wanted, Object& have) {
  const Request request{
      .path = collection(kube::text_at(wanted, {"kind"}), kube::text_at(wanted, {"metadata", "namespace"})) +
              "/" + kube::text_at(wanted, {"metadata", "name"})};
  const Result<Reply> there = client_.call(request);
  if (!there) {
    return there.error();
  }
  if (there->status == kNotFound) {
    have = {};
    return ok();
  }
  const Json object = there->json();
  if (!there->ok() || object.is_discarded()) {
    return kube::api_error(request, *there);
  }
  if (!ours(object, lease_) && (have.uid.empty() || have.uid != kube::text_at(object, {"metadata", "uid"}))) {
    const std::string other = kube::text_at(object, {"metadata", "labels", kLeaseLabel});
    return Error::usage(fmt::format(
        "{} {} is there and is {}; rename it, or remove the label {} from the Service",
        kube::text_at(wanted, {"kind"}), kube::key_of(wanted),
        other.empty() ? "not Ballast's" : "of another Ballast (" + other + ")", kube::kModeLabel));
  }
  take(object, wanted, have);
  const Json& labels = kube::at(wanted, {"metadata", "labels"});
  const auto items = labels.items();
  have.labelled = std::all_of(items.begin(), items.end(), [&](const auto& label) {
    return kube::at(object, {"metadata", "labels", label.key().c_str()}) == label.value();
  });
  return ok();
}

/// Of what is not as we left it.
Status Writer::look_again(const Json& wanted, Object& have, Others& others) {
  const std::string uid = have.uid;
  const std::int64_t generation = have.generation;
  if (Status looked = look(wanted, have); !looked) {
    return looked;
  }
  if (!uid.empty() && have.uid.empty()) {
    others = Others::kRemoved;
  } else if (!uid.empty() &&
             (!have.labelled || (have.generation != generation && have.spec != wanted.at("spec")))) {
    // What says already what it should may be our own write, whose answer was lost.
    others = Others::kChanged;
  }
  return ok();
}

Status Writer::put(const Json& wanted, Object& have, Others& others) {
  const std::string folder =
      collection(kube::text_at(wanted, {"kind"}), kube::text_at(wanted, {"metadata", "namespace"}));
  const std::string path = folder + "/" + kube::text_at(wanted, {"metadata", "name"});
  if (!have.uid.empty() && have.spec.is_null()) {
    if (Status looked = look_again(wanted, have, others); !looked) {
      return looked;
    }
  }
  // Twice: what somebody else did meanwhile is looked at once, and then written over.
  for (int attempt = 0;; ++attempt) {
    const bool fresh = have.uid.empty();
    if (const std::string service = kube::text_at(wanted, {"metadata", "labels", kServiceLabel});
        fresh && released(kube::text_at(wanted, {"metadata", "namespace"}) + "/" + service)) {
      return Error::failed(service + " was released by hand meanwhile");
    }
    if (!fresh && have.labelled && have.spec == wanted.at("spec")) {
      return ok();
    }
    const Request request{.method = fresh ? "POST" : "PUT",
                          .path = (fresh ? folder : path) + kQuery,
                          .body = dump(fresh ? wanted : in_place(wanted, have)),
                          .accept = kube::kMetadata};
    const Result<Reply> reply = write(request);
    if (others != Others::kNothing && !(reply && reply->ok())) {
      have.spec = Json();  // what stands is not ours
    }
    if (!reply) {
      return reply.error();  // should it have landed, the next one finds another version and looks
    }
    if (reply->ok()) {
      take(reply->json(), wanted, have);
      have.spec = wanted.at("spec");
      have.labelled = true;
      return ok();
    }
    const bool moved = reply->status == kConflict || (!fresh && reply->status == kNotFound);
    if (!moved || attempt == 2) {
      const Error error = kube::api_error(request, *reply);
      return refused(reply->status) ? Error::usage(error.message) : error;
    }
    if (Status looked = look_again(wanted, have, others); !looked) {
      return looked;
    }
  }
}

Status Writer::remove(const std::string& kind, const std::string& ns, const std::string& name,
                      const std::string& uid) {
  const std::string path = collection(kind, ns) + "/" + name;
  Object have{.uid = uid};
  if (uid.empty()) {
    const Json wanted = {{"kind", kind}, {"metadata", {{"namespace", ns}, {"name", name}}}};
    const Status looked = look(wanted, have);
    if (!looked || have.uid.empty()) {
      // What is not ours is none of our business.
      return looked || looked.error().kind == Error::Kind::kUsage ? ok() : looked;
    }
  }
  const Json options = {
      {"apiVersion", "v1"}, {"kind", "DeleteOptions"}, {"preconditions", {{"uid", have.uid}}}};
  const Request request{.method = "DELETE", .path = path, .body = dump(options)};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  const bool done = reply->ok() || reply->status == kNotFound || reply->status == kConflict;
  return done ? ok() : Status(kube::api_error(request, *reply));
}

Status Writer::disarm(const std::string& kind, const std::string& ns, const std::string& name,
                      const std::string& host) {
  const std::string path = collection(kind, ns) + "/" + name;
  const Request look{.path = path};
  const Result<Reply> there = client_.call(look);
  if (!there) {
    return there.error();
  }
  Json object = there->json();
  if (!there->ok() || !object.is_object()) {
    return there->status == kNotFound ? ok() : Status(kube::api_error(look, *there));
  }
  Json& spec = object["spec"];  // whose host or hosts stay
  if (kind == "VirtualService") {
    spec["http"] = Json::array({{{"route", Json::array({{{"destination", {{"host", host}}}}})}}});
  } else {
    spec["endpoints"] = Json::array();
  }
  const Request request{.method = "PUT", .path = path + kQuery, .body = dump(object)};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  return reply->ok() || reply->status == kNotFound ? ok() : Status(kube::api_error(request, *reply));
}

Status Writer::pages(const std::string& path, const std::function<void(const Json&)>& each) {
  std::string more;
  do {
    const Request request{.path = fmt::format("{}{}limit={}{}", path,
                                              path.find('?') == std::string::npos ? "?" : "&", kPage,
                                              more.empty() ? "" : "&continue=" + kube::encode(more))};
    const Result<Reply> reply = client_.call(request);
    if (!reply) {
      return reply.error();
    }
    if (!reply->ok()) {
      return reply->status == kNotFound ? ok() : Status(kube::api_error(request, *reply));
    }
    const Json page = reply->json();
    if (const Json& items = kube::at(page, {"items"}); items.is_array()) {
      std::for_each(items.begin(), items.end(), each);
    }
    more = kube::text_at(page, {"metadata", "continue"});
  } while (!more.empty());
  return ok();
}

/// Those that the Service selects, as the API server's cache has them (resourceVersion=0): for a list in
/// pages it looks through all pods of the namespace in etcd, 8 s for one of 2,500 among 126,000 against 0.4.
Status Writer::each_pod(const kube::Service& service, const char* accept,
                        const std::function<void(const Json&)>& each) {
  return each_of({.path = "/api/v1/namespaces/" + service.ns +
                          "/pods?resourceVersion=0&labelSelector=" + kube::encode(selector_of(service)),
                  .accept = accept,
                  .silence = kListSilence},
                 each);
}

/// One of them is in memory at a time.
Status Writer::each_of(Request request, const std::function<void(const Json&)>& each) {
  request.objects_of_list = true;
  const Result<Reply> reply = client_.stream(request, [&](std::string_view text) {
    if (const Json object = Json::parse(text, nullptr, false); object.is_object()) {
      each(object);
    }
    return true;
  });
  if (!reply) {
    return reply.error();
  }
  return reply->ok() || reply->status == kNotFound ? ok() : Status(kube::api_error(request, *reply));
}

Result<std::vector<Owned>> Writer::list(const std::string& kind) {
  std::vector<Owned> owned;
  for (const std::string& selector : ours_selectors()) {
    // Not in pages of a call each: what no index finds the API server looks for among all entries, in etcd,
    // which has taken it longer than a call may last.
    const Status read =
        each_of({.path = collection(kind, "") + "?" + selector, .silence = sweep_silence_}, [&](Json item) {
          item["kind"] = kind;  // items of a list do not say it
          if (ours(item, lease_)) {
            owned.push_back(owned_of(item));
          }
        });
    if (!read) {
      sweep_silence_ = std::min(2 * sweep_silence_, kLongSweepSilence);
      return read.error();
    }
  }
  sweep_silence_ = kSweepSilence;
  return owned;
}

Status Writer::read_pods(const kube::Service& service, Facts& facts, bool& from_cache) {
  std::vector<const kube::Endpoint*> missing;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    if (endpoint.ready && !facts.pods.contains(pod_key(endpoint))) {
      missing.push_back(&endpoint);
    }
  }
  const std::string pods = "/api/v1/namespaces/" + service.ns + "/pods";
  if (missing.size() > kOneByOne && !service.selector.empty()) {
    std::set<std::string> wanted;
    std::transform(missing.begin(), missing.end(), std::inserter(wanted, wanted.end()),
                   [](const kube::Endpoint* endpoint) { return pod_key(*endpoint); });
    from_cache = true;
    Status read = each_pod(service, kube::kJsonBody, [&](const Json& item) {
      for (const std::string& key :
           {kube::text_at(item, {"metadata", "uid"}), kube::text_at(item, {"status", "podIP"})}) {
        if (wanted.contains(key)) {
          take_pod(item, facts.pods[key]);
        }
      }
    });
    if (!read) {
      return read;
    }
  }
  bool any = false;  // each call gets on by one at least
  for (const kube::Endpoint* endpoint : missing) {
    const std::string& key = pod_key(*endpoint);
    if (facts.pods.contains(key)) {
      continue;
    }
    if (std::exchange(any, true) && !may_read()) {
      return ok();
    }
    PodFacts pod{.gone = true};
    if (endpoint->uid.empty()) {
      // An endpoint of somebody's own making; istiod asks who has its address.
      Status read = pages("/api/v1/pods?fieldSelector=" + kube::encode("status.podIP=" + endpoint->address),
                          [&](const Json& item) { take_pod(item, pod); });
      if (!read) {
        return read;
      }
    } else {
      const Request request{.path = pods + "/" + kube::encode(endpoint->pod)};
      const Result<Reply> reply = client_.call(request);
      if (!reply) {
        return reply.error();
      }
      if (!reply->ok() && reply->status != kNotFound) {
        return kube::api_error(request, *reply);
      }
      const Json object = reply->json();
      if (reply->ok() && kube::text_at(object, {"metadata", "uid"}) != endpoint->uid) {
        continue;  // a pod of the same name after it, or an answer that is none: asked again
      }
      if (reply->ok()) {
        take_pod(object, pod);
      }
    }
    facts.pods[key] = std::move(pod);
  }
  return ok();
}

Status Writer::refresh_labels(const kube::Service& service, Facts& facts) {
  if (service.selector.empty()) {
    return ok();
  }
  return each_pod(service, kube::kMetadataList, [&](const Json& item) {
    const auto pod = facts.pods.find(kube::text_at(item, {"metadata", "uid"}));
    if (pod != facts.pods.end()) {
      take_metadata(item, pod->second);
    }
  });
}

Status Writer::read_nodes(const kube::Service& service, Facts& facts) {
  bool any = false;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    if (!endpoint.ready || endpoint.node->empty() || facts.localities.contains(endpoint.node)) {
      continue;
    }
    if (std::exchange(any, true) && !may_read()) {
      return ok();
    }
    const Request request{.path = "/api/v1/nodes/" + kube::encode(*endpoint.node), .accept = kube::kMetadata};
    const Result<Reply> reply = client_.call(request);
    if (!reply) {
      return reply.error();
    }
    if (!reply->ok() && reply->status != kNotFound) {
      return kube::api_error(request, *reply);
    }
    // istiod too has no locality for a pod whose node it does not know.
    facts.localities[endpoint.node] = reply->ok() ? locality_of(reply->json()) : "";
  }
  return ok();
}

Result<std::string> Writer::role_uid(const std::string& name) {
  const Request request{.path = "/apis/rbac.authorization.k8s.io/v1/clusterroles/" + name,
                        .accept = kube::kMetadata};
  const Result<Reply> reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  if (!reply->ok()) {
    return reply->status == kNotFound ? Result<std::string>(std::string())
                                      : Result<std::string>(kube::api_error(request, *reply));
  }
  return kube::text_at(reply->json(), {"metadata", "uid"});
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
/// `overtaken`: somebody wrote to it since we looked, and what he noted must stay.
Status note_release(kube::Client& client, const std::string& ns, const std::string& name,
                    const std::string& service, bool& overtaken) {
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
  const bool fresh = there->status == kNotFound;
  Json metadata = {{"name", name}, {"namespace", ns}, {"annotations", {{kReleasedAnnotation, text}}}};
  if (!fresh) {
    metadata["resourceVersion"] = kube::text_at(now, {"metadata", "resourceVersion"});
  }
  const Request request{
      .method = fresh ? "POST" : "PATCH",
      .path = fresh ? path : path + "/" + name + "?fieldManager=ballastctl",
      .body = dump({{"apiVersion", "coordination.k8s.io/v1"}, {"kind", "Lease"}, {"metadata", metadata}}),
      .content_type = fresh ? kube::kJsonBody : kube::kMergePatch};
  const Result<Reply> reply = client.call(request);
  if (!reply) {
    return reply.error();
  }
  overtaken = reply->status == kConflict;
  return reply->ok() ? ok() : Status(kube::api_error(request, *reply));
}

Status note_release(kube::Client& client, const std::string& ns, const std::string& name,
                    const std::string& service) {
  Backoff backoff(std::chrono::milliseconds(10), std::chrono::milliseconds(500));
  for (int left = kNotes; true; --left) {
    bool overtaken = false;
    Status noted = note_release(client, ns, name, service, overtaken);
    if (!overtaken || left == 0 || !client.sleep(backoff.next())) {
      return noted;
    }
  }
}

/// Removes objects of one kind, of one Service ("*": all); `first`: those alone whose end makes traffic
/// plain.
Result<int> remove_all(Writer& writer, const std::string& kind, const std::string& service, bool first) {
  // Nobody calls again after a hand.
  Result<std::vector<Owned>> owned = writer.list(kind);
  Backoff backoff(std::chrono::milliseconds(200), std::chrono::seconds(5));
  for (int left = kLists; !owned && owned.error().kind == Error::Kind::kFailed && left > 0; --left) {
    std::this_thread::sleep_for(backoff.next());
    owned = writer.list(kind);
  }
  if (!owned) {
    return owned.error();
  }
  int removed = 0;
  for (const Owned& object : *owned) {
    if ((service != "*" && object.key() != service) ||
        (first && kind == "ServiceEntry" && !object.own_host)) {
      continue;
    }
    if (Status gone = writer.remove(kind, object.ns, object.name, object.uid); !gone) {
      return gone.error();
    }
    ++removed;
  }
  return removed;
}

Result<int> remove_both(Writer& writer, const std::string& service, bool first) {
  const Result<int> routes = remove_all(writer, "VirtualService", service, first);
  const Result<int> entries = routes ? remove_all(writer, "ServiceEntry", service, first) : routes;
  if (!entries || service != "*") {
    return entries ? Result<int>(*routes + *entries) : entries;
  }
  // Whoever may not see them did not ask for one (kubernetes.istio_fast).
  const Result<int> filters = remove_all(writer, "EnvoyFilter", service, first);
  return !filters && filters.error().kind != Error::Kind::kPrivilege
             ? filters
             : Result<int>(*routes + *entries + (filters ? *filters : 0));
}

/// Until who holds the Lease has renewed it, which it does four times in its length: it reads what is noted
/// there before it writes. Who does not renew lives no more, or reads before its next write.
void await_renewal(kube::Client& client, const std::string& path) {
  std::string first;
  for (auto left = std::chrono::milliseconds::max(); left.count() > 0; left -= kLooksAgain) {
    const Result<Reply> reply = client.call({.path = path});
    const Json lease = reply ? reply->json() : Json();
    const std::string holder = kube::text_at(lease, {"spec", "holderIdentity"});
    const std::string seen = holder + kube::text_at(lease, {"spec", "renewTime"});
    if (holder.empty() || (!first.empty() && seen != first)) {
      return;
    }
    if (first.empty()) {
      const Json& length = kube::at(lease, {"spec", "leaseDurationSeconds"});
      left = std::chrono::seconds(length.is_number_integer() ? std::clamp(length.get<int>() / 2, 0, 30) : 0);
      first = seen;
    }
    client.sleep(kLooksAgain);
  }
}

}  // namespace

Result<int> release_by_hand(kube::Client& client, const std::string& lease_ns, const std::string& lease_name,
                            const std::string& service) {
  // The routes go whatever the Lease says: traffic first, book-keeping second.
  Writer writer(client, lease_ns + "." + lease_name);
  const Status noted = note_release(client, lease_ns, lease_name, service);
  const Result<int> plain = remove_both(writer, service, true);
  if (!plain) {
    return plain.error();
  }
  if (!noted) {
    return noted.error().in("traffic is plain, but a leader that lives is not told and may come back");
  }
  await_renewal(client, "/apis/coordination.k8s.io/v1/namespaces/" + lease_ns + "/leases/" + lease_name);
  // For proxies, and for a leader that was in the middle of an adoption.
  client.sleep(kRouteSettles);
  const Result<int> rest = remove_both(writer, service, false);
  return rest ? Result<int>(*plain + *rest) : rest;
}

}  // namespace ballast::actuate::istio
