// SPDX-License-Identifier: Apache-2.0
#include "model/sync/rollouts/rollout_server.h"

#include <grpcpp/grpcpp.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <utility>

#include "ballast_sync.grpc.pb.h"
#include "model/policy/forecast_file.h"
#include "model/policy/recording_file.h"
#include "model/sync/transport/listen.h"
#include "model/sync/wire/wire.h"

namespace ballast::sync {

namespace {

constexpr int kMostBytes = 1 << 20;  // a parameters file is some 31 kB

class Stream;

// What the loop and gRPC's threads share. One mutex; it is held while a write starts, which gRPC
// allows: no reaction runs inside a Start call.
struct Shared {
  std::mutex mutex;
  Stream* learner = nullptr;  // the newest stream
  std::deque<v1::AgentMessage> queue;
  std::optional<std::string> parameters;
  std::optional<ForecastFile> forecast;
  std::optional<std::string> gains;
  std::uint64_t sent = 0;
  std::uint64_t dropped = 0;
  void offer(std::vector<v1::AgentMessage> messages);
};

class Stream final : public grpc::ServerBidiReactor<v1::LearnerMessage, v1::AgentMessage> {
 public:
  Stream(Shared& shared, grpc::CallbackServerContext* context) : shared_(shared), context_(context) {
    {
      const std::lock_guard lock(shared_.mutex);
      if (shared_.learner != nullptr) {
        spdlog::info("another learner connected, the former one is let go");
        shared_.learner->context_->TryCancel();
      }
      shared_.learner = this;
    }
    StartSendInitialMetadata();  // tells the learner that it is connected before there is a rollout
    StartRead(&message_);
  }

  // REQUIRES shared_.mutex.
  void write_next() {
    if (writing_ || ended_ || shared_.learner != this || shared_.queue.empty()) {
      return;
    }
    out_ = std::move(shared_.queue.front());
    shared_.queue.pop_front();
    writing_ = true;
    StartWrite(&out_);
  }

  void OnReadDone(bool ok) override {
    const std::lock_guard lock(shared_.mutex);
    if (!ok) {
      end();
      return;
    }
    if (shared_.learner == this) {
      if (!message_.gains().empty()) {
        shared_.gains = std::move(*message_.mutable_gains());
      }
      if (!message_.parameters().empty()) {
        shared_.parameters = std::move(*message_.mutable_parameters());
      }
      if (!message_.forecast().empty()) {
        shared_.forecast = {std::move(*message_.mutable_forecast()), message_.forecast_version().epoch(),
                            message_.forecast_version().version()};
      }
    }
    StartRead(&message_);
  }
  void OnWriteDone(bool ok) override {
    const std::lock_guard lock(shared_.mutex);
    writing_ = false;
    ++(ok ? shared_.sent : shared_.dropped);
    if (ended_) {
      Finish(grpc::Status::OK);
    } else if (ok) {
      write_next();
    }
  }
  void OnDone() override { delete this; }

 private:
  // The learner is gone. Finish may not overtake a write. REQUIRES shared_.mutex.
  void end() {
    ended_ = true;
    if (shared_.learner == this) {
      shared_.learner = nullptr;
      shared_.dropped += shared_.queue.size();
      shared_.queue.clear();
    }
    if (!writing_) {
      Finish(grpc::Status::OK);
    }
  }

  Shared& shared_;
  grpc::CallbackServerContext* context_;
  v1::LearnerMessage message_;
  v1::AgentMessage out_;
  bool writing_ = false;
  bool ended_ = false;
};

void Shared::offer(std::vector<v1::AgentMessage> messages) {
  const std::lock_guard lock(mutex);
  if (learner == nullptr) {
    dropped += messages.size();
    return;
  }
  for (auto& message : messages) {
    if (queue.size() >= RolloutServer::kQueue) {
      queue.pop_front();
      ++dropped;
    }
    queue.push_back(std::move(message));
  }
  learner->write_next();
}

class Service final : public v1::Agent::CallbackService {
 public:
  explicit Service(Shared& shared) : shared_(shared) {}
  grpc::ServerBidiReactor<v1::LearnerMessage, v1::AgentMessage>* Learn(
      grpc::CallbackServerContext* context) override {
    return new Stream(shared_, context);  // OnDone deletes it
  }

