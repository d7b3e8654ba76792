// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/xds.h"

#include <google/protobuf/arena.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <utility>

#include "agent/actuate/stream_registry.h"
#include "core/base/listen_address.h"
#include "core/base/log.h"
#include "core/spec/service_name.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/endpoint/v3/eds.grpc.pb.h"

namespace ballast::actuate {

namespace {

using envoy::config::endpoint::v3::ClusterLoadAssignment;
using envoy::service::discovery::v3::AggregatedDiscoveryService;
using envoy::service::endpoint::v3::EndpointDiscoveryService;
using Reactor = grpc::ServerBidiReactor<DiscoveryRequest, DiscoveryResponse>;

constexpr std::chrono::milliseconds kFlushTime{1000};
constexpr int kKeepaliveMs = 10'000;  ///< a proxy that vanished without a FIN is noticed within twice this
constexpr int kMaxRequestBytes = 1 << 20;

class EndpointService final : public EndpointDiscoveryService::CallbackService {
 public:
  explicit EndpointService(std::shared_ptr<StreamRegistry> registry) : registry_(std::move(registry)) {}
  Reactor* StreamEndpoints(grpc::CallbackServerContext* context) override {
    return new StreamReactor(registry_, context->peer());
  }

 private:
  const std::shared_ptr<StreamRegistry> registry_;
};

class AggregatedService final : public AggregatedDiscoveryService::CallbackService {
 public:
  explicit AggregatedService(std::shared_ptr<StreamRegistry> registry) : registry_(std::move(registry)) {}
  Reactor* StreamAggregatedResources(grpc::CallbackServerContext* context) override {
    return new StreamReactor(registry_, context->peer());
  }

 private:
  const std::shared_ptr<StreamRegistry> registry_;
};

std::string resource_name(const spec::ServiceId& service) {
  return to_string(service);
}

std::string lapsing_name(const spec::ServiceId& service) {
  return resource_name(service) + "+lapsing";
}

std::string equal_name(const spec::ServiceId& service) {
  return resource_name(service) + "+equal";
}

/// An endpoint as a proxy is told of it.
struct Target {
  std::string address;
  std::uint16_t port = 0;
  std::uint32_t weight = 1;
};

bool same_endpoint(const Target& a, const Target& b) {
  return a.address == b.address && a.port == b.port;
}

bool weighted(const std::vector<Target>& targets) {
  return std::ranges::any_of(
      targets, [](const Target& target) { return target.weight != guard::GuardedWeights::kWeightScale; });
}

std::vector<Target> equalled(std::vector<Target> targets) {
  for (Target& target : targets) {
    target.weight = guard::GuardedWeights::kWeightScale;
  }
  return targets;
}

/// `assignment` under another name, which the proxy drops when nothing follows for so long. Two messages
/// behind each other are one in which the later name counts, so its endpoints are not written again.
std::string lapsing(const std::string& assignment, const std::string& name,
                    std::chrono::milliseconds stale_after) {
  ClusterLoadAssignment rest;
  rest.set_cluster_name(name);
  if (stale_after.count() > 0) {
    auto* duration = rest.mutable_policy()->mutable_endpoint_stale_after();
    duration->set_seconds(stale_after.count() / 1000);
    duration->set_nanos(static_cast<std::int32_t>(stale_after.count() % 1000 * 1'000'000));
  }
  return assignment + rest.SerializeAsString();
}

std::string assignment(const std::string& name, const std::vector<Target>& targets) {
  google::protobuf::Arena arena;
  auto* resource = google::protobuf::Arena::CreateMessage<ClusterLoadAssignment>(&arena);
  resource->set_cluster_name(name);
  auto* locality = resource->add_endpoints();
  locality->mutable_lb_endpoints()->Reserve(static_cast<int>(targets.size()));
  for (const Target& target : targets) {
    auto* endpoint = locality->add_lb_endpoints();
    auto* socket = endpoint->mutable_endpoint()->mutable_address()->mutable_socket_address();
    socket->set_address(target.address);
    socket->set_port_value(target.port);
    endpoint->set_health_status(envoy::config::core::v3::HEALTHY);
    endpoint->mutable_load_balancing_weight()->set_value(target.weight);
  }
  return resource->SerializeAsString();
}

std::unique_ptr<grpc::Server> start(const std::string& target, grpc::Service& eds, grpc::Service& ads,
                                    int& port) {
  grpc::ServerBuilder builder;
  // With SO_REUSEPORT a second server on the address would start, and get half of the proxies.
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 500);
  builder.SetMaxReceiveMessageSize(kMaxRequestBytes);
  builder.AddListeningPort(target, grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&eds);
  builder.RegisterService(&ads);
  return builder.BuildAndStart();
}

}  // namespace

struct XdsSink::State {
  struct Published {
    std::vector<Target> targets;
    std::string bytes;                              ///< as under the plain name
    std::chrono::steady_clock::time_point renewed;  ///< when they came last under the lapsing name
  };

