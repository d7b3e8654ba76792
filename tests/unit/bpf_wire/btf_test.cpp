// SPDX-License-Identifier: Apache-2.0
// The layout that clang gave the BPF objects against the one that this compiler gives us: every
// struct of bpf/wire, its size and each member's offset and size.
#include <bpf/btf.h>
#include <gtest/gtest.h>

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "bpf/wire/wire.h"

namespace {

struct BtfDeleter {
  void operator()(btf* types) const { ::btf__free(types); }
};
using BtfPtr = std::unique_ptr<btf, BtfDeleter>;

struct Member {
  const char* name;
  std::size_t offset;
  std::size_t size;
};

#define MEMBER(type, name) \
  { #name, offsetof(type, name), sizeof(type::name) }

void expect_layout(const char* object, const char* type, std::size_t size,
                   const std::vector<Member>& members) {
  const std::string path = std::string(BALLAST_BPF_OBJECTS) + "/" + object;
  const BtfPtr types(::btf__parse_elf(path.c_str(), nullptr));
  ASSERT_NE(types, nullptr) << path;
  const int id = ::btf__find_by_name_kind(types.get(), type, BTF_KIND_STRUCT);
  ASSERT_GT(id, 0) << type << " is not in " << path;
  const btf_type* layout = ::btf__type_by_id(types.get(), static_cast<__u32>(id));
  EXPECT_EQ(layout->size, size) << type;
  const auto count = static_cast<std::size_t>(BTF_INFO_VLEN(layout->info));
  ASSERT_EQ(count, members.size()) << type << ": this test does not know all of its members";
  const auto* all = reinterpret_cast<const btf_member*>(layout + 1);
  for (std::size_t i = 0; i < count; ++i) {
    EXPECT_STREQ(::btf__name_by_offset(types.get(), all[i].name_off), members[i].name) << type;
    EXPECT_EQ(::btf_member_bit_offset(layout, static_cast<__u32>(i)), members[i].offset * 8)
        << type << "." << members[i].name;
    EXPECT_EQ(::btf__resolve_size(types.get(), all[i].type), static_cast<__s64>(members[i].size))
        << type << "." << members[i].name;
  }
}

TEST(Btf, Requests) {
  using Key = ballast_request_key;
  expect_layout("http.bpf.o", "ballast_request_key", sizeof(Key),
                {MEMBER(Key, cgroup_id), MEMBER(Key, role), MEMBER(Key, protocol), MEMBER(Key, pad)});
  using Value = ballast_request_value;
  expect_layout(
      "http.bpf.o", "ballast_request_value", sizeof(Value),
      {MEMBER(Value, requests), MEMBER(Value, responses), MEMBER(Value, in_flight), MEMBER(Value, status),
       MEMBER(Value, grpc_status), MEMBER(Value, abandoned), MEMBER(Value, no_answer), MEMBER(Value, moved),
       MEMBER(Value, last_seen_ns), MEMBER(Value, first_byte), MEMBER(Value, last_byte)});
  using Latency = ballast_latency;
  expect_layout(
      "http.bpf.o", "ballast_latency", sizeof(Latency),
      {MEMBER(Latency, count), MEMBER(Latency, sum_ns), MEMBER(Latency, max_ns), MEMBER(Latency, buckets)});
}

TEST(Btf, Coverage) {
  using Key = ballast_coverage_key;
  expect_layout("http.bpf.o", "ballast_coverage_key", sizeof(Key),
                {MEMBER(Key, cgroup_id), MEMBER(Key, kind), MEMBER(Key, pad)});
  using Value = ballast_coverage_value;
  expect_layout("http.bpf.o", "ballast_coverage_value", sizeof(Value),
                {MEMBER(Value, events), MEMBER(Value, last_seen_ns)});
}

TEST(Btf, Calls) {
  using Key = ballast_call_key;
  expect_layout("http.bpf.o", "ballast_call_key", sizeof(Key),
                {MEMBER(Key, cgroup_id), MEMBER(Key, peer), MEMBER(Key, port), MEMBER(Key, protocol),
                 MEMBER(Key, pad)});
  using Value = ballast_call_value;
  expect_layout("http.bpf.o", "ballast_call_value", sizeof(Value),
                {MEMBER(Value, responses), MEMBER(Value, errors), MEMBER(Value, last_seen_ns),
                 MEMBER(Value, first_byte)});
  using Span = ballast_span_value;
  expect_layout("http.bpf.o", "ballast_span_value", sizeof(Span),
                {MEMBER(Span, sequence), MEMBER(Span, cgroup_id), MEMBER(Span, start_ns),
                 MEMBER(Span, first_byte_ns), MEMBER(Span, end_ns), MEMBER(Span, local), MEMBER(Span, peer),
                 MEMBER(Span, local_port), MEMBER(Span, peer_port), MEMBER(Span, seq), MEMBER(Span, status),
                 MEMBER(Span, role), MEMBER(Span, protocol), MEMBER(Span, head_len),
                 MEMBER(Span, grpc_status), MEMBER(Span, inserted), MEMBER(Span, pad), MEMBER(Span, head)});
}

TEST(Btf, Connections) {
  using Value = ballast_connection_value;
  for (const char* object : {"http.bpf.o", "tcp.bpf.o"}) {
    expect_layout(object, "ballast_connection_value", sizeof(Value),
                  {MEMBER(Value, open), MEMBER(Value, accepted), MEMBER(Value, connected),
                   MEMBER(Value, closed), MEMBER(Value, adopted), MEMBER(Value, retransmits),
                   MEMBER(Value, srtt_us_sum), MEMBER(Value, followed_kb)});
  }
}

TEST(Btf, Cpu) {
  using Value = ballast_cpu_value;
  expect_layout("cpu.bpf.o", "ballast_cpu_value", sizeof(Value),
                {MEMBER(Value, on_cpu_ns), MEMBER(Value, wait_ns), MEMBER(Value, self_wait_ns),
                 MEMBER(Value, switches)});
  using Running = ballast_running_value;
  expect_layout("cpu.bpf.o", "ballast_running_value", sizeof(Running),
                {MEMBER(Running, since_ns), MEMBER(Running, cgroup_id), MEMBER(Running, pad)});
}

TEST(Btf, LossAndControl) {
  using Loss = ballast_loss_value;
  using Control = ballast_control_value;
  for (const char* object : {"http.bpf.o", "tcp.bpf.o", "cpu.bpf.o"}) {
    expect_layout(object, "ballast_loss_value", sizeof(Loss), {MEMBER(Loss, events), MEMBER(Loss, bytes)});
  }
  for (const char* object : {"tcp.bpf.o", "cpu.bpf.o"}) {
    expect_layout(object, "ballast_control_value", sizeof(Control),
                  {MEMBER(Control, generation), MEMBER(Control, pad)});
  }
}

// Both objects keep their own copy of what they share by pin name.
TEST(Btf, TheSharedMarkIsOneType) {
  struct Mark {
    std::uint64_t cgroup_id;
    std::uint32_t unfollowed;
    std::uint32_t pad;
  };
  for (const char* object : {"http.bpf.o", "tcp.bpf.o"}) {
    expect_layout(object, "counted_socket", sizeof(Mark),
                  {MEMBER(Mark, cgroup_id), MEMBER(Mark, unfollowed), MEMBER(Mark, pad)});
  }
}

}  // namespace
