/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_SPANS_BPF_H
#define BALLAST_SPANS_BPF_H

/* Spans of sampled requests, through slots of which the oldest is overwritten. */

#include "bpf/lib/http_socket.bpf.h"

/* The one request of a connection that is being sampled. */
struct span_socket {
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

/* Begins a span of the request whose head begins at `offset` of this packet. */
__noinline int span_opened(struct __sk_buff *skb, u32 offset, u32 ordinal, u64 start_ns)
{
	struct bpf_sock *sk = skb->sk;
	struct span_socket *sampled;
	struct http_socket *c;
	struct segment seg;
	u32 n;

	if (!sk || offset >= skb->len || !segment_read(skb, &seg))
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c || !sampled)
		return 0;
	n = skb->len - offset;
	/* The verifier learns that 1 <= n <= BALLAST_SPAN_HEAD. */
	if (n > BALLAST_SPAN_HEAD)
		n = BALLAST_SPAN_HEAD;
	n -= 1;
	opaque(n);
	n &= BALLAST_SPAN_HEAD - 1;
	n += 1;
	c->call.sampled = 0;
	if (bpf_skb_load_bytes(skb, offset, sampled->span.head, n) < 0)
		return 0;
	sampled->span.head_len = (u16)n;
	sampled->span.cgroup_id = c->cgroup_id;
	sampled->span.start_ns = start_ns;
	sampled->span.seq = seg.seq + (offset - seg.offset);
	sampled->span.role = c->role;
	__builtin_memcpy(sampled->span.local, c->call.local, 16);
	__builtin_memcpy(sampled->span.peer, c->call.peer, 16);
	sampled->span.local_port = c->call.local_port;
	sampled->span.peer_port = c->call.peer_port;
	c->call.sampled = ordinal;
	return 0;
}

/* A request that is sampled, or the first of a connection whose ends are not known yet. */
__noinline int call_began(struct __sk_buff *skb, u32 ingress, u32 offset, u32 ordinal, u64 start_ns)
{
	bool sampled = span_every && offset && (start_ns >> SPAN_SLICE_SHIFT) % span_every == 0;
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	c = sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
	if (!c || (c->role != BALLAST_ROLE_CLIENT && !sampled))
		return 0;
	if (!c->call.known)
		call_addresses(skb, &c->call, ingress);
	if (c->call.known && sampled)
		span_opened(skb, offset, ordinal, start_ns);
	return 0;
}

/* Publishes the connection's finished span in the next slot of this CPU. The reader tells by the
 * sequence what was overwritten before it came. */
__noinline int span_answered(struct __sk_buff *skb, u64 first_ns, u64 now, u32 status, u32 protocol)
{
	struct bpf_sock *sk = skb->sk;
	struct ballast_span_value *slot;
	struct span_socket *sampled;
	u32 zero = 0, place;
	u64 *count;

	if (!sk)
		return 0;
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, 0);
	count = bpf_map_lookup_elem(&span_count, &zero);
	if (!sampled || !count)
		return 0;
	place = (u32)*count & (BALLAST_SPAN_SLOTS - 1);
	slot = bpf_map_lookup_elem(&spans, &place);
	if (!slot)
		return 0;
	*count += 1;
	sampled->span.sequence = *count;
	sampled->span.first_byte_ns = first_ns;
	sampled->span.end_ns = now;
	sampled->span.status = (u16)status;
	sampled->span.protocol = (u8)protocol;
	__builtin_memcpy(slot, &sampled->span, sizeof(*slot));
	return 0;
}

#endif
