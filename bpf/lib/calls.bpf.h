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
#define SPAN_SLICE_SHIFT 26                 /* 67 ms */

/* Both ends of a connection, as its packets tell them. */
struct call_socket {
	u8 local[16];
	u8 peer[16];
	u16 local_port;
	u16 peer_port;
	u8 known;
	u8 pad[3];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct call_socket);
} call_sockets SEC(".maps");

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

/* The one request of a connection that is being sampled. */
struct span_socket {
	u32 ordinal; /* of the request on its connection, from 1; 0: none */
	u32 pad;
	struct ballast_span_value span;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct span_socket);
} span_sockets SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, BALLAST_SPAN_SLOTS);
	__type(key, __u32);
	__type(value, struct ballast_span_value);
} spans SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, __u64);
} span_count SEC(".maps");

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

static __always_inline struct call_socket *call_socket_of(struct __sk_buff *skb, bool ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct call_socket *call;

	if (!sk)
		return NULL;
	call = bpf_sk_storage_get(&call_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (call && !call->known)
		call_addresses(skb, call, ingress);
	return call && call->known ? call : NULL;
}

/* Begins a span of the request whose head begins at `offset` of this packet. */
static __always_inline void span_opened(struct __sk_buff *skb, const struct call_socket *call,
					u64 cgroup_id, u8 role, bool ingress, u32 offset,
					u32 ordinal, u64 start_ns)
{
	struct bpf_sock *sk = skb->sk;
	struct span_socket *sampled;
	struct segment seg;
	u32 n = skb->len - offset;

	if (!sk || !segment_read(skb, &seg))
		return;
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!sampled)
		return;
	/* The verifier learns that 1 <= n <= BALLAST_SPAN_HEAD. */
	if (n > BALLAST_SPAN_HEAD)
		n = BALLAST_SPAN_HEAD;
	n -= 1;
	opaque(n);
	n &= BALLAST_SPAN_HEAD - 1;
	n += 1;
	sampled->ordinal = 0;
	if (bpf_skb_load_bytes(skb, offset, sampled->span.head, n) < 0)
		return;
	sampled->span.head_len = (u16)n;
	sampled->span.cgroup_id = cgroup_id;
	sampled->span.start_ns = start_ns;
	sampled->span.seq = seg.seq + (offset - seg.offset);
	sampled->span.role = role;
	__builtin_memcpy(sampled->span.local, call->local, 16);
	__builtin_memcpy(sampled->span.peer, call->peer, 16);
	sampled->span.local_port = call->local_port;
	sampled->span.peer_port = call->peer_port;
	sampled->ordinal = ordinal;
}

/* A request was seen whole enough to be counted; it is the `ordinal`-th of its connection. `offset`
 * is where its head begins in the packet, 0: it began in an earlier one. */
static __always_inline void call_opened(struct __sk_buff *skb, u64 cgroup_id, u8 role, bool ingress,
					u32 offset, u32 ordinal, u64 start_ns)
{
	bool sampled = span_every && offset && (start_ns >> SPAN_SLICE_SHIFT) % span_every == 0;
	struct call_socket *call;

	if (role != BALLAST_ROLE_CLIENT && !sampled)
		return;
	call = call_socket_of(skb, ingress);
	if (call && sampled)
		span_opened(skb, call, cgroup_id, role, ingress, offset, ordinal, start_ns);
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

/* Publishes a finished span in the next slot of this CPU. The reader tells by the sequence what was
 * overwritten before it came. */
static __always_inline void span_answered(struct span_socket *sampled, u64 first_ns, u64 now,
					  u32 status, u8 protocol)
{
	struct ballast_span_value *slot;
	u32 zero = 0, place;
	u64 *count;

	sampled->ordinal = 0;
	count = bpf_map_lookup_elem(&span_count, &zero);
	if (!count)
		return;
	place = (u32)*count & (BALLAST_SPAN_SLOTS - 1);
	slot = bpf_map_lookup_elem(&spans, &place);
	if (!slot)
		return;
	*count += 1;
	sampled->span.sequence = *count;
	sampled->span.first_byte_ns = first_ns;
	sampled->span.end_ns = now;
	sampled->span.status = (u16)status;
	sampled->span.protocol = protocol;
	__builtin_memcpy(slot, &sampled->span, sizeof(*slot));
}

/* The `ordinal`-th request of the connection has its answer (0: it cannot be a sampled one).
 * `start_ns` is 0 when its start was forgotten. */
static __always_inline void call_answered(struct __sk_buff *skb, u64 cgroup_id, u8 role,
					  u8 protocol, u32 ordinal, u64 start_ns, u64 first_ns,
					  u64 now, u32 status)
{
	struct bpf_sock *sk = skb->sk;
	struct ballast_call_value *row;
	struct span_socket *sampled;
	struct call_socket *call;

	if (!sk)
		return;
	if (span_every && ordinal) {
		sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, 0);
		if (sampled && sampled->ordinal == ordinal)
			span_answered(sampled, first_ns, now, status, protocol);
	}
	if (role != BALLAST_ROLE_CLIENT)
		return;
	call = bpf_sk_storage_get(&call_sockets, sk, NULL, 0);
	row = call ? call_row(cgroup_id, protocol, call) : NULL;
	if (!row)
		return;
	counter_add(row->responses, 1);
	if (status >= 500)
		counter_add(row->errors, 1);
	row->last_seen_ns = now;
	if (start_ns && first_ns >= start_ns)
		latency_add(&row->first_byte, first_ns - start_ns);
}

#endif
