// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/bn.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/rsa.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <map>
#include <mutex>
#include <sstream>
#include <tuple>

#include "agent/decide/prior.h"
#include "agent/fleet/remote.h"
#include "agent/turn/turn.h"
#include "core/base/file.h"
#include "model/cluster/authority.h"
#include "model/cluster/checkpoint_object.h"
#include "model/cluster/endpoint_owners.h"
#include "model/cluster/leadership.h"
#include "model/cluster/token_proof.h"
#include "model/sync/client/fleet_client.h"
#include "model/sync/client/worker_client.h"
#include "model/sync/server/global_server.h"
#include "scripted_server.h"

namespace ballast::cluster {
namespace {

using namespace std::chrono_literals;
using kube::Json;
using ::testing::HasSubstr;

template <typename Holds>
bool eventually(const Holds& holds, std::chrono::seconds patience = 30s) {
  const auto end = std::chrono::steady_clock::now() + patience;
  while (!holds()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(5ms);
  }
  return true;
}

std::string base64url(const std::string& bytes) {
  std::string text(4 * ((bytes.size() + 2) / 3) + 1, '\0');
  text.resize(static_cast<std::size_t>(::EVP_EncodeBlock(reinterpret_cast<unsigned char*>(text.data()),
                                                         reinterpret_cast<const unsigned char*>(bytes.data()),
                                                         static_cast<int>(bytes.size()))));
  while (text.ends_with('=')) {
    text.pop_back();
  }
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  return text;
}

std::string claims(const std::string& audience, int lasts_s, const std::string& salt) {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  return base64url(Json({{"aud", {audience}}, {"exp", now.count() + lasts_s}, {"jti", salt}}).dump());
}

/// A JWT that only its claims are right of: who checks signatures is the API server.
std::string token(const std::string& audience, int lasts_s, const std::string& salt = "") {
  return "e30." + claims(audience, lasts_s, salt) + ".c2lnbmVk";
}

/// With which an API server signs.
class SigningKey {
 public:
  SigningKey(std::string kid, bool rsa)
      : kid_(std::move(kid)),
        rsa_(rsa),
        key_(rsa ? ::EVP_RSA_gen(2048) : ::EVP_PKEY_Q_keygen(nullptr, nullptr, "EC", "P-256")) {}
  ~SigningKey() { ::EVP_PKEY_free(key_); }
  SigningKey(const SigningKey&) = delete;
  SigningKey& operator=(const SigningKey&) = delete;

  Json jwk() const {
    if (rsa_) {
      return {{"kty", "RSA"}, {"kid", kid_}, {"n", number("n", 256)}, {"e", number("e", 3)}};
    }
    return {{"kty", "EC"}, {"crv", "P-256"}, {"kid", kid_}, {"x", number("qx", 32)}, {"y", number("qy", 32)}};
  }
  std::string sign(const std::string& salt) const {
    const std::string head = Json({{"alg", rsa_ ? "RS256" : "ES256"}, {"kid", kid_}}).dump();
    const std::string body = base64url(head) + "." + claims("ballast", 600, salt);
    EVP_MD_CTX* context = ::EVP_MD_CTX_new();
    std::string signature(512, '\0');
    std::size_t length = signature.size();
    ::EVP_DigestSignInit(context, nullptr, ::EVP_sha256(), nullptr, key_);
    ::EVP_DigestSign(context, reinterpret_cast<unsigned char*>(signature.data()), &length,
                     reinterpret_cast<const unsigned char*>(body.data()), body.size());
    ::EVP_MD_CTX_free(context);
    signature.resize(length);
    return body + "." + base64url(rsa_ ? signature : pair_of(signature));
  }

 private:
  static std::string bytes_of(const BIGNUM* number, int size) {
    std::string bytes(static_cast<std::size_t>(size), '\0');
    ::BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), size);
    return bytes;
  }
  std::string number(const char* name, int size) const {
    BIGNUM* number = nullptr;
    ::EVP_PKEY_get_bn_param(key_, name, &number);
    const std::string bytes = bytes_of(number, size);
    ::BN_free(number);
    return base64url(bytes);
  }
  static std::string pair_of(const std::string& der) {
    const auto* at = reinterpret_cast<const unsigned char*>(der.data());
    ECDSA_SIG* pair = ::d2i_ECDSA_SIG(nullptr, &at, static_cast<long>(der.size()));
    std::string out = bytes_of(::ECDSA_SIG_get0_r(pair), 32) + bytes_of(::ECDSA_SIG_get0_s(pair), 32);
    ::ECDSA_SIG_free(pair);
    return out;
  }
  std::string kid_;
  bool rsa_;
  EVP_PKEY* key_;
};

