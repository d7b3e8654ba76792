// SPDX-License-Identifier: Apache-2.0
#include "model/sync/client/worker_client.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <deque>
#include <mutex>
#include <optional>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "model/policy/forecast_file.h"
#include "model/sync/transport/caller.h"
#include "model/sync/wire/wire.h"

namespace ballast::sync {

struct WorkerClient::Impl {
  explicit Impl(WorkerOptions given)
      : options(std::move(given)),
        caller({.what = "global network",
                .address = options.address,
                .first_wait = options.first_wait,
                .longest_wait = options.longest_wait,
                .tls = options.tls,
                .token_file = options.token_file,
                .server_name = options.server_name}),
        mutex(caller.mutex()) {}

  void talk(grpc::ClientReaderWriterInterface<v1::WorkerMessage, v1::ServerMessage>& stream);
  v1::WorkerMessage next_message();
  void take(const v1::ServerMessage& answer);
  void take_verdict(const v1::ServerMessage& answer);

  const WorkerOptions options;
  Caller caller;
  std::mutex& mutex;
  bool connected = false;
  std::deque<Gradient> gradients;
  std::shared_ptr<const Received> held;  // last good, for ever
  bool fresh = false;                    // held was not taken yet
  WorkerCounters counters;
};

v1::WorkerMessage WorkerClient::Impl::next_message() {
  v1::WorkerMessage message;
  message.set_worker_id(options.worker_id);
  message.set_network(to_wire(options.network));
  message.set_service(options.service);
  std::optional<Gradient> gradient;
  {
    const std::lock_guard lock(mutex);
    if (held) {
      *message.mutable_held() = to_wire(Version{held->parameters.epoch, held->parameters.version});
    }
    if (!gradients.empty()) {
      gradient = std::move(gradients.front());
      gradients.pop_front();
    }
  }
  if (gradient) {
    *message.mutable_gradient() = to_wire(*gradient);
  }
  return message;
}

void WorkerClient::Impl::take_verdict(const v1::ServerMessage& answer) {
  if (answer.verdict() == v1::ServerMessage::ACCEPTED) {
    const std::lock_guard lock(mutex);
    ++counters.accepted;
  } else if (answer.verdict() != v1::ServerMessage::VERDICT_UNSPECIFIED) {
    spdlog::warn("gradient rejected reason=\"{}\"", answer.reason());
    const std::lock_guard lock(mutex);
    ++counters.rejected;
  }
}

Result<policy::Parameters> parameters_of(Network network, const v1::ServerMessage& answer) {
  if (network == Network::kActorCritic) {
    return policy::parse(answer.parameters());
  }
  // These files tell neither epoch nor version; the answer does.
  auto theta = network == Network::kForecast ? policy::parse_forecast(answer.parameters())
                                             : policy::parse_shared_gains(answer.parameters());
  return theta ? Result<policy::Parameters>(
                     {answer.current().epoch(), answer.current().version(), std::move(*theta)})
               : theta.error();
}

void WorkerClient::Impl::take(const v1::ServerMessage& answer) {
  take_verdict(answer);
  if (answer.parameters().empty()) {
    return;
  }
  auto parsed = parameters_of(options.network, answer);
  const std::lock_guard lock(mutex);
  if (!parsed) {
    ++counters.refused_parameters;
    spdlog::error("parameters refused from={} error=\"{}\"", options.address, parsed.error().message);
  } else if (held && parsed->epoch < held->parameters.epoch) {
    ++counters.refused_parameters;
    spdlog::error("parameters refused from={} epoch={} held={}: a leader that was deposed", options.address,
                  parsed->epoch, held->parameters.epoch);
  } else {
    held = std::make_shared<const Received>(Received{std::move(*parsed), answer.parameters()});
    fresh = true;
  }
}

void WorkerClient::Impl::talk(
    grpc::ClientReaderWriterInterface<v1::WorkerMessage, v1::ServerMessage>& stream) {
  while (true) {
    const v1::WorkerMessage message = next_message();
    v1::ServerMessage answer;
    if (!stream.Write(message) || !stream.Read(&answer)) {
      const std::lock_guard lock(mutex);
      counters.lost += message.has_gradient() ? 1 : 0;
      return;
    }
    take(answer);
    caller.reached(fmt::format(" epoch={} version={}", answer.current().epoch(), answer.current().version()));
    std::unique_lock lock(mutex);
    counters.connects += std::exchange(connected, true) ? 0 : 1;
    caller.changed().wait_for(lock, options.pull_interval,
                              [&] { return caller.stopping() || !gradients.empty(); });
    if (caller.stopping()) {
      return;
    }
  }
}

std::unique_ptr<WorkerClient> WorkerClient::start(const WorkerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  impl->caller.start(
      [raw = impl.get()](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context) {
        const auto stub = v1::GlobalNetwork::NewStub(channel);
        const auto stream = stub->Sync(context);
        raw->talk(*stream);
        return stream->Finish();
      },
      [raw = impl.get()] { raw->connected = false; });
  return std::unique_ptr<WorkerClient>(new WorkerClient(std::move(impl)));
}

WorkerClient::WorkerClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

WorkerClient::~WorkerClient() {
  impl_->caller.stop();
}

bool WorkerClient::push(Gradient gradient) {
  {
    const std::lock_guard lock(impl_->mutex);
    if (impl_->gradients.size() >= impl_->options.queue) {
      ++impl_->counters.dropped;
      return false;
    }
    impl_->gradients.push_back(std::move(gradient));
  }
  impl_->caller.changed().notify_all();
  return true;
}

std::shared_ptr<const Received> WorkerClient::take_parameters() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->fresh, false) ? impl_->held : nullptr;
}

bool WorkerClient::connected() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->connected;
}

WorkerCounters WorkerClient::counters() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->counters;
}

}  // namespace ballast::sync
