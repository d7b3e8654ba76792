// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/stream_registry.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/log.h"
#include "core/base/statistics.h"

namespace ballast::actuate {

namespace {
constexpr std::size_t kDelaysKept = 64;
}

StreamReactor::StreamReactor(std::shared_ptr<StreamRegistry> registry, std::string peer)
    : registry_(std::move(registry)), peer_(std::move(peer)) {
  if (!registry_->add(this)) {
    Finish({grpc::StatusCode::RESOURCE_EXHAUSTED, "too many discovery streams"});
    return;
  }
  StartRead(&request_);
}

void StreamReactor::OnReadDone(bool ok) {
  XdsStream::Answer answer;
  bool read_on = false;
  bool finish = false;
  {
    const std::lock_guard lock(registry_->mutex_);
    if (ok && request_.has_node()) {
      node_ = request_.node().id();
    }
    if (ok) {
      answer = state_.on_request(request_, registry_->resources_, registry_->clock_.now());
      refused_ = answer.refused;
    }
    closing_ = closing_ || !ok || refused_;
    read_on = !closing_;
    reading_ = read_on;
    finish = StreamRegistry::may_finish(this);
    if (answer.acknowledged_s) {
      registry_->delays_.push_back(*answer.acknowledged_s);
      if (registry_->delays_.size() > kDelaysKept) {
        registry_->delays_.pop_front();
      }
    }
    registry_->wake_.notify_one();
    registry_->settled_.notify_all();
  }
  if (!answer.rejected.empty()) {
    spdlog::warn("proxy refused endpoints and keeps the ones before proxy={} node={} reason=\"{}\"", peer_,
                 node_, answer.rejected);
  }
  if (read_on) {
    StartRead(&request_);
  }
  if (finish) {
    Finish(refused_ ? grpc::Status(grpc::StatusCode::RESOURCE_EXHAUSTED, "too many resource names")
                    : grpc::Status::OK);
  }
}

void StreamReactor::OnWriteDone(bool ok) {
  bool finish = false;
  {
    const std::lock_guard lock(registry_->mutex_);
    writing_ = false;
    closing_ = closing_ || !ok;
    finish = StreamRegistry::may_finish(this);
    registry_->wake_.notify_one();
  }
  if (finish) {
    Finish(grpc::Status::OK);
  }
}

void StreamReactor::OnCancel() {
  bool finish = false;
  {
    const std::lock_guard lock(registry_->mutex_);
    closing_ = true;
    finish = StreamRegistry::may_finish(this);
    registry_->settled_.notify_all();
  }
  if (finish) {
    Finish(grpc::Status::CANCELLED);
  }
}

void StreamReactor::OnDone() {
  registry_->remove(this);
  delete this;
}

StreamRegistry::StreamRegistry(std::chrono::milliseconds patience)
    : patience_(static_cast<MonotonicNs>(std::chrono::nanoseconds(patience).count())),
      pusher_([this] { push_loop(); }) {}

StreamRegistry::~StreamRegistry() {
  stop();
}

void StreamRegistry::publish(const std::string& name, std::string bytes) {
  const std::lock_guard lock(mutex_);
  auto resource = std::make_shared<Resource>();
  resource->name = name;
  resource->bytes = std::move(bytes);
  resource->version = ++version_;
  resource->published = clock_.now();
  for (StreamReactor* stream : streams_) {
    stream->state_.on_publish(resource);
  }
  resources_[name] = std::move(resource);
  wake_.notify_one();
}

void StreamRegistry::forget(const std::string& name) {
  const std::lock_guard lock(mutex_);
  resources_.erase(name);
}

bool StreamRegistry::settle(std::chrono::milliseconds timeout) {
  std::unique_lock lock(mutex_);
  return settled_.wait_for(lock, timeout, [this] {
    return std::ranges::all_of(
        streams_, [](const StreamReactor* stream) { return stream->closing_ || stream->state_.settled(); });
  });
}

void StreamRegistry::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    wake_.notify_one();
  }
  if (pusher_.joinable()) {
    pusher_.join();
  }
}