/// The same token by another's hand.
std::string forged(std::string token) {
  std::reverse(token.begin() + static_cast<std::ptrdiff_t>(token.rfind('.') + 1), token.end());
  return token;
}

/// Objects in memory, with resourceVersions as the API server keeps them; TokenReviews by a table.
class Api : public ::testing::Test {
 protected:
  struct Account {
    std::string user, node;
  };
  std::unique_ptr<kube::Client> client() const {
    kube::ClientOptions options;
    options.server = server_.url();
    options.retry_budget = 200ms;
    auto made = kube::Client::create(options);
    EXPECT_TRUE(made);
    return std::move(*made);
  }
  std::string say(const kube::Asked& asked) {
    const std::lock_guard lock(mutex_);
    const Json body = Json::parse(asked.body, nullptr, false);
    if (asked.target.ends_with("/tokenreviews")) {
      ++reviews_;
      if (begins_) {
        return kube::answer(403, R"({"message":"forbidden"})");
      }
      const auto found = accounts_.find(kube::text_at(body, {"spec", "token"}));
      Json status = {{"authenticated", false}, {"error", "no such token"}};
      if (found != accounts_.end()) {
        status = {{"authenticated", true},
                  {"audiences", {"ballast"}},
                  {"user", {{"username", found->second.user}}}};
        if (!found->second.node.empty()) {
          status["user"]["extra"] = {
              {"authentication.kubernetes.io/node-name", {found->second.node}},
              {"authentication.kubernetes.io/pod-name", {"pod-on-" + found->second.node}}};
        }
      }
      return kube::answer(201, Json({{"status", status}}).dump());
    }
    std::string path = asked.target.substr(0, asked.target.find('?'));
    if (asked.method == "POST") {
      path += "/" + kube::text_at(body, {"metadata", "name"});
    }
    const auto found = objects_.find(path);
    if (asked.method == "GET") {
      return found == objects_.end() ? kube::answer(404, "{}") : kube::answer(200, found->second.dump());
    }
    if (asked.method == "POST" ? found != objects_.end() : found == objects_.end()) {
      return kube::answer(asked.method == "POST" ? 409 : 404, "{}");
    }
    if (asked.method == "PUT" && kube::text_at(body, {"metadata", "resourceVersion"}) !=
                                     kube::text_at(found->second, {"metadata", "resourceVersion"})) {
      return kube::answer(409, "{}");
    }
    Json stored = body;
    stored["metadata"]["resourceVersion"] = std::to_string(++version_);
    objects_[path] = stored;
    return kube::answer(200, stored.dump());
  }

  std::mutex mutex_;
  std::map<std::string, Json> objects_;
  std::map<std::string, Account> accounts_;
  int version_ = 0;
  int reviews_ = 0;
  bool begins_ = false;  ///< and has not read who may review tokens
  kube::ScriptedServer server_{[this](const kube::Asked& asked) { return say(asked); }};
  static constexpr const char* kAgents = "system:serviceaccount:ballast-system:ballast";
  static constexpr const char* kWriters = "system:serviceaccount:ballast-system:ballast-global";
};

TEST_F(Api, AStateIsThereForTheNextLeaderWithAHigherEpoch) {
  const auto calls = client();
  const auto always = [] { return true; };
  CheckpointObject first(*calls, "ballast-system", "a", always, spec::kParameters);
  auto state = first.load(policy::initial(3));
  ASSERT_TRUE(state) << state.error().message;
  EXPECT_GT(state->parameters.epoch, 1'600'000'000U) << "nothing was there: seconds since 1970";
  const std::uint64_t epoch = state->parameters.epoch;
  state->parameters.version = 41;
  state->parameters.theta[7] = 0.625F;
  state->mean_square[9] = 0.5F;
  ASSERT_TRUE(first.save(*state)) << first.save(*state).error().message;

  CheckpointObject second(*calls, "ballast-system", "b", always, spec::kParameters);
  const auto taken = second.load(policy::initial(4));
  ASSERT_TRUE(taken);
  EXPECT_EQ(taken->parameters.epoch, epoch + 1);
  EXPECT_EQ(taken->parameters.version, 41U);
  EXPECT_EQ(taken->parameters.theta, state->parameters.theta);
  EXPECT_EQ(taken->mean_square, state->mean_square);
}

TEST_F(Api, AFormerLeaderWritesNothingMore) {
  const auto calls = client();
  bool leads = true;
  CheckpointObject former(
      *calls, "ballast-system", "a", [&] { return leads; }, spec::kParameters);
  auto old = former.load(policy::initial(3));
  ASSERT_TRUE(old && former.save(*old));
  CheckpointObject next(
      *calls, "ballast-system", "b", [] { return true; }, spec::kParameters);
  auto state = next.load(policy::initial(3));
  ASSERT_TRUE(state && next.save(*state));
  const std::string path = "/api/v1/namespaces/ballast-system/configmaps/ballast-checkpoint";
  const Json there = objects_[path];

  const Status late = former.save(*old);
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().message, HasSubstr("deposed"));
  EXPECT_FALSE(former.still_leads(old->parameters.epoch));
  EXPECT_EQ(objects_[path], there);
  leads = false;
  const auto asked = server_.count();
  EXPECT_FALSE(former.save(*old));
  EXPECT_EQ(server_.count(), asked) << "without the Lease it does not even ask";
}

