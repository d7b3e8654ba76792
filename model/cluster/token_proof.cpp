// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/token_proof.h"

#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/sha.h>

#include <algorithm>
#include <utility>

namespace ballast::cluster {

namespace {

using kube::Json;

constexpr const char* kNodeClaim = "authentication.kubernetes.io/node-name";
constexpr const char* kPodClaim = "authentication.kubernetes.io/pod-name";
constexpr std::size_t kLongest = 16'384;

/// Base64url without padding, as in JWTs and JWKs; empty where it is none.
std::string decoded(std::string text) {
  std::replace(text.begin(), text.end(), '-', '+');
  std::replace(text.begin(), text.end(), '_', '/');
  const std::size_t padding = (4 - text.size() % 4) % 4;
  text.append(padding, '=');
  std::string bytes(text.size() + 3, '\0');
  const int length =
      ::EVP_DecodeBlock(reinterpret_cast<unsigned char*>(bytes.data()),
                        reinterpret_cast<const unsigned char*>(text.data()), static_cast<int>(text.size()));
  bytes.resize(length < static_cast<int>(padding) ? 0 : static_cast<std::size_t>(length) - padding);
  return bytes;
}

/// Head and claims of a JWT, unverified, what is signed of it, and by what. Null claims: no JWT.
struct Jwt {
  Json head, claims;
  std::string body, signature;
};

Jwt parse_jwt(const std::string& token) {
  const std::size_t first = token.find('.');
  const std::size_t second = token.find('.', first + 1);
  if (token.size() > kLongest || first == std::string::npos || second == std::string::npos) {
    return {};
  }
  const auto part = [](const std::string& text) {
    Json json = Json::parse(decoded(text), nullptr, false);
    return json.is_object() ? json : Json(nullptr);
  };
  return {part(token.substr(0, first)), part(token.substr(first + 1, second - first - 1)),
          token.substr(0, second), decoded(token.substr(second + 1))};
}

using Number = std::unique_ptr<BIGNUM, Freed<BN_free>>;

Number number_of(const std::string& bytes) {
  return Number(::BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()),
                            static_cast<int>(bytes.size()), nullptr));
}

/// Of a JSON Web Key; null for one of another kind than RSA and P-256.
Key key_of(const Json& jwk) {
  const auto field = [&](const char* name) { return decoded(kube::text_at(jwk, {name})); };
  const bool rsa = kube::text_at(jwk, {"kty"}) == "RSA";
  const std::string x = field("x");
  const std::string y = field("y");
  if (!rsa && (kube::text_at(jwk, {"crv"}) != "P-256" || x.size() != 32 || y.size() != 32)) {
    return nullptr;
  }
  const std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>> build(::OSSL_PARAM_BLD_new());
  const Number n = number_of(field("n"));
  const Number e = number_of(field("e"));
  const std::string point = "\x04" + x + y;
  if (rsa) {
    ::OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_N, n.get());
    ::OSSL_PARAM_BLD_push_BN(build.get(), OSSL_PKEY_PARAM_RSA_E, e.get());
  } else {
    ::OSSL_PARAM_BLD_push_utf8_string(build.get(), OSSL_PKEY_PARAM_GROUP_NAME, "prime256v1", 0);
    ::OSSL_PARAM_BLD_push_octet_string(build.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(), point.size());
  }
  const std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>> parts(::OSSL_PARAM_BLD_to_param(build.get()));
  const std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>> making(
      ::EVP_PKEY_CTX_new_from_name(nullptr, rsa ? "RSA" : "EC", nullptr));
  EVP_PKEY* key = nullptr;
  ::EVP_PKEY_fromdata_init(making.get());
  ::EVP_PKEY_fromdata(making.get(), &key, EVP_PKEY_PUBLIC_KEY, parts.get());
  return Key(key);
}

/// JWTs hold an ECDSA signature as its two numbers; OpenSSL takes them in DER. Empty: it is none.
std::string der_of(const std::string& signature) {
  const std::unique_ptr<ECDSA_SIG, Freed<ECDSA_SIG_free>> pair(::ECDSA_SIG_new());
  if (signature.size() != 64) {
    return "";
  }
  ::ECDSA_SIG_set0(pair.get(), number_of(signature.substr(0, 32)).release(),
                   number_of(signature.substr(32)).release());
  unsigned char* bytes = nullptr;
  const int length = ::i2d_ECDSA_SIG(pair.get(), &bytes);
  std::string der(reinterpret_cast<char*>(bytes), static_cast<std::size_t>(std::max(length, 0)));
  ::OPENSSL_free(bytes);
  return der;
}

