/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_SPANS_BPF_H
#define BALLAST_SPANS_BPF_H

/* Spans of sampled requests, through slots of which the oldest is overwritten. */

#include "bpf/lib/hpack.h"
#include "bpf/lib/http_socket.bpf.h"

/* 0: no spans. Else one time slice of so many is sampled whole, so that what a request causes on
 * this node is in the sample when the request is. */
const volatile unsigned int span_every = 0; /* no typedef: the skeleton repeats the type */
#define SPAN_SLICE_SHIFT    26              /* 67 ms */
#define SPAN_NO_GRPC_STATUS (17U << 16)     /* above an HTTP status: HPACK_GRPC_UNKNOWN */

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

/* Begins a span of the request whose head begins at `offset` of this packet, which may lie before
 * it: then the head is not kept. `ordinal`: its place on the connection, or its stream. */
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
	sampled->span.inserted = c->call.inserted;
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
	if (sampled)
		span_opened(skb, offset, ordinal, start_ns);
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
