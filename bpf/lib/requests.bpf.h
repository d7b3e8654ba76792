/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_REQUESTS_BPF_H
#define BALLAST_REQUESTS_BPF_H

/* The `requests` map: counters and latency histograms by cgroup, role and protocol. */

#include "bpf/lib/maps.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_REQUEST_KEYS);
	__uint(map_flags, BPF_F_NO_PREALLOC); /* 3.7 KB a value: memory only for pods that serve */
	__type(key, struct ballast_request_key);
	__type(value, struct ballast_request_value);
} requests SEC(".maps");

static __always_inline struct ballast_request_value *request_row(u64 cgroup_id, u8 role,
								 u8 protocol)
{
	struct ballast_request_key key = {
		.cgroup_id = cgroup_id, .role = role, .protocol = protocol};

	return map_row(&requests, &key);
}

/* The maximum may lose a race between two CPUs; the histogram does not. */
static __always_inline void latency_add(struct ballast_latency *latency, u64 ns)
{
	u64 bucket;

	/* A 0 that the compiler knows of would be added as an atomic OR: see count_loss(). */
	opaque(ns);
	bucket = ballast_hist_bucket(ns);
	/* 64 bits wide, and checked where it is used: verifiers before 6.8 lose what they know of a
	 * register when its lower half is copied. */
	opaque(bucket);
	if (bucket >= BALLAST_HIST_BUCKETS)
		return;
	counter_add(latency->sum_ns, ns);
	counter_add(latency->buckets[bucket], 1);
	if (ns > latency->max_ns)
		latency->max_ns = ns;
}

#endif
