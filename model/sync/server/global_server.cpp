// SPDX-License-Identifier: Apache-2.0
#include "model/sync/server/global_server.h"

#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <algorithm>
#include <chrono>
#include <string_view>
#include <thread>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "model/sync/server/worker_stream.h"
#include "model/sync/transport/credentials.h"
#include "model/sync/transport/listen.h"

namespace ballast::sync {

namespace {

constexpr int kReadChunk = 16 * 1024;

class NetworkService final
    : public v1::GlobalNetwork::WithRawCallbackMethod_Sync<v1::GlobalNetwork::Service> {
 public:
  explicit NetworkService(ServerState& state) : state_(state) {}
  Reactor* Sync(grpc::CallbackServerContext* context) override { return open_worker_stream(state_, context); }

 private:
  ServerState& state_;
};

class FleetService final : public v1::Fleet::WithRawCallbackMethod_Report<v1::Fleet::Service> {
 public:
  explicit FleetService(ServerState& state) : state_(state) {}
  Reactor* Report(grpc::CallbackServerContext* context) override {
    return open_fleet_stream(state_, context);
  }

 private:
  ServerState& state_;
};

/// Tokens, in threads of gRPC's own that may wait for the API server.
class TokenReader final : public grpc::AuthMetadataProcessor {
 public:
  explicit TokenReader(std::shared_ptr<Proof> proof) : proof_(std::move(proof)) {}
  bool IsBlocking() const override { return true; }
  grpc::Status Process(const InputMetadata& metadata, grpc::AuthContext* context, OutputMetadata* consumed,
                       OutputMetadata* /*response*/) override {
    constexpr std::string_view kBearer = "Bearer ";
    const auto found = metadata.find("authorization");
    if (found == metadata.end() || !found->second.starts_with(kBearer.data())) {
      return {grpc::UNAUTHENTICATED, "no bearer token was shown"};
    }
    const std::string value(found->second.data(), found->second.size());
    consumed->insert({"authorization", value});
    const auto node = proof_->node_of(value.substr(kBearer.size()));
    if (!node) {
      return {node.error().kind == Error::Kind::kPrivilege ? grpc::UNAUTHENTICATED : grpc::UNAVAILABLE,
              node.error().message};
    }
    context->AddProperty(kNodeProperty, *node);
    return grpc::Status::OK;
  }

 private:
  std::shared_ptr<Proof> proof_;
};

}  // namespace

const char* to_string(Ended reason) {
  static constexpr std::array<const char*, kEnded> kNames = {
      "malformed", "identity", "too_large", "too_many", "silent", "never_reads", "draining"};
  return kNames[static_cast<std::size_t>(reason)];
}

struct GlobalServer::Impl {
  Impl(GlobalNetwork& network, const ServerOptions& options) : state(network, options) {}

  void watch(const std::stop_token& stop) {
    while (!stop.stop_requested()) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
      state.end_overdue();
      state.promote();
      tls->refresh();
    }
  }

  ServerState state;
  NetworkService network_service{state};
  FleetService fleet_service{state};
  std::unique_ptr<ServerTls> tls;
  std::string address;
  std::unique_ptr<grpc::Server> server;
  std::jthread watcher;
};

Result<std::unique_ptr<GlobalServer>> GlobalServer::start(const std::string& address, GlobalNetwork& network,
                                                          const ServerOptions& options) {
  if (options.proof != nullptr && options.tls.empty()) {
    return Error::usage("tokens are taken over TLS alone");
  }
  auto tls = ServerTls::create(options.tls, options.proof != nullptr);
  if (!tls) {
    return tls.error();
  }
  if (auto free = probe_address(address); !free) {
    return free.error();
  }
  auto impl = std::make_unique<Impl>(network, options);
  impl->tls = std::move(*tls);
  int port = 0;
  grpc::ServerBuilder builder;
  grpc::ResourceQuota quota("workers");
  quota.Resize(options.memory_bytes);
  builder.SetResourceQuota(quota);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  // gRPC cuts what is far too large before it is read; the rest is answered with a reason (ServerState).
  builder.SetMaxReceiveMessageSize(
      static_cast<int>(2 * std::max(impl->state.longest_message(), ServerState::kLongestReport)));
  // Workers look every ten seconds whether we live (worker_client.cpp); gRPC takes that for abuse.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  // A node that vanished without closing its connection is found out by our own pings.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  // A connection that never becomes one.
  builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, static_cast<int>(options.hello.count()));
  builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS, 300'000);
  builder.AddChannelArgument(GRPC_ARG_MAX_METADATA_SIZE, 8192);
  // gRPC keeps a buffer for the next read of each connection, as large as the last read: 5,000 workers
  // at rest would hold their last gradients' size.
  builder.AddChannelArgument(GRPC_ARG_TCP_READ_CHUNK_SIZE, kReadChunk);
  builder.AddChannelArgument(GRPC_ARG_TCP_MAX_READ_CHUNK_SIZE, kReadChunk);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_BDP_PROBE, 0);
  const auto credentials = impl->tls->credentials();
  if (options.proof != nullptr) {
    credentials->SetAuthMetadataProcessor(std::make_shared<TokenReader>(options.proof));
    // A token that was revoked, or has expired, is asked for again.
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS, 300'000);
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_GRACE_MS, 5'000);
  }
  builder.AddListeningPort(address, credentials, &port);
  builder.RegisterService(&impl->network_service);
  builder.RegisterService(&impl->fleet_service);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || port == 0) {
    return Error::failed("cannot listen on " + address);
  }
  const bool named = address.starts_with("unix:");
  impl->address = named ? address : address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  impl->watcher = std::jthread([raw = impl.get()](const std::stop_token& stop) { raw->watch(stop); });
  return std::unique_ptr<GlobalServer>(new GlobalServer(std::move(impl)));
}

GlobalServer::GlobalServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GlobalServer::~GlobalServer() {
  impl_->state.drain();
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  impl_->server->Wait();
}

const std::string& GlobalServer::address() const {
  return impl_->address;
}
std::size_t GlobalServer::workers() const {
  return impl_->state.stats().workers;
}
std::optional<Version> GlobalServer::released_gains(const std::string& service) const {
  return impl_->state.released_gains(service);
}
ServerStats GlobalServer::stats() const {
  return impl_->state.stats();
}

}  // namespace ballast::sync
