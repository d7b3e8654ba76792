/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_FOLLOW_BPF_H
#define BALLAST_HTTP_FOLLOW_BPF_H

/* How much is kept with sockets, by cgroup and in all (BALLAST_FOLLOWED_KB in wire.h). */

#include "bpf/lib/coverage.bpf.h"
#include "bpf/lib/http_socket.bpf.h"

/* Whether every close is seen. Where it is not, nothing could be taken off again. */
const volatile bool follow_bounded = true;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ballast_followed_value);
} followed SEC(".maps");

static __always_inline void http_follow_add(u64 cgroup_id, s64 kb)
{
	struct ballast_connection_value *row = connection_row(cgroup_id);
	struct ballast_followed_value *all;
	u32 zero = 0;

	all = bpf_map_lookup_elem(&followed, &zero);
	if (row)
		counter_add(row->followed_kb, kb);
	if (all)
		counter_add(all->kb, kb);
}

/* Room for `kb` more. false: there is none, which is counted. */
static __always_inline bool http_follow(u64 cgroup_id, u32 kb)
{
	struct ballast_connection_value *row = connection_row(cgroup_id);
	struct ballast_followed_value *all;
	u32 zero = 0;

	if (!follow_bounded)
		return true;
	all = bpf_map_lookup_elem(&followed, &zero);
	if (!row || !all)
		return false;
	if (row->followed_kb + kb > BALLAST_FOLLOWED_KB_ONE || all->kb + kb > BALLAST_FOLLOWED_KB) {
		coverage_add(cgroup_id, BALLAST_COVERAGE_REFUSED);
		return false;
	}
	counter_add(row->followed_kb, kb);
	counter_add(all->kb, kb);
	return true;
}

/* The socket is not looked at any more: nothing but a mark is kept. */
static __always_inline void http_unfollow(struct bpf_sock *sk, u32 reason)
{
	struct counted_socket *mark;

	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (mark)
		mark->unfollowed = reason + 1;
}

#endif
