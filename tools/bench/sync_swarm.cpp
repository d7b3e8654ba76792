// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/sync_swarm.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <memory>
#include <queue>
#include <thread>

namespace ballast::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;

Time later(Time from, double seconds) {
  return from + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

enum Op : std::uintptr_t { kStarted, kWritten, kRead, kFinished, kOps };

struct Worker {
  std::size_t number = 0;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  grpc::ByteBuffer in;
  grpc::Status status;
  bool open = false, waiting = false, counts = false;
  Time due;
};

// The workers of one thread.
class Crew {
 public:
  Crew(const SwarmOptions& options, std::unique_ptr<Script> script, unsigned index, Time start)
      : options_(options), script_(std::move(script)), start_(start) {
    begin_ = later(start, options.warm_up_s);
    end_ = later(begin_, options.seconds);
    for (std::size_t i = index; i < options.workers; i += options.threads) {
      auto worker = std::make_unique<Worker>();
      worker->number = i;
      worker->due =
          later(start, options.interval_s * static_cast<double>(i) / static_cast<double>(options.workers));
      due_.emplace(worker->due, workers_.size());
      workers_.push_back(std::move(worker));
    }
  }

  void run() {
    const Time give_up = later(end_, 10);
    while (Clock::now() < give_up && (Clock::now() < end_ || waiting_ > 0)) {
      start_due();
      const Time wake = due_.empty() ? later(Clock::now(), 0.05) : std::min(due_.top().first, give_up);
      poll(std::min(wake, later(Clock::now(), 0.05)));
    }
    for (const auto& worker : workers_) {
      if (worker->waiting && worker->counts && measured(*worker)) {
        ++result.lost;
      }
      if (worker->context != nullptr) {
        worker->context->TryCancel();
      }
    }
    queue_.Shutdown();
    void* tag = nullptr;
    bool ok = false;
    while (queue_.Next(&tag, &ok)) {
    }
  }

  SwarmResult result;

 private:
  using Due = std::pair<Time, std::size_t>;

  bool measured(const Worker& worker) const { return worker.due >= begin_ && worker.due < end_; }
  void* tag(std::size_t worker, Op op) const { return reinterpret_cast<void*>(worker * kOps + op); }

  void poll(Time until) {
    const auto wall = std::chrono::system_clock::now() +
                      std::chrono::duration_cast<std::chrono::system_clock::duration>(until - Clock::now());
    void* got = nullptr;
    bool ok = false;
    while (queue_.AsyncNext(&got, &ok, wall) == grpc::CompletionQueue::GOT_EVENT) {
      const auto number = reinterpret_cast<std::uintptr_t>(got);
      react(number / kOps, static_cast<Op>(number % kOps), ok);
      if (Clock::now() >= until) {
        return;
      }
    }
  }

  void start_due() {
    const Time now = Clock::now();
    while (!due_.empty() && due_.top().first <= now) {
      const std::size_t i = due_.top().second;
      due_.pop();
      Worker& worker = *workers_[i];
      if (worker.due >= end_) {
        continue;
      }
      if (worker.open) {
        sync(i);
      } else {
        connect(i);
      }
    }
  }

  void connect(std::size_t i) {
    Worker& worker = *workers_[i];
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    arguments.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    arguments.SetMaxReceiveMessageSize(-1);
    worker.channel =
        grpc::CreateCustomChannel(options_.address, grpc::InsecureChannelCredentials(), arguments);
    worker.context = std::make_unique<grpc::ClientContext>();
    worker.context->set_wait_for_ready(true);
    grpc::GenericStub stub(worker.channel);
    worker.stream = stub.PrepareCall(worker.context.get(), script_->method(), &queue_);
    worker.stream->StartCall(tag(i, kStarted));
  }

  void sync(std::size_t i) {
    Worker& worker = *workers_[i];
    const grpc::ByteBuffer message = script_->message(worker.number, worker.counts);
    if (measured(worker)) {
      result.sent_bytes += message.Length();
    }
    worker.waiting = true;
    ++waiting_;
    worker.stream->Write(message, tag(i, kWritten));
    worker.stream->Read(&worker.in, tag(i, kRead));
  }

  void react(std::size_t i, Op op, bool ok) {
    Worker& worker = *workers_[i];
    if (op == kFinished) {
      ++result.broken;
      result.broken_why = std::to_string(worker.status.error_code()) + " " + worker.status.error_message();
      return;
    }
    if (!ok) {
      if (op != kWritten) {  // the read sees the same end
        fail(i);
      }
      return;
    }
    if (op == kStarted) {
      worker.open = true;
      sync(i);
    } else if (op == kRead) {
      answered(i);
    }
  }

  void fail(std::size_t i) {
    Worker& worker = *workers_[i];
    if (worker.waiting) {
      --waiting_;
      worker.waiting = false;
      result.lost += worker.counts ? 1 : 0;
    }
    worker.open = false;
    worker.stream->Finish(&worker.status, tag(i, kFinished));
  }

  void answered(std::size_t i) {
    Worker& worker = *workers_[i];
    const Time now = Clock::now();
    const bool counted = measured(worker);
    const std::size_t length = worker.in.Length();
    const std::string verdict = script_->answered(worker.number, worker.in, counted ? &result : nullptr);
    worker.in.Clear();
    --waiting_;
    worker.waiting = false;
    if (counted) {
      ++result.syncs;
      result.received_bytes += length;
      result.latency_ms.push_back(std::chrono::duration<float, std::milli>(now - worker.due).count());
      ++result.verdicts[verdict];
    }
    worker.due = later(worker.due, options_.interval_s);
    due_.emplace(worker.due, i);
  }

  const SwarmOptions& options_;
  const std::unique_ptr<Script> script_;
  Time start_, begin_, end_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::size_t waiting_ = 0;
};

}  // namespace

SwarmResult run_swarm(const SwarmOptions& options, const std::function<std::unique_ptr<Script>()>& script,
                      void (*measuring)(bool, void*), void* context) {
  SwarmOptions fixed = options;
  fixed.warm_up_s = std::max(fixed.warm_up_s, 2 * fixed.interval_s);
  const Time start = Clock::now();
  std::vector<std::unique_ptr<Crew>> crews;
  for (unsigned t = 0; t < fixed.threads; ++t) {
    crews.push_back(std::make_unique<Crew>(fixed, script(), t, start));
  }
  {
    std::vector<std::jthread> threads;
    for (auto& crew : crews) {
      threads.emplace_back([&crew] { crew->run(); });
    }
    std::this_thread::sleep_until(later(start, fixed.warm_up_s));
    measuring(true, context);
    std::this_thread::sleep_until(later(start, fixed.warm_up_s + fixed.seconds));
    measuring(false, context);
  }
  SwarmResult all;
  for (const auto& crew : crews) {
    const SwarmResult& r = crew->result;
    all.syncs += r.syncs;
    all.lost += r.lost;
    all.broken += r.broken;
    all.broken_why = r.broken > 0 ? r.broken_why : all.broken_why;
    for (const auto& [verdict, count] : r.verdicts) {
      all.verdicts[verdict] += count;
    }
    all.latency_ms.insert(all.latency_ms.end(), r.latency_ms.begin(), r.latency_ms.end());
    if (r.first_version > 0) {
      all.first_version =
          all.first_version == 0 ? r.first_version : std::min(all.first_version, r.first_version);
    }
    all.last_version = std::max(all.last_version, r.last_version);
    all.sent_bytes += r.sent_bytes;
    all.received_bytes += r.received_bytes;
  }
  std::sort(all.latency_ms.begin(), all.latency_ms.end());
  return all;
}

}  // namespace ballast::bench
