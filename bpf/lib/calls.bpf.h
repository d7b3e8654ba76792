/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_CALLS_BPF_H
#define BALLAST_CALLS_BPF_H

/* Who calls whom: answers by (cgroup of the caller, peer), and the spans of sampled requests.
 * Beside the `requests` rows, which do not depend on them.
 *
 * The peer is the address in the packet that carries the request out, not the one that the
 * application connected to: behind a Service's address it is the pod that was chosen, and both ends
 * of a connection see the same four numbers. */

#include "bpf/lib/maps.bpf.h"
#include "bpf/lib/packet.bpf.h"
#include "bpf/lib/requests.bpf.h"

/* 0: no spans. Else one time slice of so many is sampled whole, so that what a request causes on
 * this node is in the sample when the request is. */
const volatile unsigned int span_every = 0; /* no typedef: the skeleton repeats the type */
#define SPAN_SLICE_SHIFT    26              /* 67 ms */
#define SPAN_NO_GRPC_STATUS (17U << 16)     /* above an HTTP status: HPACK_GRPC_UNKNOWN */

/* Both ends of a connection, as its packets tell them, and what of it is sampled. */
struct call_socket {
	u8 local[16];
	u8 peer[16];
	u16 local_port;
	u16 peer_port;
	u8 known;
	u8 pad[3];
	u32 sampled; /* the request in `span_sockets`, by its place on the connection; 0: none */
};

/* spans.bpf.h. Functions of their own: they are rare, the stack is short, and the verifier does not
 * walk the rest of the packet's way once for each of their outcomes. */
int call_began(struct __sk_buff *skb, u32 ingress, u32 offset, u32 ordinal, u64 start_ns);
int span_first_byte(struct __sk_buff *skb, u32 stream, u64 first_ns);
int span_stream_answered(struct __sk_buff *skb, u32 stream, u64 now, u32 status, u32 protocol);
int span_answered(struct __sk_buff *skb, u64 first_ns, u64 now, u32 status, u32 protocol);

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_CALLS);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ballast_call_key);
	__type(value, struct ballast_call_value);
} calls SEC(".maps");

/* Zeros to insert; too large for the stack. Never written. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ballast_call_value);
} no_calls SEC(".maps");

/* v4 addresses as v4-mapped v6 ones. */
static __always_inline void call_addresses(struct __sk_buff *skb, struct call_socket *call,
					   bool ingress)
{
	u8 *source = ingress ? call->peer : call->local;
	u8 *target = ingress ? call->local : call->peer;
	u8 ports[4];
	u32 ip_len;

	ip_len = ip_header_len(skb, (const u8 *)(unsigned long)skb->data,
			       (const u8 *)(unsigned long)skb->data_end);
	if (!ip_len || bpf_skb_load_bytes(skb, ip_len, ports, sizeof(ports)) < 0)
		return;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		source[10] = source[11] = target[10] = target[11] = 0xff;
		if (bpf_skb_load_bytes(skb, 12, source + 12, 4) < 0 ||
		    bpf_skb_load_bytes(skb, 16, target + 12, 4) < 0)
			return;
	} else if (bpf_skb_load_bytes(skb, 8, source, 16) < 0 ||
		   bpf_skb_load_bytes(skb, 24, target, 16) < 0) {
		return;
	}
	if (ingress) {
		call->peer_port = (u16)(ports[0] << 8 | ports[1]);
		call->local_port = (u16)(ports[2] << 8 | ports[3]);
	} else {
		call->local_port = (u16)(ports[0] << 8 | ports[1]);
		call->peer_port = (u16)(ports[2] << 8 | ports[3]);
	}
	call->known = 1;
}

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
	struct ballast_call_value *value;
	u32 zero = 0;

	__builtin_memcpy(key.peer, call->peer, 16);
	value = bpf_map_lookup_elem(&calls, &key);
	if (value)
		return value;
	value = bpf_map_lookup_elem(&no_calls, &zero);
	if (!value)
		return NULL;
	bpf_map_update_elem(&calls, &key, value, BPF_NOEXIST);
	value = bpf_map_lookup_elem(&calls, &key);
	if (!value)
		count_loss(BALLAST_LOSS_MAP_FULL, 1, 0);
	return value;
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
