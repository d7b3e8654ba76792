// SPDX-License-Identifier: Apache-2.0
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <map>
#include <mutex>

#include "core/base/file.h"
#include "model/cluster/authority.h"
#include "model/cluster/checkpoint_object.h"
#include "model/cluster/endpoint_owners.h"
#include "model/cluster/leadership.h"
#include "model/cluster/token_proof.h"
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

/// A JWT that only its claims are right of: who checks signatures is the API server.
std::string token(const std::string& audience, int lasts_s, const std::string& salt = "") {
  const auto now =
      std::chrono::duration_cast<std::chrono::seconds>(std::chrono::system_clock::now().time_since_epoch());
  const std::string claims =
      Json({{"aud", {audience}}, {"exp", now.count() + lasts_s}, {"jti", salt}}).dump();
  std::string text(4 * ((claims.size() + 2) / 3) + 1, '\0');
  text.resize(static_cast<std::size_t>(::EVP_EncodeBlock(
      reinterpret_cast<unsigned char*>(text.data()), reinterpret_cast<const unsigned char*>(claims.data()),
      static_cast<int>(claims.size()))));
  while (text.ends_with('=')) {
    text.pop_back();
  }
  std::replace(text.begin(), text.end(), '+', '-');
  std::replace(text.begin(), text.end(), '/', '_');
  return "e30." + text + ".c2lnbmVk";
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
      const auto found = accounts_.find(kube::text_at(body, {"spec", "token"}));
      Json status = {{"authenticated", false}, {"error", "no such token"}};
      if (found != accounts_.end()) {
        status = {{"authenticated", true},
                  {"audiences", {"ballast"}},
                  {"user", {{"username", found->second.user}}}};
        if (!found->second.node.empty()) {
          status["user"]["extra"] = {{"authentication.kubernetes.io/node-name", {found->second.node}}};
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
  kube::ScriptedServer server_{[this](const kube::Asked& asked) { return say(asked); }};
  static constexpr const char* kAgents = "system:serviceaccount:ballast-system:ballast";
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
  const std::string kPath = "/api/v1/namespaces/ballast-system/configmaps/ballast-checkpoint";
  const Json there = objects_[kPath];

  const Status late = former.save(*old);
  ASSERT_FALSE(late);
  EXPECT_THAT(late.error().message, HasSubstr("deposed"));
  EXPECT_FALSE(former.still_leads(old->parameters.epoch));
  EXPECT_EQ(objects_[kPath], there);
  leads = false;
  const auto asked = server_.count();
  EXPECT_FALSE(former.save(*old));
  EXPECT_EQ(server_.count(), asked) << "without the Lease it does not even ask";
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
    options.proof = std::make_shared<TokenProof>(*calls_, TokenProofOptions{.account = kAgents});
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
