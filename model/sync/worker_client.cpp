// SPDX-License-Identifier: Apache-2.0
#include "model/sync/worker_client.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "model/sync/backoff.h"
#include "model/sync/channel.h"
#include "model/sync/credentials.h"
#include "model/sync/wire.h"

namespace ballast::sync {

struct WorkerClient::Impl {
  explicit Impl(WorkerOptions given)
      : options(std::move(given)), backoff(options.first_wait, options.longest_wait) {}

  void run();
  void talk(grpc::ClientReaderWriterInterface<v1::WorkerMessage, v1::ServerMessage>& stream);
  v1::WorkerMessage next_message();
  void take(const v1::ServerMessage& answer);
  void take_verdict(const v1::ServerMessage& answer);

  const WorkerOptions options;
  Backoff backoff;  // of the thread alone

  mutable std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  bool connected = false;
  grpc::ClientContext* context = nullptr;  // of the open stream
  std::deque<Gradient> gradients;
  std::shared_ptr<const Received> held;  // last good, for ever
  bool fresh = false;                    // held was not taken yet
  WorkerCounters counters;

  std::thread thread;
};

v1::WorkerMessage WorkerClient::Impl::next_message() {
  v1::WorkerMessage message;
  message.set_worker_id(options.worker_id);
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

void WorkerClient::Impl::take(const v1::ServerMessage& answer) {
  take_verdict(answer);
  if (answer.parameters().empty()) {
    return;
  }
  auto parsed = policy::parse(answer.parameters());
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
  bool first = true;
  while (true) {
    const v1::WorkerMessage message = next_message();
    v1::ServerMessage answer;
    if (!stream.Write(message) || !stream.Read(&answer)) {
      const std::lock_guard lock(mutex);
      counters.lost += message.has_gradient() ? 1 : 0;
      return;
    }
    take(answer);
    if (first) {
      spdlog::info("global network reached address={} epoch={} version={}", options.address,
                   answer.current().epoch(), answer.current().version());
      backoff.reset();
    }
    std::unique_lock lock(mutex);
    counters.connects += first ? 1 : 0;
    first = false;
    connected = true;
    changed.wait_for(lock, options.pull_interval, [&] { return stopping || !gradients.empty(); });
    if (stopping) {
      return;
    }
  }
}

void WorkerClient::Impl::run() {
  bool told = false;
  while (true) {
    const auto credentials = channel_credentials(options.tls);
    if (!credentials) {
      spdlog::warn("global network not tried error=\"{}\"", credentials.error().message);
      std::unique_lock lock(mutex);
      if (changed.wait_for(lock, backoff.next(), [&] { return stopping; })) {
        return;
      }
      continue;
    }
    const auto stub =
        v1::GlobalNetwork::NewStub(make_channel(options.address, *credentials, options.server_name));
    grpc::ClientContext own_context;
    {
      const std::lock_guard lock(mutex);
      if (stopping) {
        return;
      }
      context = &own_context;
    }
    const auto stream = stub->Sync(&own_context);
    talk(*stream);  // until the stream ends, or we are stopping and the destructor has cut it
    const grpc::Status status = stream->Finish();

    std::unique_lock lock(mutex);
    context = nullptr;
    const bool was_connected = std::exchange(connected, false);
    if (stopping) {
      return;
    }
    const auto wait = backoff.next();
    told = told && !was_connected;  // each time that it goes away is told once
    spdlog::log(std::exchange(told, true) ? spdlog::level::debug : spdlog::level::warn,
                "global network away address={} error=\"{}\" retry_ms={}", options.address,
                status.error_message(), wait.count());
    changed.wait_for(lock, wait, [&] { return stopping; });
  }
}

std::unique_ptr<WorkerClient> WorkerClient::start(const WorkerOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<WorkerClient>(new WorkerClient(std::move(impl)));
}

WorkerClient::WorkerClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

WorkerClient::~WorkerClient() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    if (impl_->context != nullptr) {
      impl_->context->TryCancel();
    }
  }
  impl_->changed.notify_all();
  impl_->thread.join();
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
  impl_->changed.notify_all();
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
