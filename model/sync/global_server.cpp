// SPDX-License-Identifier: Apache-2.0
#include "model/sync/global_server.h"

#include <grpcpp/grpcpp.h>

#include <atomic>
#include <chrono>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "model/sync/listen.h"
#include "model/sync/wire.h"

namespace ballast::sync {

namespace {

constexpr int kMostBytes = 1 << 20;  // a gradient is some 30 kB; nobody may make us hold more

std::string explain(Verdict verdict, const Gradient& gradient, const Version& current) {
  if (verdict == Verdict::kAccepted) {
    return {};
  }
  return std::string(to_string(verdict)) + ": gradient of " + std::to_string(gradient.values.size()) +
         " values at epoch " + std::to_string(gradient.acted.epoch) + " version " +
         std::to_string(gradient.acted.version) + ", current is epoch " + std::to_string(current.epoch) +
         " version " + std::to_string(current.version);
}

v1::ServerMessage answer(GlobalNetwork& network, const v1::WorkerMessage& message) {
  v1::ServerMessage out;
  if (message.has_gradient()) {
    const Gradient gradient = from_wire(message.gradient());
    const Verdict verdict = network.push(gradient);
    out.set_verdict(to_wire(verdict));
    out.set_reason(explain(verdict, gradient, network.version()));
  }
  auto [current, bytes] = network.parameters();
  *out.mutable_current() = to_wire(current);
  if (!message.has_held() || from_wire(message.held()) != current) {
    out.set_parameters(std::move(bytes));
  }
  return out;
}

// Strictly one read, one write: no two reactions of one stream run at the same time.
class Stream final : public grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage> {
 public:
  Stream(GlobalNetwork& network, std::atomic<std::size_t>& open) : network_(network), open_(open) {
    ++open_;
    StartRead(&message_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    answer_ = answer(network_, message_);
    StartWrite(&answer_);
  }
  void OnWriteDone(bool ok) override {
    if (!ok) {
      Finish(grpc::Status::OK);
      return;
    }
    StartRead(&message_);
  }
  void OnDone() override {
    --open_;
    delete this;
  }

 private:
  GlobalNetwork& network_;
  std::atomic<std::size_t>& open_;
  v1::WorkerMessage message_;
  v1::ServerMessage answer_;
};

class Service final : public v1::GlobalNetwork::CallbackService {
 public:
  explicit Service(GlobalNetwork& network) : network_(network) {}
  grpc::ServerBidiReactor<v1::WorkerMessage, v1::ServerMessage>* Sync(grpc::CallbackServerContext*) override {
    return new Stream(network_, open);  // OnDone deletes it
  }
  std::atomic<std::size_t> open{0};

 private:
  GlobalNetwork& network_;
};

}  // namespace

struct GlobalServer::Impl {
  explicit Impl(GlobalNetwork& network) : service(network) {}
  Service service;
  std::string address;
  std::unique_ptr<grpc::Server> server;
};

Result<std::unique_ptr<GlobalServer>> GlobalServer::start(const std::string& address,
                                                          GlobalNetwork& network) {
  if (auto free = probe_address(address); !free) {
    return free.error();
  }
  auto impl = std::make_unique<Impl>(network);
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kMostBytes);
  // Workers look every ten seconds whether we live (worker_client.cpp); gRPC takes that for abuse.
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  // A node that vanished without closing its connection is found out by our own pings.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 30'000);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&impl->service);
  impl->server = builder.BuildAndStart();
  if (impl->server == nullptr || port == 0) {
    return Error::failed("cannot listen on " + address);
  }
  const bool named = address.starts_with("unix:");
  impl->address = named ? address : address.substr(0, address.rfind(':') + 1) + std::to_string(port);
  return std::unique_ptr<GlobalServer>(new GlobalServer(std::move(impl)));
}

GlobalServer::GlobalServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

GlobalServer::~GlobalServer() {
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  impl_->server->Wait();
}

const std::string& GlobalServer::address() const {
  return impl_->address;
}
std::size_t GlobalServer::workers() const {
  return impl_->service.open;
}

}  // namespace ballast::sync