 private:
  Shared& shared_;
};

}  // namespace

struct RolloutServer::Impl {
  Shared shared;
  Service service{shared};
  std::unique_ptr<grpc::Server> server;
};

Result<std::unique_ptr<RolloutServer>> RolloutServer::start(const std::string& path) {
  const std::string address = "unix:" + path;
  if (auto free = probe_address(address); !free) {
    return free.error();
  }
  auto impl = std::make_unique<Impl>();
  int bound = 0;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(kMostBytes);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5'000);
  builder.AddListeningPort(address, grpc::InsecureServerCredentials(), &bound);
  builder.RegisterService(&impl->service);
  // The socket is never open to others, not even between bind and a chmod; to the group alone in a folder
  // that gives its group to what is made in it (a pod's, where the learner is another user).
  struct stat folder {};
  const std::string parent = path.substr(0, path.rfind('/') + 1);
  const bool shared =
      ::stat(parent.empty() ? "." : parent.c_str(), &folder) == 0 && (folder.st_mode & S_ISGID) != 0;
  const mode_t former = ::umask(shared ? 0117 : 0177);
  impl->server = builder.BuildAndStart();
  ::umask(former);
  if (impl->server == nullptr || bound == 0) {
    return Error::failed("cannot listen on " + address + ": its folder is missing or may not be written");
  }
  return std::unique_ptr<RolloutServer>(new RolloutServer(std::move(impl)));
}

RolloutServer::RolloutServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}

RolloutServer::~RolloutServer() {
  impl_->server->Shutdown(std::chrono::system_clock::now() + std::chrono::milliseconds(500));
  impl_->server->Wait();
}

void RolloutServer::offer(const std::vector<spec::Rollout>& rollouts) {
  std::vector<v1::AgentMessage> messages(rollouts.size());
  for (std::size_t i = 0; i < rollouts.size(); ++i) {
    *messages[i].mutable_rollout() = to_wire(rollouts[i]);
  }
  impl_->shared.offer(std::move(messages));
}

void RolloutServer::offer_samples(const std::vector<spec::ForecastSample>& samples) {
  if (!samples.empty()) {
    std::vector<v1::AgentMessage> messages(1);
    messages[0].set_forecast_samples(policy::serialize_samples(samples));
    impl_->shared.offer(std::move(messages));
  }
}

void RolloutServer::offer_recording(std::string_view policy, const std::vector<spec::RecordedTick>& ticks) {
  if (ticks.empty() || !learner_connected()) {
    return;
  }
  std::vector<v1::AgentMessage> messages;
  for (const auto& tick : ticks) {
    if (messages.empty() || messages.back().recording().size() > kMostBytes / 2) {
      messages.emplace_back().set_recording(policy::recording_header(policy));
    }
    messages.back().mutable_recording()->append(policy::recording_line(tick));
  }
  impl_->shared.offer(std::move(messages));
}

std::optional<std::string> RolloutServer::take_gains() {
  const std::lock_guard lock(impl_->shared.mutex);
  return std::exchange(impl_->shared.gains, std::nullopt);
}

std::optional<ForecastFile> RolloutServer::take_forecast() {
  const std::lock_guard lock(impl_->shared.mutex);
  return std::exchange(impl_->shared.forecast, std::nullopt);
}

std::optional<std::string> RolloutServer::take_parameters() {
  const std::lock_guard lock(impl_->shared.mutex);
  return std::exchange(impl_->shared.parameters, std::nullopt);
}

bool RolloutServer::learner_connected() const {
  const std::lock_guard lock(impl_->shared.mutex);
  return impl_->shared.learner != nullptr;
}

std::uint64_t RolloutServer::sent() const {
  const std::lock_guard lock(impl_->shared.mutex);
  return impl_->shared.sent;
}

std::uint64_t RolloutServer::dropped() const {
  const std::lock_guard lock(impl_->shared.mutex);
  return impl_->shared.dropped;
}

}  // namespace ballast::sync