bool signed_by(EVP_PKEY* key, const Jwt& jwt) {
  const bool rsa = ::EVP_PKEY_get_base_id(key) == EVP_PKEY_RSA;
  const std::string signature = rsa ? jwt.signature : der_of(jwt.signature);
  const std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>> check(::EVP_MD_CTX_new());
  return !signature.empty() &&
         ::EVP_DigestVerifyInit(check.get(), nullptr, ::EVP_sha256(), nullptr, key) == 1 &&
         ::EVP_DigestVerify(check.get(), reinterpret_cast<const unsigned char*>(signature.data()),
                            signature.size(), reinterpret_cast<const unsigned char*>(jwt.body.data()),
                            jwt.body.size()) == 1;
}

bool names(const Json& audiences, const std::string& wanted) {
  return audiences == wanted ||
         (audiences.is_array() && std::find(audiences.begin(), audiences.end(), wanted) != audiences.end());
}

}  // namespace

Status TokenProof::take(Allowance& allowance) const {
  const auto now = Clock::now();
  const double since = std::chrono::duration<double>(now - allowance.filled).count();
  allowance.left = std::min(options_.reviews_per_s, allowance.left + since * options_.reviews_per_s);
  allowance.filled = now;
  if (allowance.left < 1) {
    return Error::failed("too many tokens at once, come again");
  }
  allowance.left -= 1;
  return ok();
}

/// The API server's keys as they are known, read anew where `kid` is none of them.
std::shared_ptr<const TokenProof::Keys> TokenProof::keys_with(const std::string& kid) {
  {
    const std::lock_guard lock(mutex_);
    const auto now = Clock::now();
    if (keys_->contains(kid) || (keys_read_ && now < *keys_read_ + options_.keys_every)) {
      return keys_;
    }
    keys_read_ = now;
  }
  const auto reply = client_.call({.path = "/openid/v1/jwks", .accept = "application/jwk-set+json"});
  const Json body = reply && reply->ok() ? reply->json() : Json(nullptr);
  auto keys = std::make_shared<Keys>();
  for (const Json& jwk : kube::at(body, {"keys"})) {
    if (Key key = key_of(jwk)) {
      (*keys)[kube::text_at(jwk, {"kid"})] = std::move(key);
    }
  }
  const std::lock_guard lock(mutex_);
  if (!keys->empty()) {
    keys_ = std::move(keys);
  }
  return keys_;
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
    // Of us, and not of the token: a right that is missing, or an API server that has just begun.
    return Error::failed(kube::api_error(request, *reply).message);
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
  const Jwt jwt = parse_jwt(token);
  const Json& claims = jwt.claims;
  const Json& expires = kube::at(claims, {"exp"});
  const auto now_s =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch())
          .count();
  if (!names(kube::at(claims, {"aud"}), options_.audience) || !expires.is_number_integer() ||
      expires.get<std::int64_t>() <= now_s) {
    return Error::privilege("token refused: it is no token for " + options_.audience + ", or has expired");
  }
  if (const std::string sub = kube::text_at(claims, {"sub"});
      !sub.empty() && sub != options_.account && sub != options_.writer) {
    return Error::privilege("token refused: it is of " + sub + ", not of " + options_.account);
  }
  Print print{};
  ::SHA256(reinterpret_cast<const unsigned char*>(token.data()), token.size(), print.data());
  bool proven = false;
  {
    const std::lock_guard lock(mutex_);
    const auto found = known_.find(print);
    proven = found != known_.end();
    if (proven && found->second.until > Clock::now()) {
      return found->second.answer;
    }
  }
  const std::string kid = kube::text_at(jwt.head, {"kid"});
  const std::string alg = kube::text_at(jwt.head, {"alg"});
  if (!proven && (alg == "RS256" || alg == "ES256")) {
    const auto keys = keys_with(kid);
    const auto key = keys->find(kid);
    proven = key != keys->end();
    if (proven && !signed_by(key->second.get(), jwt)) {
      return Error::privilege("token refused: the API server did not sign it");
    }
  }
  {
    const std::lock_guard lock(mutex_);
    if (auto may = take(proven ? proven_ : strangers_); !may) {
      return may.error();
    }
  }
  auto node = review(token);
  const std::lock_guard lock(mutex_);
  if (known_.size() >= options_.most) {
    std::erase_if(known_, [&](const auto& one) { return one.second.ends_s <= now_s; });
    if (known_.size() >= options_.most) {
      known_.clear();
    }
  }
  // A refusal is remembered where few can make it: a token that was signed, and revoked, is asked for again
  // and again.
  if (node || (proven && node.error().kind == Error::Kind::kPrivilege)) {
    const std::int64_t ends_s = expires.get<std::int64_t>();
    const auto until = Clock::now() + std::min(options_.remembered, std::chrono::seconds(ends_s - now_s));
    known_.insert_or_assign(print, Known{node, until, ends_s});
  }
  return node;
}

}  // namespace ballast::cluster
