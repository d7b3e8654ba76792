// SPDX-License-Identifier: Apache-2.0
#include "kernel.h"

#include <sys/mman.h>

#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <string_view>

namespace {

using Value = std::unique_ptr<unsigned char[]>;  // of its own, so that AddressSanitizer sees a step outside

std::map<std::pair<const void*, std::string>, Value> values;
std::uint64_t clock_ns = 1;

const kernel_map& map_of(const void* map) {
  const kernel_map* known = kernel_maps;
  while (known->map != nullptr && known->map != map) {
    ++known;
  }
  return *known;
}

// Arrays have all their values from the beginning.
bool is_array(std::string_view name) {
  return name == "loss" || name == "rx_window" || name == "spans" || name == "span_count" ||
         name == "followed";
}

Value& at(const void* map, const std::string& key, bool make) {
  static Value none;
  const auto found = values.find({map, key});
  if (found != values.end() || !make) {
    return found != values.end() ? found->second : none;
  }
  return values[{map, key}] = std::make_unique<unsigned char[]>(map_of(map).value_size);
}

std::string key_of(const void* map, const void* key) {
  return {static_cast<const char*>(key), map_of(map).key_size};
}

}  // namespace

void kernel_reset() {
  values.clear();
}

void kernel_time(std::uint64_t now_ns) {
  clock_ns = now_ns;
}

void* kernel_value(const char* map, const void* key) {
  for (const kernel_map* known = kernel_maps; known->map != nullptr; ++known) {
    if (std::strcmp(known->name, map) == 0) {
      return at(known->map, key_of(known->map, key), is_array(map)).get();
    }
  }
  return nullptr;
}

unsigned char* kernel_memory(std::size_t size) {
  static void* memory =
      ::mmap(nullptr, 1U << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
  return memory == MAP_FAILED || size > (1U << 20) ? nullptr : static_cast<unsigned char*>(memory);
}

extern "C" {

void* bpf_map_lookup_elem(void* map, const void* key) {
  return at(map, key_of(map, key), is_array(map_of(map).name)).get();
}

long bpf_map_update_elem(void* map, const void* key, const void* value, unsigned long long flags) {
  Value& slot = at(map, key_of(map, key), false);
  if (slot != nullptr && flags == 1) {
    return -17;
  }
  std::memcpy(at(map, key_of(map, key), true).get(), value, map_of(map).value_size);
  return 0;
}

long bpf_map_delete_elem(void* map, const void* key) {
  return values.erase({map, key_of(map, key)}) == 1 ? 0 : -2;
}

void* bpf_sk_storage_get(void* map, void* /*sk*/, void* value, unsigned long long flags) {
  Value& slot = at(map, "", false);
  if (slot == nullptr && flags == 1) {
    Value& made = at(map, "", true);
    if (value != nullptr) {
      std::memcpy(made.get(), value, map_of(map).value_size);
    }
    return made.get();
  }
  return slot.get();
}

// The kernel frees it when nobody can have it any more, the program that runs included.
long bpf_sk_storage_delete(void* map, void* /*sk*/) {
  static Value grave;
  const auto found = values.find({map, ""});
  if (found == values.end()) {
    return -2;
  }
  grave = std::move(found->second);
  values.erase(found);
  return 0;
}

unsigned long long bpf_ktime_get_ns() {
  return clock_ns;
}
// Never the same twice in a run, and the same in each run.
unsigned int bpf_get_prandom_u32() {
  static unsigned int last = 1;
  return last = last * 1664525U + 1013904223U;
}
unsigned long long bpf_get_socket_cookie(void* /*skb*/) {
  return 1;
}
struct __sk_buff;
unsigned long long bpf_skb_cgroup_id(__sk_buff* /*skb*/) {
  return 7;
}
unsigned long long bpf_get_current_task() {
  return 0;
}
}
