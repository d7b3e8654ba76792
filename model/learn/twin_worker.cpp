// SPDX-License-Identifier: Apache-2.0
#include "model/learn/twin_worker.h"

#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <utility>

namespace ballast::learn {
namespace {

constexpr int kNice = 15;
constexpr std::size_t kNotes = 8;

}  // namespace

TwinWorker::TwinWorker(TwinSettings settings) : settings_(std::move(settings)) {
  thread_ = std::thread([this] { run(); });
}

TwinWorker::~TwinWorker() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void TwinWorker::take(const std::vector<std::string>& texts) {
  for (const std::string& text : texts) {
    policy::Recording recording = policy::parse_recording(text);
    const std::lock_guard lock(mutex_);
    if (!std::exchange(recording_, true)) {
      offered_ = policy::serialize_gains({});
    }
    policy_ = recording.policy;
    for (std::string& note : recording.notes) {
      if (notes_.size() < kNotes && std::find(notes_.begin(), notes_.end(), note) == notes_.end()) {
        spdlog::warn("recording: {}", note);
        notes_.push_back(std::move(note));
      }
    }
    for (auto& tick : recording.ticks) {
      rows_ += tick.pods.size() + 1;
      ticks_.push_back(std::move(tick));
    }
    // A clock that goes back is another one: what came before it is too old, too.
    while (!ticks_.empty() &&
           (rows_ > settings_.most_rows || ticks_.back().at_s - ticks_.front().at_s > settings_.span_s ||
            ticks_.front().at_s > ticks_.back().at_s)) {
      rows_ -= ticks_.front().pods.size() + 1;
      ticks_.pop_front();
    }
  }
}

void TwinWorker::hold(std::vector<float> forecast) {
  const std::lock_guard lock(mutex_);
  forecast_ = std::move(forecast);
}

std::optional<std::string> TwinWorker::take_gains() {
  const std::lock_guard lock(mutex_);
  return std::exchange(offered_, std::nullopt);
}

TwinWorker::Summary TwinWorker::summary() const {
  const std::lock_guard lock(mutex_);
  return {busiest_, acting_.gains.size()};
}

void TwinWorker::run() {
  ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), kNice);
  std::unique_lock lock(mutex_);
  double wait_s = settings_.every_s;
  while (!changed_.wait_for(lock, std::chrono::duration<double>(wait_s), [this] { return stopping_; })) {
    const auto began = std::chrono::steady_clock::now();
    if (!ticks_.empty()) {
      learn(lock);
    }
    const double took = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    wait_s = std::max(settings_.every_s, took * (1 / settings_.share - 1));
  }
}

void TwinWorker::learn(std::unique_lock<std::mutex>& lock) {
  const policy::Recording recording{{ticks_.begin(), ticks_.end()}, policy_, notes_};
  // A forecast takes part only where it acts.
  std::vector<float> forecast = policy_ == "forecast_rule" ? forecast_ : std::vector<float>();
  TwinOptions options = settings_.learning;
  options.forecast = false;
  options.in_force = acting_.gains;
  options.stopping = [this] {
    const std::lock_guard inner(mutex_);
    return stopping_;
  };
  lock.unlock();
  TwinResult result = learn_in_twin(recording, std::move(forecast), options);
  lock.lock();
  if (stopping_) {
    return;
  }
  acting_ = std::move(result.file);
  busiest_ = result.nothing.empty() ? acting_.twins[result.busiest] : spec::TwinWord{};
  offered_ = policy::serialize_gains(acting_);
}

}  // namespace ballast::learn
