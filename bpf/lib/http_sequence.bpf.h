/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_SEQUENCE_BPF_H
#define BALLAST_HTTP_SEQUENCE_BPF_H

/* Segments by their sequence numbers: late ones, overlaps, holes and what is behind them, bytes
 * that never come. */

#include "bpf/lib/protocols.bpf.h"

/* A sequence number further off than any window (RFC 7323) is not a gap but another story. */
#define HTTP_MAX_GAP    (1 << 30)
#define HTTP_TURN_TRIES 1024

/* Bytes that will not be seen. */
__noinline int http_gap(struct __sk_buff *skb, u32 gap, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);

	if (c)
		protocol_gap(skb, c, ingress, gap);
	return 0;
}

/* TCP has not had the bytes from `seq` on either: they are still to come. */
static __always_inline bool http_awaited(struct __sk_buff *skb, u32 seq)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp = sk ? bpf_tcp_sock(sk) : NULL;

	return tcp && (s32)(tcp->rcv_nxt - seq) <= 0;
}

/* The first segment that comes may not be the first that was sent: TCP knows which that is. */
static __always_inline void http_expect(struct __sk_buff *skb, struct http_direction *d)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp = sk ? bpf_tcp_sock(sk) : NULL;

	if (!tcp)
		return;
	d->next_seq = tcp->rcv_nxt;
	d->has_seq = 1;
}

/* A segment that is not the next one. Gives the bytes at its front to leave out, all of them when
 * there is nothing in it for us. */
__noinline int http_out_of_order(struct __sk_buff *skb, u32 seq, u32 len, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_direction *d;
	u32 end = seq + len;
	s32 ahead;

	if (!c)
		return (int)len;
	d = ingress ? &c->rx : &c->tx;
	if (ingress && !d->has_seq)
		http_expect(skb, d);
	ahead = (s32)(seq - d->next_seq);
	if (!d->has_seq || ahead > HTTP_MAX_GAP || ahead < -HTTP_MAX_GAP) {
		if (d->has_seq)
			http_gap(skb, 1, ingress);
		d->has_seq = 1;
		d->holed = 0;
		d->next_seq = end;
		return 0;
	}
	if ((s32)(end - d->next_seq) <= 0)
		return (int)len;
	if (ahead > 0 && ingress && !protocol_gap_harmless(skb, c, ingress, (u32)ahead) &&
	    http_awaited(skb, d->next_seq)) {
		if (!d->holed || (s32)(seq - d->hole_end) < 0)
			d->hole_end = seq;
		if (!d->holed || (s32)(end - d->ahead_seq) > 0)
			d->ahead_seq = end;
		d->holed = 1;
		return (int)len;
	}
	d->next_seq = end;
	if (ahead <= 0)
		return -ahead;
	d->holed = 0;
	http_gap(skb, (u32)ahead, ingress);
	return 0;
}

/* A segment that comes ahead of another one which the other CPU is about to bring: waits for that,
 * some microseconds at most. */
__noinline int http_turn(struct __sk_buff *skb, u32 seq)
{
	struct http_socket *c = http_socket_of(skb);
	u32 i;

	if (!c)
		return 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_TURN_TRIES; i++) {
		if ((s32)(seq - *(volatile u32 *)&c->rx.next_seq) <= 0)
			break;
	}
	return 0;
}

/* After a segment was parsed: when the hole is filled, on with what came ahead of it, whose bytes
 * nobody has any more. */
__noinline int http_hole(struct __sk_buff *skb)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_direction *d;
	u32 ahead;

	if (!c)
		return 0;
	d = &c->rx;
	ahead = d->ahead_seq - d->next_seq;
	if ((s32)(d->next_seq - d->hole_end) < 0)
		return 0;
	d->holed = 0;
	if ((s32)ahead <= 0)
		return 0;
	d->next_seq = d->ahead_seq;
	http_gap(skb, ahead, true);
	return 0;
}

#endif
