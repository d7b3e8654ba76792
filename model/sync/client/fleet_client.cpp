// SPDX-License-Identifier: Apache-2.0
#include "model/sync/client/fleet_client.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <mutex>
#include <optional>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "core/base/clock.h"
#include "model/sync/transport/caller.h"
#include "model/sync/wire/fleet_wire.h"

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
        caller({.what = "fleet",
                .address = options.address,
                .first_wait = options.first_wait,
                .longest_wait = options.longest_wait,
                .tls = options.tls,
                .token_file = options.token_file,
                .server_name = options.server_name}),
        mutex(caller.mutex()) {}

  void talk(ReportStream& stream);
  std::optional<fleet::NodeReport> next_report();
  void take(const v1::FleetAnswer& answer);

  const FleetClientOptions options;
  const std::uint64_t session;
  std::uint64_t sequence = 0;  // of the thread alone

  Caller caller;
  std::mutex& mutex;
  std::optional<fleet::NodeReport> waiting;
  bool asking = false;  // a report is on its way
  std::condition_variable told;
  std::shared_ptr<const fleet::FleetView> view;
  FleetClientCounters counters;
};

std::optional<fleet::NodeReport> FleetClient::Impl::next_report() {
  std::unique_lock lock(mutex);
  caller.changed().wait(lock, [&] { return caller.stopping() || waiting.has_value(); });
  asking = !caller.stopping();
  return caller.stopping() ? std::nullopt : std::exchange(waiting, std::nullopt);
}

void FleetClient::Impl::take(const v1::FleetAnswer& answer) {
  const bool accepted = answer.verdict() == v1::FleetAnswer::ACCEPTED;
  if (!accepted) {
    spdlog::warn("report refused reason=\"{}\"", answer.reason());
  }
  auto got = std::make_shared<const fleet::FleetView>(from_wire(answer, SystemClock().now()));
  {
    const std::lock_guard lock(mutex);
    ++(accepted ? counters.accepted : counters.refused);
    if (accepted) {
      view = std::move(got);
    }
    asking = false;
  }
  told.notify_all();
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
    caller.reached();
  }
}

std::unique_ptr<FleetClient> FleetClient::start(const FleetClientOptions& options) {
  auto impl = std::make_unique<Impl>(options);
  impl->caller.start(
      [raw = impl.get()](const std::shared_ptr<grpc::Channel>& channel, grpc::ClientContext* context) {
        const auto stub = v1::Fleet::NewStub(channel);
        const auto stream = stub->Report(context);
        raw->talk(*stream);
        return stream->Finish();
      },
      [raw = impl.get()] {
        raw->counters.broken += raw->caller.stopping() ? 0 : 1;
        raw->asking = false;
      });
  return std::unique_ptr<FleetClient>(new FleetClient(std::move(impl)));
}

FleetClient::FleetClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

FleetClient::~FleetClient() {
  impl_->caller.stop();
}

void FleetClient::offer(fleet::NodeReport report) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->counters.replaced += impl_->waiting.has_value() ? 1 : 0;
    impl_->waiting = std::move(report);
  }
  impl_->caller.changed().notify_all();
}

std::shared_ptr<const fleet::FleetView> FleetClient::latest() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->view;
}

std::shared_ptr<const fleet::FleetView> FleetClient::answered(std::chrono::milliseconds most) const {
  std::unique_lock lock(impl_->mutex);
  impl_->told.wait_for(lock, most, [this] { return !impl_->asking && !impl_->waiting; });
  return impl_->view;
}

FleetClientCounters FleetClient::counters() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->counters;
}

}  // namespace ballast::sync
