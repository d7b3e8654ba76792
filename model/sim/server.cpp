// SPDX-License-Identifier: Apache-2.0
#include "model/sim/server.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace ballast::sim {
namespace {

struct LaterFinish {
  bool operator()(const Job& a, const Job& b) const { return a.finish > b.finish; }
};

}  // namespace

Server::Server(const ServerSpec& spec, Discipline discipline)
    : spec_(spec), sharing_(discipline == Discipline::kProcessorSharing), speed_(spec.speed) {}

void Server::advance(double now) {
  const double elapsed = now - last_;
  last_ = now;
  if (running_.empty() || elapsed <= 0) {
    return;
  }
  virtual_ += elapsed * rate_;
  const double here = static_cast<double>(in_flight());
  const double workers = static_cast<double>(spec_.workers);
  const double busy = std::min(here, workers) * elapsed;
  cpu_.busy += busy;
  // A request in service is a thread, `speed` the part of a core that its pod may use. While other
  // tenants have the CPU every one of the threads waits; while the pod has it, all but one a worker.
  // Waiting for the pod's own quota is left out, as the observer takes it out.
  const double threads = sharing_ ? here : std::min(here, workers);
  const double behind = std::max(0.0, threads - workers) * elapsed * spec_.speed * share_;
  cpu_.on_cpu += busy * spec_.speed * share_;
  cpu_.wait += threads * elapsed * spec_.speed * (1 - share_) + behind;
  cpu_.self_wait += behind;
}

void Server::set_rate() {
  rate_ = speed_ * share_ * efficiency_;
  if (sharing_ && running_.size() > spec_.workers) {
    rate_ *= static_cast<double>(spec_.workers) / static_cast<double>(running_.size());
  }
}

void Server::set_speed(double now, double share, double efficiency) {
  advance(now);
  share_ = share;
  efficiency_ = efficiency;
  set_rate();
}

void Server::set_capacity(double now, double speed) {
  advance(now);
  speed_ = speed;
  set_rate();
}

void Server::start(Job job) {
  if (running_.empty()) {
    virtual_ = 0;  // keeps the clock small, so that its last digit stays far below a microsecond
  }
  job.finish = virtual_ + job.work;
  running_.push_back(job);
  std::push_heap(running_.begin(), running_.end(), LaterFinish{});
}

void Server::admit(double now, Job job) {
  advance(now);
  job.arrived = now;
  job.rif = static_cast<std::uint32_t>(in_flight());
  if (!sharing_ && running_.size() >= spec_.workers) {
    waiting_.push_back(job);
    return;
  }
  start(job);
  set_rate();
}

double Server::next_completion() const {
  if (running_.empty() || rate_ <= 0) {
    return std::numeric_limits<double>::infinity();
  }
  return last_ + std::max(0.0, running_.front().finish - virtual_) / rate_;
}

Job Server::complete(double now) {
  advance(now);
  std::pop_heap(running_.begin(), running_.end(), LaterFinish{});
  const Job done = running_.back();
  running_.pop_back();
  virtual_ = done.finish;  // takes the rounding of `now` out
  if (!waiting_.empty()) {
    start(waiting_.front());
    waiting_.pop_front();
  }
  set_rate();
  recent_[recorded_++ % kRecent] = {done.rif, static_cast<float>(now - done.arrived), now};
  return done;
}

bool Server::cancel(double now, std::uint32_t slot, std::uint32_t serial) {
  const auto is_it = [&](const Job& job) { return job.slot == slot && job.serial == serial; };
  advance(now);
  if (const auto it = std::find_if(waiting_.begin(), waiting_.end(), is_it); it != waiting_.end()) {
    waiting_.erase(it);
    return true;
  }
  const auto it = std::find_if(running_.begin(), running_.end(), is_it);
  if (it == running_.end()) {
    return false;
  }
  *it = running_.back();
  running_.pop_back();
  std::make_heap(running_.begin(), running_.end(), LaterFinish{});
  if (!waiting_.empty()) {
    start(waiting_.front());
    waiting_.pop_front();
  }
  set_rate();
  return true;
}

double Server::backlog(double now) const {
  const double at = virtual_ + (now - last_) * rate_;
  double left = 0;
  for (const auto& job : running_) {
    left += std::max(0.0, job.finish - at);
  }
  for (const auto& job : waiting_) {
    left += job.work;
  }
  return left;
}

CpuTime Server::cpu_time(double now) {
  advance(now);
  return cpu_;
}

double Server::latency_estimate(double now) const {
  std::array<Recent, kRecent> sorted;
  const std::size_t filled = std::min(recorded_, kRecent);
  const auto end = std::copy_if(recent_.begin(), recent_.begin() + filled, sorted.begin(),
                                [now](const Recent& r) { return now - r.ended_s <= kRecentAge; });
  const std::size_t known = end - sorted.begin();
  if (known == 0) {
    return 0;
  }
  // The nearest eight by in-flight count stand for "about as many".
  constexpr std::size_t kNear = 8;
  const auto rif = static_cast<double>(in_flight());
  const std::size_t near = std::min(kNear, known);
  const auto distance = [rif](const Recent& r) { return std::abs(static_cast<double>(r.rif) - rif); };
  std::partial_sort(sorted.begin(), sorted.begin() + near, end,
                    [&](const Recent& a, const Recent& b) { return distance(a) < distance(b); });
  std::nth_element(sorted.begin(), sorted.begin() + near / 2, sorted.begin() + near,
                   [](const Recent& a, const Recent& b) { return a.latency_s < b.latency_s; });
  return sorted[near / 2].latency_s;
}

}  // namespace ballast::sim