  explicit State(const XdsOptions& options)
      : registry(std::make_shared<StreamRegistry>(options.patience)),
        eds(registry),
        ads(registry),
        stale_after(options.stale_after) {}
  ~State() { stop(); }
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  /// REQUIRES: mutex is held. Equal weights are what a proxy would have without us: they do not lapse.
  void publish_lapsing(const spec::ServiceId& service, Published& its) {
    const std::string name = lapsing_name(service);
    registry->publish(name,
                      lapsing(its.bytes, name, weighted(its.targets) ? stale_after : stale_after.zero()));
    its.renewed = std::chrono::steady_clock::now();
  }

  void stop() {
    registry->stop();
    if (server) {
      // Cancels the open streams at once; returns when the last has ended.
      server->Shutdown(std::chrono::system_clock::now());
      server.reset();
    }
  }

  std::shared_ptr<StreamRegistry> registry;
  EndpointService eds;
  AggregatedService ads;
  const std::chrono::milliseconds stale_after;
  std::unique_ptr<grpc::Server> server;
  std::string address;
  std::mutex mutex;  ///< guards what is below
  std::map<spec::ServiceId, Published> published;
  bool stopped = false;
};

Result<std::unique_ptr<XdsSink>> XdsSink::listen(const XdsOptions& options) {
  Result<ListenAddress> parsed = parse_listen_address(options.address, options.allow_remote);
  if (!parsed) {
    return parsed.error().in("sink xds");
  }
  // gRPC unlinks a unix socket before it binds, and says no reason when it cannot bind.
  if (Status free = check_listen_address(*parsed); !free) {
    return free.error().in("sink xds");
  }
  auto state = std::make_unique<State>(options);
  int port = 0;
  state->server = start(parsed->text(), state->eds, state->ads, port);
  if (!state->server || port == 0) {
    return Error::failed("sink xds: cannot listen on " + parsed->text() +
                         ": in use; stop the other listener or choose another address");
  }
  if (parsed->unix_path.empty()) {
    parsed->port = static_cast<std::uint16_t>(port);
  }
  state->address = parsed->text();
  spdlog::info("serving endpoints address={}", state->address);
  return std::unique_ptr<XdsSink>(new XdsSink(std::move(state)));
}

XdsSink::XdsSink(std::unique_ptr<State> state) : state_(std::move(state)) {}
XdsSink::~XdsSink() = default;

const std::string& XdsSink::address() const {
  return state_->address;
}

Status XdsSink::publish(const guard::GuardedWeights& weights) {
  std::vector<Target> targets;
  targets.reserve(weights.endpoints().size());
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    targets.push_back({endpoint.address, endpoint.port, endpoint.weight});
  }
  const std::string name = resource_name(weights.service());
  std::string bytes = assignment(name, targets);
  const std::lock_guard lock(state_->mutex);
  if (state_->stopped) {
    return Error::failed("sink " + this->name() + " has stopped: weights of " + name + " were not published");
  }
  State::Published& published = state_->published[weights.service()];
  if (!std::ranges::equal(published.targets, targets, same_endpoint)) {
    const std::string equal = equal_name(weights.service());
    state_->registry->publish(equal, assignment(equal, equalled(targets)));
  }
  published.targets = std::move(targets);
  published.bytes = std::move(bytes);
  state_->registry->publish(name, published.bytes);
  state_->publish_lapsing(weights.service(), published);
  return ok();
}

void XdsSink::renew(const spec::ServiceId& service) {
  constexpr int kTries = 3;
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->published.find(service);
  if (!state_->stopped && found != state_->published.end() && weighted(found->second.targets) &&
      std::chrono::steady_clock::now() >= found->second.renewed + state_->stale_after / kTries) {
    state_->publish_lapsing(service, found->second);
  }
}

Status XdsSink::withdraw(const spec::ServiceId& service) {
  const std::lock_guard lock(state_->mutex);
  const auto found = state_->published.find(service);
  if (found == state_->published.end()) {
    return ok();
  }
  const std::string name = resource_name(service);
  if (state_->stopped) {
    return Error::failed("sink " + this->name() + " has stopped: " + name + " was not withdrawn");
  }
  State::Published& published = found->second;
  if (weighted(published.targets)) {
    published.targets = equalled(std::move(published.targets));
    published.bytes = assignment(name, published.targets);
    state_->registry->publish(name, published.bytes);
    state_->publish_lapsing(service, published);
  }
  for (const std::string& each : {name, lapsing_name(service), equal_name(service)}) {
    state_->registry->forget(each);
  }
  state_->published.erase(found);
  return ok();
}

void XdsSink::flush() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stopped = true;
  }
  if (!state_->registry->settle(kFlushTime)) {
    spdlog::warn("not every proxy has acknowledged the last weights sink={}", name());
  }
  state_->stop();
}

guard::Answer XdsSink::answer(const spec::ServiceId& service) const {
  return state_->registry->answer({resource_name(service), lapsing_name(service)});
}

std::size_t XdsSink::subscribers() const {
  return state_->registry->subscribers();
}

double XdsSink::acknowledgement_delay_s() const {
  return state_->registry->acknowledgement_delay_s();
}

}  // namespace ballast::actuate
