// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/sync_swarm.h"

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cmath>
#include <memory>
#include <optional>
#include <queue>
#include <random>
#include <thread>

#include "ballast_sync.pb.h"

namespace ballast::bench {

namespace {

using Clock = std::chrono::steady_clock;
using Time = Clock::time_point;
namespace v1 = sync::v1;

constexpr char kGradientTag = (v1::WorkerMessage::kGradientFieldNumber << 3) | 2;
constexpr char kValuesTag = (v1::Gradient::kValuesFieldNumber << 3) | 2;

Time later(Time from, double seconds) {
  return from + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
}

std::string varint(std::size_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>((value & 0x7F) | 0x80));
  }
  out.push_back(static_cast<char>(value));
  return out;
}

// Gradients of unit size in random directions: what the server does with them does not depend on them.
struct Numbers {
  grpc::Slice bytes;
  double norm = 0;
};
std::vector<Numbers> make_numbers(std::size_t parameters) {
  std::vector<Numbers> out(16);
  std::mt19937 random(1);
  std::normal_distribution<float> normal(0.0F, 0.01F);
  std::vector<float> values(parameters);
  for (Numbers& numbers : out) {
    double sum = 0;
    for (float& x : values) {
      x = normal(random);
      sum += static_cast<double>(x) * static_cast<double>(x);
    }
    numbers = {grpc::Slice(values.data(), parameters * sizeof(float)), std::sqrt(sum)};
  }
  return out;
}

enum Op : std::uintptr_t { kStarted, kWritten, kRead, kFinished, kOps };

struct Worker {
  std::string id;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<grpc::ClientContext> context;
  std::unique_ptr<grpc::GenericClientAsyncReaderWriter> stream;
  grpc::ByteBuffer in;
  grpc::Status status;
  v1::Version held;
  bool open = false, waiting = false, pushed = false, reading = false, writing = false;
  Time due;
  std::size_t next = 0;  // of the gradients
};

// The workers of one thread.
class Crew {
 public:
  Crew(const SwarmOptions& options, const std::vector<Numbers>& numbers, unsigned index, Time start)
      : options_(options), numbers_(numbers), start_(start) {
    begin_ = later(start, options.warm_up_s);
    end_ = later(begin_, options.seconds);
    for (std::size_t i = index; i < options.workers; i += options.threads) {
      auto worker = std::make_unique<Worker>();
      worker->id = "worker-" + std::to_string(i);
      worker->next = i;
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
      if (worker->waiting && worker->pushed && counts(*worker)) {
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

  bool counts(const Worker& worker) const { return worker.due >= begin_ && worker.due < end_; }
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
    worker.stream = stub.PrepareCall(worker.context.get(), "/ballast.sync.v1.GlobalNetwork/Sync", &queue_);
    worker.stream->StartCall(tag(i, kStarted));
  }

  // The first sync of a worker pulls; those after it push at the version that was pulled.
  void sync(std::size_t i) {
    Worker& worker = *workers_[i];
    v1::WorkerMessage message;
    message.set_worker_id(worker.id);
    worker.pushed = worker.held.epoch() != 0;
    std::string bytes;
    std::vector<grpc::Slice> slices;
    if (worker.pushed) {
      *message.mutable_held() = worker.held;
      const Numbers& numbers = numbers_[worker.next++ % numbers_.size()];
      v1::Gradient gradient;
      *gradient.mutable_acted() = worker.held;
      gradient.set_steps(20);
      gradient.set_norm(numbers.norm);
      const std::string head = gradient.SerializeAsString() + kValuesTag + varint(numbers.bytes.size());
      bytes = message.SerializeAsString() + kGradientTag + varint(head.size() + numbers.bytes.size()) + head;
      slices = {grpc::Slice(bytes), numbers.bytes};
    } else {
      bytes = message.SerializeAsString();
      slices = {grpc::Slice(bytes)};
    }
    worker.waiting = true;
    ++waiting_;
    worker.stream->Write(grpc::ByteBuffer(slices.data(), slices.size()), tag(i, kWritten));
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
      result.lost += worker.pushed ? 1 : 0;
    }
    worker.open = false;
    worker.stream->Finish(&worker.status, tag(i, kFinished));
  }

  void answered(std::size_t i) {
    Worker& worker = *workers_[i];
    const Time now = Clock::now();
    v1::ServerMessage answer;
    {
      grpc::ProtoBufferReader reader(&worker.in);
      if (!answer.ParseFromZeroCopyStream(&reader)) {
        answer.Clear();
      }
    }
    worker.in.Clear();
    --waiting_;
    worker.waiting = false;
    worker.held = answer.current();
    if (counts(worker)) {
      ++result.syncs;
      result.latency_ms.push_back(std::chrono::duration<float, std::milli>(now - worker.due).count());
      ++result.verdicts[v1::ServerMessage::Verdict_Name(answer.verdict())];
      result.parameter_bytes += answer.parameters().size();
      result.first_version = result.first_version == 0 ? worker.held.version() : result.first_version;
      result.last_version = std::max(result.last_version, worker.held.version());
    }
    worker.due = later(worker.due, options_.interval_s);
    due_.emplace(worker.due, i);
  }

  const SwarmOptions& options_;
  const std::vector<Numbers>& numbers_;
  Time start_, begin_, end_;
  grpc::CompletionQueue queue_;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::priority_queue<Due, std::vector<Due>, std::greater<>> due_;
  std::size_t waiting_ = 0;
};

}  // namespace

SwarmResult run_swarm(const SwarmOptions& options, void (*measuring)(bool, void*), void* context) {
  SwarmOptions fixed = options;
  fixed.warm_up_s = std::max(fixed.warm_up_s, 2 * fixed.interval_s);
  const auto numbers = make_numbers(fixed.parameters);
  const Time start = Clock::now();
  std::vector<std::unique_ptr<Crew>> crews;
  for (unsigned t = 0; t < fixed.threads; ++t) {
    crews.push_back(std::make_unique<Crew>(fixed, numbers, t, start));
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
    all.parameter_bytes += r.parameter_bytes;
  }
  std::sort(all.latency_ms.begin(), all.latency_ms.end());
  return all;
}

}  // namespace ballast::bench