TEST_F(Api, TheGainsOfServicesLieBesideTheState) {
  const auto calls = client();
  CheckpointObject store(
      *calls, "ballast-system", "a", [] { return true; }, spec::kParameters);
  auto state = store.load(policy::initial(3));
  ASSERT_TRUE(state);
  EXPECT_EQ(store.gains(), "");
  ASSERT_TRUE(store.save(*state)) << "none yet";
  store.keep_gains("gains of services");
  ASSERT_TRUE(store.save(*state));
  CheckpointObject next(
      *calls, "ballast-system", "b", [] { return true; }, spec::kParameters);
  auto later = next.load(policy::initial(3));
  ASSERT_TRUE(later);
  EXPECT_EQ(next.gains(), "gains of services");
  ASSERT_TRUE(next.save(*later)) << "who only claims the epoch loses nothing";
  ASSERT_TRUE(store.load(policy::initial(3)));
  EXPECT_EQ(store.gains(), "gains of services");
}

TEST_F(Api, AWriteThatOnlyALabelCameBetweenIsDoneAgain) {
  const auto calls = client();
  CheckpointObject store(
      *calls, "ballast-system", "a", [] { return true; }, spec::kParameters);
  auto state = store.load(policy::initial(3));
  ASSERT_TRUE(state && store.save(*state));
  objects_["/api/v1/namespaces/ballast-system/configmaps/ballast-checkpoint"]["metadata"]["resourceVersion"] =
      "by hand";
  EXPECT_TRUE(store.save(*state));
  objects_.clear();
  EXPECT_TRUE(store.save(*state)) << "deleted by hand";
}

TEST_F(Api, ADamagedStateIsPassedOverAndItsEpochIsNot) {
  const auto calls = client();
  CheckpointObject store(
      *calls, "ballast-system", "a", [] { return true; }, spec::kParameters);
  auto state = store.load(policy::initial(3));
  ASSERT_TRUE(state && store.save(*state));
  objects_["/api/v1/namespaces/ballast-system/configmaps/ballast-checkpoint"]["binaryData"]["checkpoint"] =
      "AAAA";
  const auto again = store.load(policy::initial(3));
  ASSERT_TRUE(again);
  EXPECT_EQ(again->parameters.epoch, state->parameters.epoch + 1);
}

/// A StatefulSet's pod keeps its name on another node; the slices tell of both while the first ends.
TEST_F(Api, APodThatMovedIsSpokenForByTheNodeWhereItIsReady) {
  const auto list = [](Json items) {
    return Json{{"metadata", {{"resourceVersion", "1"}}}, {"items", std::move(items)}};
  };
  const auto endpoint = [](const char* address, const char* node, bool ready) {
    return Json{{"addresses", {address}},
                {"nodeName", node},
                {"conditions", {{"ready", ready}}},
                {"targetRef", {{"kind", "Pod"}, {"name", "db-0"}, {"uid", address}}}};
  };
  objects_["/api/v1/services"] = list(Json::array(
      {{{"metadata",
         {{"namespace", "shop"}, {"name", "db"}, {"labels", {{"ballast.dev/mode", "active"}}}}}}}));
  objects_["/apis/discovery.k8s.io/v1/endpointslices"] = list(Json::array(
      {{{"metadata",
         {{"namespace", "shop"}, {"name", "db-1"}, {"labels", {{"kubernetes.io/service-name", "db"}}}}},
        {"addressType", "IPv4"},
        {"endpoints", {endpoint("10.0.0.1", "node-b", true), endpoint("10.0.0.9", "node-a", false)}}}}));
  const auto calls = client();
  const kube::Catalog catalog(*calls);
  ASSERT_TRUE(eventually([&] { return catalog.synced(); }));
  EndpointOwners owners(catalog);
  const auto owns = [&](const char* node, const char* address) {
    return owners.owns(node, {{{"shop", "db"}, "db-0"}, address, 80});
  };
  EXPECT_TRUE(owns("node-b", "10.0.0.1"));
  EXPECT_FALSE(owns("node-a", "10.0.0.9"));
  calls->stop();
}

