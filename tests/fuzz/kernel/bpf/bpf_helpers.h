/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_FUZZ_BPF_HELPERS_H
#define BALLAST_FUZZ_BPF_HELPERS_H

/* Stands in for libbpf's header: the programs of bpf/probes compiled for this machine, with the
 * helpers of kernel.cpp. */

#define SEC(name)
#define __uint(name, value) int(*name)[value]
#define __type(name, value) __typeof__(value)* name
#define __always_inline inline __attribute__((always_inline))
#define __noinline __attribute__((noinline))

struct __sk_buff;
struct bpf_sock;
struct bpf_sock_tuple;
struct bpf_tcp_sock;
struct bpf_spin_lock;
struct tcp_sock;

void* bpf_map_lookup_elem(void* map, const void* key);
long bpf_map_update_elem(void* map, const void* key, const void* value, __u64 flags);
long bpf_map_delete_elem(void* map, const void* key);
void* bpf_sk_storage_get(void* map, void* sk, void* value, __u64 flags);
long bpf_sk_storage_delete(void* map, void* sk);
long bpf_skb_load_bytes(const void* skb, __u32 offset, void* to, __u32 len);
__u64 bpf_ktime_get_ns(void);
__u32 bpf_get_prandom_u32(void);
__u64 bpf_get_socket_cookie(void* skb);
__u64 bpf_skb_cgroup_id(struct __sk_buff* skb);
__u64 bpf_get_current_task(void);
struct bpf_sock* bpf_sk_fullsock(struct bpf_sock* sk);
struct bpf_tcp_sock* bpf_tcp_sock(struct bpf_sock* sk);
struct tcp_sock* bpf_skc_to_tcp_sock(void* sk);
/* The other end is on another machine. */
static inline struct bpf_sock* bpf_sk_lookup_tcp(void* skb, struct bpf_sock_tuple* ends, __u32 size,
                                                 __u64 netns, __u64 flags) {
  return (struct bpf_sock*)0;
}
static inline long bpf_sk_release(void* sk) {
  return 0;
}
static inline __u64 bpf_sk_cgroup_id(void* sk) {
  return 0;
}
static inline long bpf_spin_lock(struct bpf_spin_lock* lock) {
  return 0;
}
static inline long bpf_spin_unlock(struct bpf_spin_lock* lock) {
  return 0;
}

#endif
