// SPDX-License-Identifier: Apache-2.0
#include "model/sync/rollouts/agent_client.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>

#include <condition_variable>
#include <deque>
#include <iterator>
#include <mutex>
#include <thread>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "core/base/backoff.h"
#include "model/policy/forecast_file.h"
#include "model/sync/transport/channel.h"
#include "model/sync/wire/wire.h"

namespace ballast::sync {

namespace {
using LearnStream = grpc::ClientReaderWriterInterface<v1::LearnerMessage, v1::AgentMessage>;
}  // namespace

struct AgentClient::Impl {
  explicit Impl(std::string target) : address(std::move(target)) {}

  void run();
  void read_all(LearnStream& stream);
  void take_in(const std::string& bytes);  // samples
  void write_all(LearnStream& stream);

  const std::string address;

  mutable std::mutex mutex;
  std::condition_variable parameters_changed;  // also: stopping, or the stream closed
  std::condition_variable rollouts_changed;
  bool stopping = false;
  bool closed = true;                      // no stream, or one that is over
  grpc::ClientContext* context = nullptr;  // of the open stream
  std::string parameters;                  // newest
  std::uint64_t generation = 0;            // of parameters
  std::string forecast;                    // newest
  Version forecast_version;
  std::uint64_t forecast_generation = 0;
  std::string gains;  // newest
  std::uint64_t gains_generation = 0;
  std::vector<std::string> recording;
  std::size_t recording_bytes = 0;
  std::vector<spec::ForecastSample> samples;
  std::deque<spec::Rollout> rollouts;
  std::uint64_t dropped = 0;
  std::uint64_t refused = 0;