TEST_F(Api, OfTwoReplicasOneLeadsAndTheOtherAfterIt) {
  const auto calls = client();
  auto a =
      std::make_unique<Leadership>(*calls, kube::LeaseOptions{"ballast-system", "ballast-global", "a", 5});
  ASSERT_TRUE(eventually([&] { return a->leads(); }));
  const Leadership b(*calls, {"ballast-system", "ballast-global", "b", 5});
  std::this_thread::sleep_for(1500ms);
  EXPECT_TRUE(a->leads());
  EXPECT_FALSE(b.leads());
  a.reset();  // lets go
  EXPECT_TRUE(eventually([&] { return b.leads(); }, 4s));
}

TEST_F(Api, ATokenProvesItsNodeAndIsAskedOnce) {
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents});
  const std::string good = token("ballast", 600);
  accounts_[good] = {kAgents, "node-a"};
  for (int i = 0; i < 3; ++i) {
    const auto node = proof.node_of(good);
    ASSERT_TRUE(node) << node.error().message;
    EXPECT_EQ(*node, "node-a");
  }
  EXPECT_EQ(reviews_, 1);
}

TEST_F(Api, TheWritersTokenProvesThatItIsNoNode) {
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents, .writer = kWriters});
  const std::string writer = token("ballast", 600, "writer");
  const std::string agent = token("ballast", 600, "agent");
  accounts_[writer] = {kWriters, "node-a"};
  accounts_[agent] = {kAgents, "node-a"};
  EXPECT_EQ(*proof.node_of(writer), "writer:pod-on-node-a");
  EXPECT_EQ(*proof.node_of(agent), "node-a");
}

TEST_F(Api, WhatProvesNothingIsRefused) {
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents});
  const auto refused = [&](const std::string& shown, int asked) {
    const int before = reviews_;
    const auto node = proof.node_of(shown);
    EXPECT_FALSE(node) << *node;
    EXPECT_TRUE(node || node.error().kind == Error::Kind::kPrivilege);
    EXPECT_EQ(reviews_ - before, asked) << shown;
  };
  refused("", 0);
  refused("any bytes", 0);
  refused(std::string(100'000, '.'), 0);
  refused("e30.!!!!.x", 0);
  refused(token("https://kubernetes.default.svc", 600), 0);  // for the API server, as any pod has one
  refused(token("ballast", -1), 0);
  refused(token("ballast", 600, "forged"), 1);
  const std::string other = token("ballast", 600, "other");
  accounts_[other] = {"system:serviceaccount:shop:default", "node-a"};
  refused(other, 1);
  const std::string nodeless = token("ballast", 600, "nodeless");
  accounts_[nodeless] = {kAgents, ""};
  refused(nodeless, 1);
}

TEST_F(Api, ForgedTokensDoNotFloodTheApiServer) {
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents, .reviews_per_s = 20});
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(proof.node_of(token("ballast", 600, std::to_string(i))));
  }
  EXPECT_LT(reviews_, 150);
}

TEST_F(Api, AFloodOfForgedTokensKeepsOutNobodyWhoProvedHimself) {
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents, .remembered = 0s, .reviews_per_s = 20});
  const std::string good = token("ballast", 600);
  accounts_[good] = {kAgents, "node-a"};
  ASSERT_TRUE(proof.node_of(good));
  for (int i = 0; i < 200; ++i) {
    EXPECT_FALSE(proof.node_of(token("ballast", 600, std::to_string(i))));
  }
  const auto again = proof.node_of(good);
  EXPECT_TRUE(again) << again.error().message;
}

