/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_CALLS_BPF_H
#define BALLAST_CALLS_BPF_H

/* Who calls whom: answers by (cgroup of the caller, peer), and the spans of sampled requests.
 * Beside the `requests` rows, which do not depend on them.
 *
 * The peer is the address in the packet that carries the request out, not the one that the
 * application connected to: behind a Service's address it is the pod that was chosen, and both ends
 * of a connection see the same four numbers. */

#include "bpf/lib/spans.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_CALLS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ballast_call_key);
	__type(value, struct ballast_call_value);
} calls SEC(".maps");

/* A request was seen whole enough to be counted; it is the `ordinal`-th of its connection. `offset`
 * is where its head begins in the packet, 0: it began in an earlier one. */
static __always_inline void call_opened(struct __sk_buff *skb, const struct call_socket *call,
					u8 role, bool ingress, u32 offset, u32 ordinal,
					u64 start_ns)
{
	if (span_every || (role == BALLAST_ROLE_CLIENT && !call->known))
		call_began(skb, ingress, offset, ordinal, start_ns);
}

static __always_inline struct ballast_call_value *call_row(u64 cgroup_id, u8 protocol,
							   const struct call_socket *call)
{
	struct ballast_call_key key = {
		.cgroup_id = cgroup_id, .port = call->peer_port, .protocol = protocol};

	__builtin_memcpy(key.peer, call->peer, 16);
	return map_row(&calls, &key);
}

/* The `ordinal`-th request of the connection has its answer (0: it cannot be a sampled one).
 * `start_ns` is 0 when its start was forgotten. */
static __always_inline void call_answered(struct __sk_buff *skb, struct call_socket *call,
					  u64 cgroup_id, u8 role, u8 protocol, u32 ordinal,
					  u64 start_ns, u64 first_ns, u64 now, u32 status)
{
	struct ballast_call_value *row;

	if (ordinal && call->sampled == ordinal) {
		call->sampled = 0;
		span_answered(skb, first_ns, now, status | SPAN_NO_GRPC_STATUS, protocol);
	}
	if (role != BALLAST_ROLE_CLIENT || !call->known)
		return;
	row = call_row(cgroup_id, protocol, call);
	if (!row)
		return;
	if (status >= 500)
		counter_add(row->errors, 1);
	row->last_seen_ns = now;
	if (start_ns && first_ns >= start_ns)
		latency_add(&row->first_byte, first_ns - start_ns);
	else
		counter_add(row->responses, 1);
}

#endif
