/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_MAPS_BPF_H
#define BALLAST_MAPS_BPF_H

/* Maps that more than one object writes, and the few operations on them. Objects share a map by
 * its pin name. */

#include "bpf/lib/kernel.bpf.h"
#include "bpf/wire/wire.h"

#include <bpf/bpf_helpers.h>

/* Counters are added to by every CPU; the result is never used, so that kernels before 5.12
 * (no fetching atomics) load it. */
#define counter_add(counter, n) ((void)__sync_fetch_and_add(&(counter), (n)))

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BALLAST_LOSS_REASONS);
	__type(key, __u32);
	__type(value, struct ballast_loss_value);
} loss SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_CGROUPS);
	__type(key, __u64);
	__type(value, struct ballast_connection_value);
} connections SEC(".maps");

/* What is kept with every connection. */
struct counted_socket {
	u64 cgroup_id;  /* that `connections` counts it as open for, so that a close is subtracted
			   from nobody else; 0: it is not counted */
	u32 unfollowed; /* enum ballast_loss_reason + 1: why its bytes are not looked at; 0: they
			   are */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct counted_socket);
} tcp_sockets SEC(".maps");

/* Atomic although per CPU: a softirq may come between a process's load and store. */
static __always_inline void count_loss(u32 reason, u64 events, u64 bytes)
{
	struct ballast_loss_value *value = bpf_map_lookup_elem(&loss, &reason);

	if (!value)
		return;
	counter_add(value->events, events);
	/* Adding a constant 0 would be compiled to an atomic OR, which kernels before 5.12 lack. */
	if (bytes)
		counter_add(value->bytes, bytes);
}

/* A value of which the compiler knows nothing, so that the bounds check after it stays, in the
 * shape that the verifier follows. */
#define opaque(x) asm volatile("" : "+r"(x))

/* What a row begins as; too large for the stack. */
static const u64 zeros[BALLAST_MAX_ROW / 8];

/* The row of `key`, made of zeros where there is none. NULL: the map is full, which is counted. */
static __always_inline void *map_row(void *map, const void *key)
{
	void *value = bpf_map_lookup_elem(map, key);

	if (value)
		return value;
	/* Of two CPUs that insert at once, one is refused and finds the other's row. */
	bpf_map_update_elem(map, key, zeros, BPF_NOEXIST);
	value = bpf_map_lookup_elem(map, key);
	if (!value)
		count_loss(BALLAST_LOSS_MAP_FULL, 1, 0);
	return value;
}

static __always_inline struct ballast_connection_value *connection_row(u64 cgroup_id)
{
	return map_row(&connections, &cgroup_id);
}

#endif