TEST_F(Api, WhatTheApiServerDidNotSignCostsNoReview) {
  const SigningKey rsa("first", true);
  const SigningKey ec("second", false);
  objects_["/openid/v1/jwks"] = {{"keys", {rsa.jwk(), {{"kty", "oct"}, {"kid", "odd"}}, ec.jwk()}}};
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents, .reviews_per_s = 20});
  for (int i = 0; i < 200; ++i) {
    const auto node = proof.node_of(forged((i % 2 == 0 ? rsa : ec).sign(std::to_string(i))));
    ASSERT_FALSE(node);
    EXPECT_EQ(node.error().kind, Error::Kind::kPrivilege);
  }
  EXPECT_EQ(reviews_, 0);
  for (int i = 0; i < 100; ++i) {
    EXPECT_FALSE(proof.node_of(SigningKey("third", false).sign(std::to_string(i)))) << "a key of its own";
  }
  EXPECT_LT(reviews_, 80);
  for (const SigningKey* key : {&rsa, &ec}) {
    const std::string good = key->sign("node-a");
    accounts_[good] = {kAgents, "node-a"};
    const auto node = proof.node_of(good);
    ASSERT_TRUE(node) << node.error().message;
    EXPECT_EQ(*node, "node-a");
  }
}

TEST_F(Api, ARevokedTokenIsNotAskedForAgainAndAgain) {
  const SigningKey key("first", false);
  objects_["/openid/v1/jwks"] = {{"keys", {key.jwk()}}};
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents, .reviews_per_s = 20});
  const std::string revoked = key.sign("revoked");
  for (int i = 0; i < 100; ++i) {
    const auto node = proof.node_of(revoked);
    ASSERT_FALSE(node);
    EXPECT_EQ(node.error().kind, Error::Kind::kPrivilege);
  }
  EXPECT_EQ(reviews_, 1);
}

/// What is refused to us says nothing of the token.
TEST_F(Api, ATokenIsNotRefusedForAnApiServerThatHasJustBegun) {
  const SigningKey key("first", false);
  objects_["/openid/v1/jwks"] = {{"keys", {key.jwk()}}};
  const auto calls = client();
  TokenProof proof(*calls, {.account = kAgents});
  const std::string good = key.sign("good");
  accounts_[good] = {kAgents, "node-a"};
  begins_ = true;
  const auto begun = proof.node_of(good);
  ASSERT_FALSE(begun);
  EXPECT_EQ(begun.error().kind, Error::Kind::kFailed) << begun.error().message;
  begins_ = false;
  const auto node = proof.node_of(good);
  ASSERT_TRUE(node) << node.error().message;
  EXPECT_EQ(*node, "node-a");
}

