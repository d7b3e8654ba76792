/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_SPANS_BPF_H
#define BALLAST_SPANS_BPF_H

/* Spans of sampled requests, through slots of which the oldest is overwritten. */

#include "bpf/lib/http2.bpf.h"
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

/* Begins a span of the request whose head begins at `offset` of this packet, which may lie before
 * it: then the head is not kept. `ordinal`: its place on the connection, or its stream. 1: a
 * stream. */
__noinline int span_opened(struct __sk_buff *skb, u32 offset, u32 ordinal, u64 start_ns)
{
	struct bpf_sock *sk = skb->sk;
	struct span_socket *sampled;
	struct http_socket *c;
	struct segment seg;
	u32 n;

	if (!sk || !segment_read(skb, &seg))
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c || !sampled || !c->call.known)
		return 0;
	/* Of many streams the first is followed to its end, unless that does not come. */
	if (c->mode == HTTP_MODE_2 && c->call.sampled &&
	    sampled->span.start_ns >> SPAN_SLICE_SHIFT == start_ns >> SPAN_SLICE_SHIFT)
		return 0;
	c->call.sampled = 0;
	sampled->span.head_len = 0;
	n = skb->len - offset;
	/* The verifier learns that 1 <= n <= BALLAST_SPAN_HEAD. */
	if (n > BALLAST_SPAN_HEAD)
		n = BALLAST_SPAN_HEAD;
	n -= 1;
	opaque(n);
	n &= BALLAST_SPAN_HEAD - 1;
	n += 1;
	if (offset >= seg.offset && offset < skb->len &&
	    bpf_skb_load_bytes(skb, offset, sampled->span.head, n) >= 0)
		sampled->span.head_len = (u16)n;
	sampled->span.inserted = 0;
	sampled->span.first_byte_ns = 0;
	sampled->span.grpc_status = HPACK_GRPC_UNKNOWN;
	sampled->span.cgroup_id = c->cgroup_id;
	sampled->span.start_ns = start_ns;
	sampled->span.seq = seg.seq + (offset - seg.offset);
	sampled->span.role = c->role;
	__builtin_memcpy(sampled->span.local, c->call.local, 16);
	__builtin_memcpy(sampled->span.peer, c->call.peer, 16);
	sampled->span.local_port = c->call.local_port;
	sampled->span.peer_port = c->call.peer_port;
	c->call.sampled = ordinal;
	return c->mode == HTTP_MODE_2;
}

/* HTTP/2: what the indices of the head that span_opened() kept count from. */
__noinline int span_table(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct span_socket *sampled;
	struct http2_socket *h;
	struct http_socket *c;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, 0);
	if (!c || !h || !sampled)
		return 0;
	sampled->span.inserted =
		http_carries_requests(c, true) ? h->rx.fields.before : h->tx.fields.before;
	return 0;
}

__noinline int call_learn(struct __sk_buff *skb, u32 ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	c = sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
	if (c && !c->call.known)
		call_addresses(skb, &c->call, ingress);
	return 0;
}

/* A request that is sampled, or the first of a connection whose ends are not known yet. Each step
 * is a function of its own: Linux 5.10 adds up the stacks of a chain of calls, of which 512 bytes
 * are allowed, and this chain is the longest. */
__noinline int call_began(struct __sk_buff *skb, u32 ingress, u32 offset, u32 ordinal, u64 start_ns)
{
	bool sampled = span_every && offset && (start_ns >> SPAN_SLICE_SHIFT) % span_every == 0;
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	c = sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
	if (!c || (c->role != BALLAST_ROLE_CLIENT && !sampled))
		return 0;
	call_learn(skb, ingress);
	if (!sampled)
		return 0;
	if (span_opened(skb, offset, ordinal, start_ns))
		span_table(skb);
	return 0;
}

/* HTTP/2: the first byte of the stream's answer, whose end comes later. */
__noinline int span_first_byte(struct __sk_buff *skb, u32 stream, u64 first_ns)
{
	struct bpf_sock *sk = skb->sk;
	struct span_socket *sampled;
	struct http_socket *c;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	sampled = bpf_sk_storage_get(&span_sockets, sk, NULL, 0);
	if (c && sampled && c->call.sampled == stream)
		sampled->span.first_byte_ns = first_ns;
	return 0;
}

/* Publishes the connection's finished span in the next slot of this CPU. The reader tells by the
 * sequence what was overwritten before it came. `status` has gRPC's in its upper half; `first_ns`
 * is 0 where span_first_byte() told it. */
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
	if (first_ns)
		sampled->span.first_byte_ns = first_ns;
	sampled->span.end_ns = now;
	sampled->span.status = (u16)status;
	sampled->span.grpc_status = (u16)(status >> 16);
	sampled->span.protocol = (u8)protocol;
	__builtin_memcpy(slot, &sampled->span, sizeof(*slot));
	return 0;
}

/* HTTP/2: the stream's answer is complete. */
__noinline int span_stream_answered(struct __sk_buff *skb, u32 stream, u64 now, u32 status,
				    u32 protocol)
{
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	c = sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
	if (!c || c->call.sampled != stream)
		return 0;
	c->call.sampled = 0;
	return span_answered(skb, 0, now, status, protocol);
}

#endif
