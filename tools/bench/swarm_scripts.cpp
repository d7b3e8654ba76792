// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <grpcpp/support/proto_buffer_reader.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <random>
#include <unordered_map>

#include "ballast_sync.pb.h"
#include "tools/bench/sync_swarm.h"

namespace ballast::bench {

namespace {

namespace v1 = sync::v1;

std::string varint(std::size_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) {
    out.push_back(static_cast<char>((value & 0x7F) | 0x80));
  }
  out.push_back(static_cast<char>(value));
  return out;
}

std::string tag(int number) {
  return varint(static_cast<std::size_t>(number) << 3 | 2);
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

template <typename Message>
Message read(grpc::ByteBuffer& bytes) {
  Message message;
  grpc::ProtoBufferReader reader(&bytes);
  if (!message.ParseFromZeroCopyStream(&reader)) {
    message.Clear();
  }
  return message;
}

class SyncScript final : public Script {
 public:
  explicit SyncScript(std::size_t parameters) : numbers_(make_numbers(parameters)) {}
  const char* method() const override { return "/ballast.sync.v1.GlobalNetwork/Sync"; }

  // The first message of a worker pulls; those after it push at the version that was pulled.
  grpc::ByteBuffer message(std::size_t worker, bool& counts) override {
    Worker& w = workers_[worker];
    v1::WorkerMessage message;
    message.set_worker_id("worker-" + std::to_string(worker));
    counts = w.held.epoch() != 0;
    if (!counts) {
      w.next = worker;
      const grpc::Slice slice(message.SerializeAsString());
      return {&slice, 1};
    }
    *message.mutable_held() = w.held;
    const Numbers& numbers = numbers_[w.next++ % numbers_.size()];
    v1::Gradient gradient;
    *gradient.mutable_acted() = w.held;
    gradient.set_steps(20);
    gradient.set_norm(numbers.norm);
    // The numbers follow as a slice of their own: they are not copied for every worker.
    const std::string head =
        gradient.SerializeAsString() + tag(v1::Gradient::kValuesFieldNumber) + varint(numbers.bytes.size());
    const std::string bytes = message.SerializeAsString() + tag(v1::WorkerMessage::kGradientFieldNumber) +
                              varint(head.size() + numbers.bytes.size()) + head;
    const grpc::Slice slices[] = {grpc::Slice(bytes), numbers.bytes};
    return {slices, 2};
  }

  std::string answered(std::size_t worker, grpc::ByteBuffer& bytes, SwarmResult* result) override {
    const auto answer = read<v1::ServerMessage>(bytes);
    v1::Version& held = workers_[worker].held;
    held = answer.current();
    if (result != nullptr) {
      result->first_version = result->first_version == 0 ? held.version() : result->first_version;
      result->last_version = std::max(result->last_version, held.version());
    }
    return v1::ServerMessage::Verdict_Name(answer.verdict());
  }

 private:
  struct Worker {
    v1::Version held;
    std::size_t next = 0;  // of the gradients
  };
  std::vector<Numbers> numbers_;
  std::unordered_map<std::size_t, Worker> workers_;
};

class FleetScript final : public Script {
 public:
  FleetScript(std::size_t nodes, std::size_t pods)
      : pods_(pods), services_(std::max(pods, nodes * pods / kServicePods)) {}
  const char* method() const override { return "/ballast.sync.v1.Fleet/Report"; }

  grpc::ByteBuffer message(std::size_t node, bool& counts) override {
    Node& n = nodes_[node];
    if (n.endpoints.size() == 0) {
      n.endpoints = grpc::Slice(endpoints_of(node));
    }
    counts = true;
    v1::NodeReport head;
    head.set_node_id("node-" + std::to_string(node));
    head.set_session(1);
    head.set_sequence(++n.sequence);
    head.set_sent_ns(static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch().count()));
    head.set_tick_s(0.25F);
    head.set_loop_delay_s(0.5F);
    const grpc::Slice slices[] = {grpc::Slice(head.SerializeAsString()), n.endpoints};
    return {slices, 2};
  }

  std::string answered(std::size_t, grpc::ByteBuffer& bytes, SwarmResult*) override {
    return v1::FleetAnswer::Verdict_Name(read<v1::FleetAnswer>(bytes).verdict());
  }

 private:
  static constexpr std::size_t kServicePods = 50;
  struct Node {
    std::uint64_t sequence = 0;
    grpc::Slice endpoints;
  };
  std::string endpoints_of(std::size_t node) const {
    std::mt19937 random(static_cast<unsigned>(node));
    std::lognormal_distribution<float> spread(0.0F, 0.3F);
    std::string out;
    for (std::size_t p = 0; p < pods_; ++p) {
      v1::EndpointReport e;
      e.set_namespace_("shop");
      e.set_service(fmt::format("service-{}", (node * pods_ + p) % services_));
      e.set_pod(fmt::format("service-6d4cf56db6-{:05}-{:02}", node, p));
      e.set_address(fmt::format("10.{}.{}.{}", node >> 8, node & 255, p));
      e.set_port(8080);
      e.set_age_ns(100'000'000);
      for (const int number : kMeasured) {
        e.GetReflection()->SetFloat(&e, e.GetDescriptor()->FindFieldByNumber(number), spread(random));
      }
      const std::string bytes = e.SerializeAsString();
      out += tag(v1::NodeReport::kEndpointsFieldNumber) + varint(bytes.size()) + bytes;
    }
    return out;
  }
  static constexpr int kMeasured[] = {7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22};

  std::size_t pods_, services_;
  std::unordered_map<std::size_t, Node> nodes_;
};

}  // namespace

std::unique_ptr<Script> sync_script(std::size_t parameters) {
  return std::make_unique<SyncScript>(parameters);
}

std::unique_ptr<Script> fleet_script(std::size_t nodes, std::size_t pods) {
  return std::make_unique<FleetScript>(nodes, pods);
}

}  // namespace ballast::bench
