/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_KERNEL_BPF_H
#define BALLAST_KERNEL_BPF_H

/* The few kernel types that the programs touch, written by hand: only the members used, at
 * offsets that libbpf takes from the running kernel's BTF (CO-RE). */

typedef unsigned char __u8;
typedef unsigned short __u16;
typedef unsigned int __u32;
typedef unsigned long long __u64;
typedef signed char __s8;
typedef short __s16;
typedef int __s32;
typedef long long __s64;
typedef __u16 __be16;
typedef __u32 __be32;
typedef __u64 __be64;
typedef __u32 __wsum;
typedef __u8 u8;
typedef __u16 u16;
typedef __u32 u32;
typedef __u64 u64;
typedef __s32 s32;
typedef __s64 s64;
typedef _Bool bool;
#define true 1
#define false 0
#define NULL ((void *)0)

enum {
	BPF_MAP_TYPE_HASH = 1,
	BPF_MAP_TYPE_ARRAY = 2,
	BPF_MAP_TYPE_PERCPU_ARRAY = 6,
	BPF_MAP_TYPE_LRU_HASH = 9,
	BPF_MAP_TYPE_SK_STORAGE = 24,
};
enum { BPF_ANY = 0, BPF_NOEXIST = 1 };
enum { BPF_F_NO_PREALLOC = 1 };
enum { BPF_SK_STORAGE_GET_F_CREATE = 1 };
#define BPF_F_CURRENT_NETNS (-1L)

#define ETH_P_IP        0x0800
#define ETH_P_IPV6      0x86dd
#define IPPROTO_HOPOPTS 0
#define IPPROTO_TCP     6
#define AF_INET6        10

enum { /* net/tcp_states.h; UAPI by way of BPF_TCP_* */
       TCP_ESTABLISHED = 1,
       TCP_SYN_SENT = 2,
       TCP_SYN_RECV = 3,
       TCP_CLOSE = 7,
       TCP_LISTEN = 10,
       TCP_NEW_SYN_RECV = 12,
};

/* Part of a map's value, so of our own layout. */
struct bpf_spin_lock {
	__u32 val;
};

/* As linux/bpf.h has it. Addresses and ports in network byte order. */
struct bpf_sock_tuple {
	union {
		struct {
			__u32 saddr;
			__u32 daddr;
			__u16 sport;
			__u16 dport;
		} ipv4;
		struct {
			__u32 saddr[4];
			__u32 daddr[4];
			__u16 sport;
			__u16 dport;
		} ipv6;
	};
};

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct bpf_sock {
	__u32 src_port; /* host byte order */
	__u32 state;
};

struct bpf_tcp_sock {
	__u64 bytes_received;
	__u64 bytes_acked;
	__u32 rcv_nxt;
};

struct __sk_buff {
	__u32 len;
	__u32 protocol;
	__u32 data;
	__u32 data_end;
	__u64 tstamp;
	struct bpf_sock *sk;
};

struct kernfs_node {
	__u64 id;
};

struct cgroup {
	struct kernfs_node *kn;
};

struct css_set {
	struct cgroup *dfl_cgrp;
};

struct task_struct {
	int pid;
	int wake_cpu; /* set with the task's CPU by __set_task_cpu() */
	unsigned int __state;
	struct css_set *cgroups;
};

/* Before 2f064a59a11f (5.14, "sched: Change task_struct::state"). */
struct task_struct___before_5_14 {
	volatile long state;
};

struct sock_cgroup_data {
	struct cgroup *cgroup;
};

/* Before 8520e224f547 (5.15, "bpf, cgroups: Fix cgroup v2 fallback on v1/v2 mixed mode"): the
 * word is a pointer unless its lowest bit says that it is v1 data. */
struct sock_cgroup_data___before_5_15 {
	__u64 val;
};

struct in6_addr {
	union {
		__u32 u6_addr32[4];
	} in6_u;
};

struct sock_common {
	__u32 skc_daddr;
	__u16 skc_dport; /* network byte order */
	__u16 skc_num;   /* host byte order */
	unsigned short skc_family;
	struct in6_addr skc_v6_daddr;
};

typedef struct {
	int owned; /* by a process, which then is the one that runs */
} socket_lock_t;

struct sock {
	struct sock_common __sk_common;
	socket_lock_t sk_lock;
	__u16 sk_protocol;
	struct sock_cgroup_data sk_cgrp_data;
};

struct tcp_sock {
	__u32 srtt_us; /* smoothed round trip, in 1/8 us */
	__u32 rcv_nxt;
};

#pragma clang attribute pop

#endif
