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
    : spec_(spec),
      sharing_(!holds_workers(spec, discipline)),
      speed_(spec.speed),
      wait_rate_(1 / spec.wait_factor) {}

void Server::advance(double now) {
  const double elapsed = now - last_;
  last_ = now;
  if (elapsed <= 0 || in_flight() == 0) {
    return;
  }
  wait_virtual_ += elapsed * wait_rate_;
  const double workers = static_cast<double>(spec_.workers);
  cpu_.busy += std::min(static_cast<double>(held()), workers) * elapsed;
  if (running_.empty()) {
    return;
  }
  virtual_ += elapsed * rate_;
  // In processor sharing every request is a thread, in FIFO a worker is; one that waits outside or
  // in the queue sleeps.
  const double threads = static_cast<double>(running_.size());
  const double busy = std::min(threads, workers) * elapsed;
  // A request in service is a thread, `speed` the part of a core that its pod may use. While other
  // tenants have the CPU every one of the threads waits; while the pod has it, all but one a worker.
  // Waiting for the pod's own quota is left out, as the observer takes it out.
  cpu_.ready += threads * elapsed;
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

void Server::set_wait_rate(double now, double rate) {
  advance(now);
  wait_rate_ = rate / spec_.wait_factor;
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
  if (!sharing_ && held() >= spec_.workers) {
    waiting_.push_back(job);
    return;
  }
  start(job);
  set_rate();
}

double Server::work_ends() const {
  return running_.empty() || rate_ <= 0 ? std::numeric_limits<double>::infinity()
                                        : last_ + std::max(0.0, running_.front().finish - virtual_) / rate_;
}

double Server::wait_ends() const {
  return outside_.empty() || wait_rate_ <= 0
             ? std::numeric_limits<double>::infinity()
             : last_ + std::max(0.0, outside_.front().finish - wait_virtual_) / wait_rate_;
}

double Server::next_completion() const {
  return std::min(work_ends(), wait_ends());
}

std::optional<Job> Server::complete(double now) {
  const bool works = work_ends() <= wait_ends();
  advance(now);
  std::vector<Job>& heap = works ? running_ : outside_;
  std::pop_heap(heap.begin(), heap.end(), LaterFinish{});
  Job done = heap.back();
  heap.pop_back();
  (works ? virtual_ : wait_virtual_) = done.finish;  // takes the rounding of `now` out
  if (works && done.wait > 0) {
    if (outside_.empty()) {
      wait_virtual_ = 0;
    }
    done.finish = wait_virtual_ + done.wait;
    outside_.push_back(done);
    std::push_heap(outside_.begin(), outside_.end(), LaterFinish{});
    set_rate();
    return std::nullopt;
  }
  start_next();
  set_rate();
  return finished(done, now);
}

void Server::start_next() {
  if (!waiting_.empty() && held() < spec_.workers) {
    start(waiting_.front());
    waiting_.pop_front();
  }
}

Job Server::finished(const Job& done, double now) {
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
  for (std::vector<Job>* heap : {&running_, &outside_}) {
    const auto it = std::find_if(heap->begin(), heap->end(), is_it);
    if (it != heap->end()) {
      *it = heap->back();
      heap->pop_back();
      std::make_heap(heap->begin(), heap->end(), LaterFinish{});
      start_next();
      set_rate();
      return true;
    }
  }
  return false;
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