std::size_t StreamRegistry::subscribers() const {
  const std::lock_guard lock(mutex_);
  std::set<std::pair<std::string, std::string>> proxies;
  std::size_t nameless = 0;
  for (const StreamReactor* stream : streams_) {
    if (stream->closing_ || !stream->state_.subscribed()) {
      continue;
    }
    // All of a proxy's streams come over one connection. Peers of a unix socket have no port to tell them by.
    if (stream->node_.empty() || stream->peer_.starts_with("unix:")) {
      ++nameless;
    } else {
      proxies.emplace(stream->peer_, stream->node_);
    }
  }
  return proxies.size() + nameless;
}

guard::Answer StreamRegistry::answer(const std::vector<std::string>& names) const {
  const std::lock_guard lock(mutex_);
  std::size_t asked = 0;
  std::size_t acknowledged = 0;
  for (const std::string& name : names) {
    const auto found = resources_.find(name);
    if (found == resources_.end()) {
      return {};
    }
    for (const StreamReactor* stream : streams_) {
      const XdsStream::Taken taken = stream->state_.taken(name);
      if (!taken.rejected.empty()) {
        return {guard::Outcome::kRefused, stream->peer_ + ": " + taken.rejected};
      }
      asked += taken.subscribed ? 1 : 0;
      acknowledged += taken.subscribed && taken.version == found->second->version ? 1 : 0;
    }
  }
  if (asked == 0) {
    return {guard::Outcome::kHeldBack, "no proxy asks for it"};
  }
  return acknowledged == asked
             ? guard::Answer{guard::Outcome::kAcknowledged, ""}
             : guard::Answer{guard::Outcome::kWritten,
                             fmt::format("{} of {} proxies have acknowledged it", acknowledged, asked)};
}

double StreamRegistry::acknowledgement_delay_s() const {
  std::vector<double> delays;
  {
    const std::lock_guard lock(mutex_);
    delays.assign(delays_.begin(), delays_.end());
  }
  return median_in_place(delays);
}

bool StreamRegistry::add(StreamReactor* stream) {
  const std::lock_guard lock(mutex_);
  if (streams_.size() >= kMaxStreams) {
    return false;
  }
  streams_.insert(stream);
  return true;
}

void StreamRegistry::remove(StreamReactor* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(stream);
  settled_.notify_all();
}

bool StreamRegistry::may_finish(StreamReactor* stream) {
  // gRPC ends a cancelled stream's read and write, so this comes true without waiting for the proxy.
  const bool finish = stream->closing_ && !stream->reading_ && !stream->writing_ && !stream->finished_;
  stream->finished_ = stream->finished_ || finish;
  return finish;
}

void StreamRegistry::push_loop() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    std::vector<std::pair<StreamReactor*, Push>> writes;
    std::optional<MonotonicNs> retry;
    const MonotonicNs now = clock_.now();
    for (StreamReactor* stream : streams_) {
      if (stream->closing_ || stream->writing_ || !stream->state_.waiting()) {
        continue;
      }
      if (std::optional<Push> push = stream->state_.next(now, patience_)) {
        // Until OnWriteDone the stream cannot finish, hence not be deleted.
        stream->writing_ = true;
        writes.emplace_back(stream, std::move(*push));
      } else {
        const MonotonicNs at = stream->state_.sent() + patience_;
        retry = std::min(retry.value_or(at), at);
      }
    }
    if (!writes.empty()) {
      lock.unlock();
      for (auto& [stream, push] : writes) {
        push.write_to(stream->response_);
        stream->StartWrite(&stream->response_);
      }
      lock.lock();
      continue;
    }
    if (retry) {
      wake_.wait_for(lock, std::chrono::nanoseconds(*retry - std::min(*retry, now) + 1));
    } else {
      wake_.wait(lock);
    }
  }
}

}  // namespace ballast::actuate