  std::thread thread;
};

void AgentClient::Impl::write_all(LearnStream& stream) {
  std::uint64_t sent = 0;
  std::uint64_t forecast_sent = 0;
  std::uint64_t gains_sent = 0;
  while (true) {
    v1::LearnerMessage message;
    {
      std::unique_lock lock(mutex);
      parameters_changed.wait(lock, [&] {
        return stopping || closed || generation != sent || forecast_generation != forecast_sent ||
               gains_generation != gains_sent;
      });
      if (stopping || closed) {
        return;
      }
      if (generation != std::exchange(sent, generation)) {
        message.set_parameters(parameters);
      }
      if (forecast_generation != std::exchange(forecast_sent, forecast_generation)) {
        message.set_forecast(forecast);
        *message.mutable_forecast_version() = to_wire(forecast_version);
      }
      if (gains_generation != std::exchange(gains_sent, gains_generation)) {
        message.set_gains(gains);
      }
    }
    if (!stream.Write(message)) {
      return;  // the reader sees the same end
    }
  }
}

void AgentClient::Impl::take_in(const std::string& bytes) {
  auto got = policy::parse_samples(bytes);
  const std::lock_guard lock(mutex);
  if (!got) {
    ++refused;
    spdlog::warn("samples refused error=\"{}\"", got.error().message);
    return;
  }
  samples.insert(samples.end(), got->begin(), got->end());
  if (samples.size() > kSamples) {
    samples.erase(samples.begin(), samples.end() - static_cast<std::ptrdiff_t>(kSamples));
  }
}

void AgentClient::Impl::read_all(LearnStream& stream) {
  v1::AgentMessage message;
  while (stream.Read(&message)) {
    if (!message.forecast_samples().empty()) {
      take_in(message.forecast_samples());
    }
    if (!message.recording().empty()) {
      const std::lock_guard lock(mutex);
      recording_bytes += message.recording().size();
      if (recording_bytes > kRecording) {
        recording.clear();
        recording_bytes = 0;
      }
      recording.push_back(std::move(*message.mutable_recording()));
    }
    if (!message.has_rollout()) {
      continue;
    }
    auto rollout = from_wire(message.rollout());
    const std::lock_guard lock(mutex);
    if (!rollout) {
      ++refused;
      spdlog::warn("{}", rollout.error().message);
      continue;
    }
    if (rollouts.size() >= kQueue) {
      rollouts.pop_front();
      ++dropped;
    }
    rollouts.push_back(std::move(*rollout));
    rollouts_changed.notify_all();
  }
}

void AgentClient::Impl::run() {
  Backoff backoff(std::chrono::milliseconds(100), std::chrono::milliseconds(5'000));
  while (true) {
    const auto stub = v1::Agent::NewStub(make_channel(address));
    grpc::ClientContext own_context;
    {
      const std::lock_guard lock(mutex);
      if (stopping) {
        return;
      }
      context = &own_context;
      closed = false;
    }
    const auto stream = stub->Learn(&own_context);
    std::thread writer([&] { write_all(*stream); });
    const auto began = std::chrono::steady_clock::now();
    read_all(*stream);
    {
      const std::lock_guard lock(mutex);
      closed = true;
    }
    parameters_changed.notify_all();
    writer.join();
    own_context.TryCancel();
    const grpc::Status status = stream->Finish();

    std::unique_lock lock(mutex);
    context = nullptr;
    if (stopping) {
      return;
    }
    // A stream that lasted was a connection; one that could not be made ends at once.
    const bool lasted = std::chrono::steady_clock::now() - began > std::chrono::seconds(1);
    if (lasted) {
      backoff.reset();
    }
    const auto wait = backoff.next();
    spdlog::log(lasted ? spdlog::level::warn : spdlog::level::debug,
                "agent away address={} error=\"{}\" retry_ms={}", address, status.error_message(),
                wait.count());
    parameters_changed.wait_for(lock, wait, [&] { return stopping; });
  }
}

std::unique_ptr<AgentClient> AgentClient::start(const std::string& address) {
  auto impl = std::make_unique<Impl>(address);
  impl->thread = std::thread([raw = impl.get()] { raw->run(); });
  return std::unique_ptr<AgentClient>(new AgentClient(std::move(impl)));
}

AgentClient::AgentClient(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

AgentClient::~AgentClient() {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopping = true;
    if (impl_->context != nullptr) {
      impl_->context->TryCancel();
    }
  }
  impl_->parameters_changed.notify_all();
  impl_->thread.join();
}

void AgentClient::offer_parameters(std::string bytes) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->parameters = std::move(bytes);
    ++impl_->generation;
  }
  impl_->parameters_changed.notify_all();
}

void AgentClient::offer_forecast(std::string bytes, Version version) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->forecast = std::move(bytes);
    impl_->forecast_version = version;
    ++impl_->forecast_generation;
  }
  impl_->parameters_changed.notify_all();
}

void AgentClient::offer_gains(std::string bytes) {
  {
    const std::lock_guard lock(impl_->mutex);
    impl_->gains = std::move(bytes);
    ++impl_->gains_generation;
  }
  impl_->parameters_changed.notify_all();
}

std::vector<std::string> AgentClient::take_recording() {
  const std::lock_guard lock(impl_->mutex);
  impl_->recording_bytes = 0;
  return std::exchange(impl_->recording, {});
}

std::vector<spec::ForecastSample> AgentClient::take_samples() {
  const std::lock_guard lock(impl_->mutex);
  return std::exchange(impl_->samples, {});
}

std::vector<spec::Rollout> AgentClient::take_rollouts(std::chrono::milliseconds timeout) {
  std::unique_lock lock(impl_->mutex);
  impl_->rollouts_changed.wait_for(lock, timeout, [&] { return !impl_->rollouts.empty(); });
  std::vector<spec::Rollout> out(std::make_move_iterator(impl_->rollouts.begin()),
                                 std::make_move_iterator(impl_->rollouts.end()));
  impl_->rollouts.clear();
  return out;
}

std::uint64_t AgentClient::dropped() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->dropped;
}

std::uint64_t AgentClient::refused() const {
  const std::lock_guard lock(impl_->mutex);
  return impl_->refused;
}

}  // namespace ballast::sync