/// A server known by the authority, whose callers show tokens; and callers.
class Proved : public Api {
 protected:
  void SetUp() override {
    auto made = TempDir::create(std::filesystem::temp_directory_path(), "ballast-proved-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    calls_ = client();
    auto authority =
        Authority::open(*calls_, {.ns = "ballast-system", .names = {"ballast-global.ballast-system.svc"}});
    ASSERT_TRUE(authority) << authority.error().message;
    authority_.emplace(std::move(*authority));
    auto network =
        sync::GlobalNetwork::create({policy::initial(3), std::vector<float>(spec::kParameters, 0.0F)}, {});
    ASSERT_TRUE(network);
    network_ = std::move(*network);
    sync::ServerOptions options;
    options.tls = authority_->files();
    options.proof =
        std::make_shared<TokenProof>(*calls_, TokenProofOptions{.account = kAgents, .writer = kWriters});
    options.writer_prefix = kWriter;
    // As EndpointSlices would say: node-a's pods are a-0 and so on.
    options.owns = [](const std::string& node, const spec::EndpointTelemetry& endpoint) {
      return endpoint.id.pod.starts_with(node.substr(5));
    };
    options.memory_bytes = 64UL << 20;
    auto server = sync::GlobalServer::start("127.0.0.1:0", *network_, options);
    ASSERT_TRUE(server) << server.error().message;
    grpc_ = std::move(*server);
    write_published();
  }
  void write_published() {
    const Json& map = objects_["/api/v1/namespaces/ballast-system/configmaps/ballast-ca"];
    ASSERT_TRUE(write_file_atomic(folder_->path() / "ca.crt", kube::text_at(map, {"data", "ca.crt"})));
  }
  std::unique_ptr<sync::WorkerClient> work(const std::string& shown, const std::string& id) {
    static int files = 0;
    const auto file = folder_->path() / ("token" + std::to_string(++files));
    EXPECT_TRUE(write_file_atomic(file, shown + "\n"));
    sync::WorkerOptions options;
    options.address = grpc_->address();
    options.worker_id = id;
    options.first_wait = 20ms;
    options.longest_wait = 200ms;
    options.tls.authority = folder_->path() / "ca.crt";
    options.token_file = file;
    options.server_name = "ballast-global.ballast-system.svc";
    return sync::WorkerClient::start(options);
  }

  std::unique_ptr<TempDir> folder_;
  std::unique_ptr<kube::Client> calls_;
  std::optional<Authority> authority_;
  std::unique_ptr<sync::GlobalNetwork> network_;
  std::unique_ptr<sync::GlobalServer> grpc_;
};

TEST_F(Proved, AWorkerIsTheNodeThatItsTokenSays) {
  const std::string good = token("ballast", 600);
  accounts_[good] = {kAgents, "node-a"};
  EXPECT_TRUE(eventually([worker = work(good, "node-a")] { return worker->take_parameters() != nullptr; }));
  EXPECT_TRUE(eventually([worker = work(good, "node-a/7")] { return worker->take_parameters() != nullptr; }));
  const auto another = work(good, "node-b");
  const auto forged = work(token("ballast", 600, "forged"), "node-a");
  const auto none = work("", "node-a");
  std::this_thread::sleep_for(1s);
  for (const auto* refused : {&another, &forged, &none}) {
    EXPECT_EQ((*refused)->take_parameters(), nullptr);
    EXPECT_EQ((*refused)->counters().connects, 0U);
  }
}

TEST_F(Proved, ManyNamesOfOneNodeAreOneWorker) {
  const std::string good = token("ballast", 600);
  accounts_[good] = {kAgents, "node-a"};
  std::vector<std::unique_ptr<sync::WorkerClient>> names;
  for (int i = 0; i < 4; ++i) {
    names.push_back(work(good, "node-a/" + std::to_string(i)));
    ASSERT_TRUE(eventually([&] { return names.back()->take_parameters() != nullptr; }));
    sync::Gradient gradient;
    gradient.acted = network_->version();
    gradient.values.assign(spec::kParameters, 1e-3F * static_cast<float>(i + 1));
    gradient.steps = 1;
    names.back()->push(std::move(gradient));
  }
  ASSERT_TRUE(eventually([&] { return !network_->worst_workers(10).empty(); }));
  std::this_thread::sleep_for(500ms);
  const auto workers = network_->worst_workers(10);
  ASSERT_EQ(workers.size(), 1U);
  EXPECT_EQ(workers[0].id, "node-a");
}

/// A node with a token of its own that says whatever it likes, an honest one, and who writes weights.
class HostileNode : public Proved {
 protected:
  static constexpr int kHonest = 4;
  void SetUp() override {
    Proved::SetUp();
    for (const auto& [salt, user, node] :
         {std::tuple("a", kAgents, "node-a"), std::tuple("b", kAgents, "node-b"),
          std::tuple("w", kWriters, "node-a")}) {
      accounts_[tokens_[salt] = token("ballast", 600, salt)] = {user, node};
    }
  }
  std::unique_ptr<sync::FleetClient> caller(const std::string& salt, const std::string& name) {
    const auto file = folder_->path() / ("fleet-" + salt);
    EXPECT_TRUE(write_file_atomic(file, tokens_.at(salt) + "\n"));
    sync::FleetClientOptions options;
    options.address = grpc_->address();
    options.node_id = name;
    options.first_wait = 20ms;
    options.longest_wait = 200ms;
    options.tls.authority = folder_->path() / "ca.crt";
    options.token_file = file;
    options.server_name = "ballast-global.ballast-system.svc";
    return sync::FleetClient::start(options);
  }
  static fleet::EndpointReport says(const std::string& pod, double capacity_qps) {
    fleet::EndpointReport out;
    spec::EndpointTelemetry& e = out.telemetry;
    e.id = {{"shop", "web"}, pod};
    e.address = "10.0.0." + std::to_string(std::hash<std::string>()(pod) % 250 + 1);
    e.port = 80;
    e.known = true;
    e.taken = SystemClock().now();
    e.qps = capacity_qps / 2;
    e.tick_requests = e.qps / 20;
    e.p50_ns = 1e6;
    e.p99_ns = 5e6;
    e.cpu_cores = 0.5;
    e.cpu_limit_cores = 1;
    e.utilisation = 0.5;
    e.capacity_qps = capacity_qps;
    return out;
  }
  /// What the writer makes of it after two seconds, by pod.
  std::map<std::string, double> weights(const std::function<void(fleet::NodeReport&)>& lie) {
    const auto a = caller("a", "node-a");
    const auto b = caller("b", "node-b");
    fleet::RemoteFleet fleet({.interval = 50ms, .adopt_members = true}, caller("w", "writer:pod-on-node-a"));
    turn::Turn turn(guard::GuardOptions{});
    decide::PriorPolicy policy;
    std::map<std::string, double> out;
    // Requests come by the weights in force.
    const auto measured = [&out](const std::string& pod, double capacity_qps) {
      fleet::EndpointReport made = says(pod, capacity_qps);
      double sum = 0;
      for (const auto& [each, weight] : out) {
        sum += weight;
      }
      made.telemetry.qps = 500 * (out.contains(pod) ? out[pod] / sum : 1.0 / (kHonest + 1));
      made.telemetry.tick_requests = made.telemetry.qps / 20;
      return made;
    };
    for (int tick = 0; tick < 40; ++tick) {
      fleet::NodeReport honest;
      for (int i = 0; i < kHonest; ++i) {
        honest.endpoints.push_back(measured("a-" + std::to_string(i), i < 2 ? 100 : 300));
      }
      a->offer(std::move(honest));
      fleet::NodeReport other;
      other.endpoints.push_back(measured("b-0", 200));
      lie(other);
      b->offer(std::move(other));
      const spec::LoopTiming loop{.now = SystemClock().now(), .tick_s = 0.05, .subscribers = 1};
      for (const auto& decision : turn.decide(fleet.exchange(turn.report({}, loop, true)), loop, policy)) {
        for (const auto& e : decision.weights.endpoints()) {
          out[e.id.pod] = e.weight;
        }
      }
      std::this_thread::sleep_for(50ms);
    }
    return out;
  }
  static double resident_mb() {
    std::istringstream pages(*read_file("/proc/self/statm"));
    double size = 0;
    double resident = 0;
    pages >> size >> resident;
    return resident * 4096 / 1e6;
  }

