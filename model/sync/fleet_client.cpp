// SPDX-License-Identifier: Apache-2.0
#include "model/sync/fleet_client.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <thread>
#include <utility>

#include "agent/base/clock.h"
#include "ballast_sync.grpc.pb.h"
#include "model/sync/backoff.h"
#include "model/sync/channel.h"
#include "model/sync/credentials.h"
#include "model/sync/fleet_wire.h"

namespace ballast::sync {

namespace {
using ReportStream = grpc::ClientReaderWriterInterface<v1::NodeReport, v1::FleetAnswer>;
}  // namespace

struct FleetClient::Impl {
  explicit Impl(FleetClientOptions given)
      : options(std::move(given)),
        session(static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::nanoseconds>(
                                               std::chrono::system_clock::now().time_since_epoch())
                                               .count())),
        backoff(options.first_wait, options.longest_wait) {}

  void run();
  grpc::Status talk_once(const std::shared_ptr<grpc::ChannelCredentials>& credentials);
  void talk(ReportStream& stream);
  std::optional<fleet::NodeReport> next_report();
  void take(const v1::FleetAnswer& answer);

  const FleetClientOptions options;
  const std::uint64_t session;
  Backoff backoff;             // of the thread alone, as
  std::uint64_t sequence = 0;  // this is
  bool told = false;           // that it is away

  mutable std::mutex mutex;
  std::condition_variable changed;
  bool stopping = false;
  grpc::ClientContext* context = nullptr;  // of the open stream
  std::optional<fleet::NodeReport> waiting;
  std::shared_ptr<const fleet::FleetView> view;
  FleetClientCounters counters;

  std::thread thread;
};

std::optional<fleet::NodeReport> FleetClient::Impl::next_report() {
  std::unique_lock lock(mutex);
  changed.wait(lock, [&] { return stopping || waiting.has_value(); });
  return stopping ? std::nullopt : std::exchange(waiting, std::nullopt);
}

void FleetClient::Impl::take(const v1::FleetAnswer& answer) {
  const bool accepted = answer.verdict() == v1::FleetAnswer::ACCEPTED;
  if (!accepted) {
    spdlog::warn("report refused reason=\"{}\"", answer.reason());
  }
  auto got = std::make_shared<const fleet::FleetView>(from_wire(answer, SystemClock().now()));
  const std::lock_guard lock(mutex);
  ++(accepted ? counters.accepted : counters.refused);
  if (accepted) {
    view = std::move(got);
  }
}

void FleetClient::Impl::talk(ReportStream& stream) {
  while (auto report = next_report()) {
    report->node = options.node_id;
    report->session = session;
    report->sequence = ++sequence;
    // Ages are told as of now: it may have waited for a connection.
    report->sent = SystemClock().now();
    v1::NodeReport message;
    to_wire(*report, &message);
    v1::FleetAnswer answer;
    if (!stream.Write(message) || !stream.Read(&answer)) {
      return;
    }
    take(answer);
    backoff.reset();
    if (std::exchange(told, false)) {
      spdlog::info("fleet reached address={}", options.address);
    }
  }
}

grpc::Status FleetClient::Impl::talk_once(const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  const auto stub = v1::Fleet::NewStub(make_channel(options.address, credentials, options.server_name));
  grpc::ClientContext own_context;
  {
    const std::lock_guard lock(mutex);
    if (stopping) {
      return grpc::Status::OK;
    }
    context = &own_context;
  }
  const auto stream = stub->Report(&own_context);
  talk(*stream);  // until the stream ends, or we are stopping and the destructor has cut it
  const grpc::Status status = stream->Finish();
  const std::lock_guard lock(mutex);
  context = nullptr;
  return status;
}

void FleetClient::Impl::run() {
  while (true) {
    const auto credentials = channel_credentials(options.tls);
    const std::string wrong =
        credentials ? talk_once(*credentials).error_message() : credentials.error().message;
    std::unique_lock lock(mutex);
    if (stopping) {
      return;
    }
    ++counters.broken;
    const auto wait = backoff.next();
    spdlog::log(std::exchange(told, true) ? spdlog::level::debug : spdlog::level::warn,
                "fleet away address={} error=\"{}\" retry_ms={}", options.address, wrong, wait.count());
    changed.wait_for(lock, wait, [&] { return stopping; });
  }
}

std::unique_ptr<FleetClient> FleetClient::start(const FleetClientOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<FleetClient>(new FleetClient(std::move(impl)));
}

FleetClient::FleetClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

FleetClient::~FleetClient() {
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

void FleetClient::offer(fleet::NodeReport report) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->counters.replaced += impl_->waiting.has_value() ? 1 : 0;
    impl_->waiting = std::move(report);
  }
  impl_->changed.notify_all();
}

std::shared_ptr<const fleet::FleetView> FleetClient::latest() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->view;
}

FleetClientCounters FleetClient::counters() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->counters;
}

}  // namespace ballast::sync
