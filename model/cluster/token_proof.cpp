// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/token_proof.h"

#include <openssl/evp.h>
#include <openssl/sha.h>

#include <algorithm>

namespace ballast::cluster {

namespace {

using kube::Json;

constexpr const char* kNodeClaim = "authentication.kubernetes.io/node-name";
constexpr const char* kPodClaim = "authentication.kubernetes.io/pod-name";
constexpr std::size_t kLongest = 16'384;

/// The claims in a JWT, unverified: enough to refuse what cannot be ours. Null: no JWT.
Json claims_of(const std::string& token) {
  const std::size_t first = token.find('.');
  const std::size_t second = token.find('.', first + 1);
  if (token.size() > kLongest || first == std::string::npos || second == std::string::npos) {
    return nullptr;
  }
  std::string text = token.substr(first + 1, second - first - 1);
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  text.append((4 - text.size() % 4) % 4, '=');
  std::string bytes(text.size() + 3, '\0');
  const int length =
      ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  bytes.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  bytes.resize(bytes.rfind('}') + 1);  // what the padding decoded to
  Json claims = Json::parse(bytes, nullptr, false);
  return claims.is_object() ? claims : Json(nullptr);
}

bool names(const Json& audiences, const std::string& wanted) {
  return audiences == wanted ||
         (audiences.is_array() && std::find(audiences.begin(), audiences.end(), wanted) != audiences.end());
}

}  // namespace

Status TokenProof::take_allowance() {
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - filled_).count();
  allowance_ = std::min(options_.reviews_per_s, allowance_ + since * options_.reviews_per_s);
  filled_ = now;
  if (allowance_ < 1) {
    return Error::failed("too many tokens at once, come again");
  }
  allowance_ -= 1;
  return ok();
}

Result<std::string> TokenProof::review(const std::string& token) {
  const Json body = {{"apiVersion", "authentication.k8s.io/v1"},
                     {"kind", "TokenReview"},
                     {"spec", {{"token", token}, {"audiences", {options_.audience}}}}};
  const kube::Request request{.method = "POST",
                              .path = "/apis/authentication.k8s.io/v1/tokenreviews",
                              .body = body.dump(-1, ' ', false, Json::error_handler_t::replace)};
  const auto reply = client_.call(request);
  if (!reply) {
    return reply.error();
  }
  if (!reply->ok()) {
    return kube::api_error(request, *reply);
  }
  const Json review = reply->json();
  const Json& held = kube::at(review, {"status", "authenticated"});
  if (held != true || !names(kube::at(review, {"status", "audiences"}), options_.audience)) {
    return Error::privilege("token refused: " + kube::text_at(review, {"status", "error"}));
  }
  const std::string user = kube::text_at(review, {"status", "user", "username"});
  const bool writer = !options_.writer.empty() && user == options_.writer;
  if (user != options_.account && !writer) {
    return Error::privilege("token refused: it is of " + user + ", not of " + options_.account);
  }
  const Json& name = kube::at(review, {"status", "user", "extra", writer ? kPodClaim : kNodeClaim});
  if (!name.is_array() || name.empty() || !name[0].is_string()) {
    return Error::privilege(
        "token refused: it does not say on which node its pod runs (Kubernetes before 1.30?)");
  }
  return (writer ? kWriter : "") + name[0].get<std::string>();
}

Result<std::string> TokenProof::node_of(const std::string& token) {
  const Json claims = claims_of(token);
  const Json& expires = kube::at(claims, {"exp"});
  const auto now_s =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  if (!names(kube::at(claims, {"aud"}), options_.audience) || !expires.is_number_integer() ||
      expires.get<std::int64_t>() <= now_s) {
    return Error::privilege("token refused: it is no token for " + options_.audience + ", or has expired");
  }
  Print print{};
  ::SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), print.data());
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = known_.find(print); found != known_.end() && found->second.until > Clock::now()) {
      return found->second.node;
    }
    if (auto may = take_allowance(); !may) {
      return may.error();
    }
  }
  auto node = review(token);
  const std::lock_guard lock(mutex_);
  if (known_.size() >= options_.most) {
    known_.clear();
  }
  if (node) {
    const auto until = Clock::now() + std::min(options_.remembered,
                                               std::chrono::seconds(expires.get<std::int64_t>() - now_s));
    known_[print] = {*node, until};
  } else {
    known_.erase(print);
  }
  return node;
}

}  // namespace ballast::cluster