  std::map<std::string, std::string> tokens_;
};

TEST_F(HostileNode, ChangesNoOtherNodesPodsAndItsOwnWithinTheirBound) {
  const auto honest = weights([](fleet::NodeReport&) {});
  ASSERT_EQ(honest.size(), 5U);
  EXPECT_GT(honest.at("a-2"), 1.2 * honest.at("a-0")) << "there is something to weigh";
  // Of another node's pods: as if it had said nothing.
  const auto foreign = weights([](fleet::NodeReport& report) {
    for (int i = 0; i < kHonest; ++i) {
      report.endpoints.push_back(says("a-" + std::to_string(i), i < 2 ? 1e9 : 1e-9));
      report.endpoints.back().offset = 1e9;
    }
  });
  ASSERT_EQ(foreign.size(), 5U);
  for (const auto& [pod, weight] : honest) {
    EXPECT_NEAR(foreign.at(pod), weight, 0.1 * weight) << pod;
  }
  EXPECT_GT(grpc_->stats().foreign, 40U);
  // Of its own: within floor and cap, and the others keep their order among themselves.
  using Lie = std::function<void(fleet::EndpointReport&)>;
  for (const Lie& lie : {Lie([](auto& e) { e.telemetry.capacity_qps = 1e12; }),
                         Lie([](auto& e) { e.telemetry.capacity_qps = -1; }),
                         Lie([](auto& e) { e.telemetry.capacity_qps = std::nan(""); }),
                         Lie([](auto& e) { e.telemetry.qps = e.telemetry.in_flight = 1e300; }),
                         Lie([](auto& e) { e.telemetry.error_rate = e.telemetry.success = -1e9; }),
                         Lie([](auto& e) { e.offset = 1e9; }), Lie([](auto& e) { e.telemetry.taken = 0; })}) {
    const auto lied = weights([&](fleet::NodeReport& report) { lie(report.endpoints[0]); });
    // What is no number makes its endpoint unknown, and who is a member then is not the fleet's to say.
    ASSERT_GE(lied.size(), 4U);
    EXPECT_TRUE(!lied.contains("b-0") || lied.at("b-0") <= 4001);
    for (int i = 0; i < kHonest; ++i) {
      EXPECT_GE(lied.at("a-" + std::to_string(i)), 99);
    }
    EXPECT_NEAR(lied.at("a-0"), lied.at("a-1"), 0.1 * lied.at("a-0"));
    EXPECT_GE(lied.at("a-2"), 0.9 * lied.at("a-0"));
  }
}

TEST_F(HostileNode, ChangesNoOtherWorkersStandingNorTheServersMemory) {
  const auto good = work(tokens_["a"], "node-a");
  ASSERT_TRUE(eventually([&] { return good->take_parameters() != nullptr; }));
  std::vector<std::unique_ptr<sync::WorkerClient>> bad;
  for (int i = 0; i < 8; ++i) {
    bad.push_back(work(tokens_["b"], "node-b/" + std::to_string(i)));
    ASSERT_TRUE(eventually([&] { return bad.back()->take_parameters() != nullptr; }));
  }
  const auto impostor = work(tokens_["b"], "node-a");
  for (int round = 0; round < 30; ++round) {
    for (const auto& one : bad) {
      sync::Gradient gradient;
      gradient.acted = network_->version();
      gradient.values.assign(spec::kParameters, round % 2 == 0 ? std::nanf("") : 1e30F);
      gradient.steps = 1;
      one->push(std::move(gradient));
    }
    std::this_thread::sleep_for(10ms);
  }
  sync::Gradient honest;
  honest.acted = network_->version();
  honest.values.assign(spec::kParameters, 1e-3F);
  honest.steps = 1;
  honest.norm = 1e-3 * std::sqrt(static_cast<double>(spec::kParameters));
  good->push(std::move(honest));
  const auto record = [&](const std::string& id) {
    for (const auto& one : network_->worst_workers(10)) {
      if (one.id == id) {
        return one;
      }
    }
    return sync::WorkerRecord{};
  };
  EXPECT_TRUE(eventually([&] { return record("node-b").quarantines > 0; }));
  EXPECT_TRUE(eventually([&] { return record("node-a").accepted == 1; }));
  EXPECT_EQ(record("node-a").rejected, 0U) << record("node-a").last_bad;
  EXPECT_EQ(record("node-a").quarantines, 0U);
  EXPECT_LE(network_->worst_workers(10).size(), 2U) << "nine names are one worker";
  EXPECT_EQ(impostor->counters().connects, 0U);
  EXPECT_TRUE(policy::parse(network_->parameters().second)) << "which takes finite numbers alone";

  [[maybe_unused]] const double before = resident_mb();
  std::vector<std::unique_ptr<sync::FleetClient>> streams;
  for (int i = 0; i < 60; ++i) {
    streams.push_back(caller("b", "node-b/" + std::to_string(i)));
    fleet::NodeReport report;
    for (int e = 0; e < 1000; ++e) {
      report.endpoints.push_back(says("b-" + std::string(200, 'x') + std::to_string(i * 1000 + e), 1));
    }
    streams.back()->offer(std::move(report));
  }
  EXPECT_TRUE(eventually([&] {
    return std::all_of(streams.begin(), streams.end(), [](const auto& one) {
      return one->counters().accepted + one->counters().refused + one->counters().broken > 0;
    });
  }));
  const auto fleet = grpc_->stats().fleet;
  EXPECT_LE(fleet.nodes, 1U) << "sixty names are one node";
  EXPECT_LE(fleet.endpoints, 1024U);
  streams.clear();
#if !defined(__SANITIZE_ADDRESS__)
  // The callers' own memory is in it too.
  EXPECT_LT(resident_mb() - before, 64 + 60);
#endif
}

TEST_F(Proved, ANewAuthorityIsPublishedBeforeItSigns) {
  const std::string before = *read_file(folder_->path() / "ca.crt");
  // As if two thirds of its life were over: what is left is less than a third of a longer one.
  auto later = Authority::open(*calls_, {.ns = "ballast-system",
                                         .names = {"ballast-global.ballast-system.svc"},
                                         .life = std::chrono::hours(24L * 365 * 4)});
  ASSERT_TRUE(later) << later.error().message;
  write_published();
  const std::string both = *read_file(folder_->path() / "ca.crt");
  EXPECT_THAT(both, HasSubstr(before));
  EXPECT_GT(both.size(), before.size() + 300) << "both are known";
  // Nodes that have not got the new one yet still know whom they call.
  ASSERT_TRUE(write_file_atomic(folder_->path() / "ca.crt", before));
  sync::ServerOptions options;
  options.tls = later->files();
  options.proof = std::make_shared<TokenProof>(*calls_, TokenProofOptions{.account = kAgents});
  grpc_.reset();
  auto server = sync::GlobalServer::start("127.0.0.1:0", *network_, options);
  ASSERT_TRUE(server);
  grpc_ = std::move(*server);
  const std::string good = token("ballast", 600);
  accounts_[good] = {kAgents, "node-a"};
  EXPECT_TRUE(eventually([worker = work(good, "node-a")] { return worker->take_parameters() != nullptr; }));
}

TEST_F(Proved, BothReplicasHaveOneAuthority) {
  const auto before = objects_;
  auto follower =
      Authority::open(*calls_, {.ns = "ballast-system", .names = {"ballast-global.ballast-system.svc"}});
  ASSERT_TRUE(follower);
  EXPECT_EQ(objects_, before) << "nothing is made anew";
}

}  // namespace
}  // namespace ballast::cluster
