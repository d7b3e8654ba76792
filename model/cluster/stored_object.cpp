// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/stored_object.h"

#include <openssl/evp.h>

#include <vector>

namespace ballast::cluster {

namespace {

using kube::Json;

std::string encoded(const std::string& bytes) {
  std::string out(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  const int length =
      ::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(bytes.data()), static_cast<int>(bytes.size()));
  out.resize(static_cast<std::size_t>(length));
  return out;
}

std::string decoded(const std::string& text) {
  std::string out(3 * text.size() / 4 + 3, '\0');
  const int length =
      ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(out.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  const std::size_t padding = text.ends_with("==") ? 2 : text.ends_with("=") ? 1 : 0;
  out.resize(length < 0 ? 0 : static_cast<std::size_t>(length) - padding);
  return out;
}

void collect(const Json& from, std::map<std::string, std::string>& out, bool base64) {
  if (!from.is_object()) {
    return;
  }
  for (const auto& [key, value] : from.items()) {
    if (value.is_string()) {
      out[key] = base64 ? decoded(value.get<std::string>()) : value.get<std::string>();
    }
  }
}

}  // namespace

std::string StoredObject::path() const {
  return "/api/v1/namespaces/" + ns_ + (kind_ == Kind::kSecret ? "/secrets/" : "/configmaps/") + name_;
}

Result<Stored> StoredObject::read() {
  const kube::Request request{.path = path()};
  const auto reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  version_.clear();
  Stored out;
  if (reply->status == 404) {
    return out;
  }
  const Json object = reply->json();
  if (!reply->ok() || !object.is_object()) {
    return kube::api_error(request, *reply);
  }
  version_ = kube::text_at(object, {"metadata", "resourceVersion"});
  collect(kube::at(object, {"metadata", "annotations"}), out.notes, false);
  collect(kube::at(object, {"data"}), out.data, kind_ == Kind::kSecret);
  collect(kube::at(object, {"binaryData"}), out.data, true);
  return out;
}

Result<StoredObject::Written> StoredObject::write(const Stored& stored) {
  const bool secret = kind_ == Kind::kSecret;
  Json object = {
      {"apiVersion", "v1"},
      {"kind", secret ? "Secret" : "ConfigMap"},
      {"metadata",
       {{"name", name_},
        {"namespace", ns_},
        {"labels", {{"app.kubernetes.io/name", "ballast"}, {"app.kubernetes.io/part-of", "ballast"}}},
        {"annotations", stored.notes}}}};
  for (const auto& [key, bytes] : stored.data) {
    // A certificate is read by people and by the kubelet's volumes as text.
    if (secret || !bytes.starts_with("-----BEGIN ")) {
      object[secret ? "data" : "binaryData"][key] = encoded(bytes);
    } else {
      object["data"][key] = bytes;
    }
  }
  const bool fresh = version_.empty();
  if (!fresh) {
    object["metadata"]["resourceVersion"] = version_;
  }
  const std::string whole = path();
  const kube::Request request{.method = fresh ? "POST" : "PUT",
                              .path = fresh ? whole.substr(0, whole.rfind('/')) : whole,
                              .body = object.dump(-1, ' ', false, Json::error_handler_t::replace)};
  const auto reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  // 404: it was deleted under us.
  if (reply->status == 409 || (!fresh && reply->status == 404)) {
    return Written::kConflict;
  }
  if (!reply->ok()) {
    return kube::api_error(request, *reply);
  }
  version_ = kube::text_at(reply->json(), {"metadata", "resourceVersion"});
  return Written::kDone;
}

}  // namespace ballast::cluster
