/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_SEQUENCE_BPF_H
#define BALLAST_HTTP_SEQUENCE_BPF_H

/* Segments by their sequence numbers: late ones, overlaps, holes and what is behind them, bytes
 * that never come.
 *
 * Two CPUs may hold a connection's segments at once, and a network may have two ways, so that one
 * may be overtaken by many. HTTP/2 has many small ones, of which none can be read over a hole: what
 * came ahead of it is kept, in pieces, and read when the hole is filled. */

#include "bpf/lib/protocols.bpf.h"

/* A sequence number further off than any window (RFC 7323) is not a gap but another story. */
#define HTTP_MAX_GAP    (1 << 30)
#define HTTP_TURN_TRIES 1024
/* Pieces of a segment that are kept, and those that are read after one hole. */
#define HTTP_KEPT_PIECES 8
#define HTTP_KEPT_READ   1024

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

/* Keeps the segment. 1: all of it. */
__noinline int http_keep(struct __sk_buff *skb, u32 seq, u32 len)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_piece_key key = {.seq = seq};
	struct http_piece *piece;
	u32 offset = skb->len - len;
	u32 zero = 0;
	u32 i;

	piece = bpf_map_lookup_elem(&rx_window, &zero);
	if (!piece || !c || c->early || c->mode == HTTP_MODE_1 ||
	    len > HTTP_KEPT_PIECES * HTTP1_WINDOW)
		return 0;
	key.socket = bpf_get_socket_cookie(skb);
	piece->came_ns = bpf_ktime_get_ns();
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_KEPT_PIECES && offset < skb->len; i++) {
		if (!http_load_window(skb, &piece->window, offset, skb->len - offset) ||
		    bpf_map_update_elem(&http_kept, &key, piece, BPF_ANY))
			return 0;
		offset += piece->window.end;
		key.seq += piece->window.end;
	}
	return offset >= skb->len;
}

static __always_inline bool http_keeps(struct __sk_buff *skb, u32 seq)
{
	struct http_piece_key key = {.socket = bpf_get_socket_cookie(skb), .seq = seq};

	return bpf_map_lookup_elem(&http_kept, &key);
}

/* Takes the piece that was kept of what is next, for http2_packet_rx(). 0: there is none. */
__noinline int http_take_kept(struct __sk_buff *skb)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_piece_key key = {};
	struct http_piece *piece, *kept;
	u32 zero = 0;

	piece = bpf_map_lookup_elem(&rx_window, &zero);
	if (!c || !piece || c->mode == HTTP_MODE_1)
		return 0;
	key.socket = bpf_get_socket_cookie(skb);
	key.seq = c->rx.next_seq;
	kept = bpf_map_lookup_elem(&http_kept, &key);
	if (!kept)
		return 0;
	__builtin_memcpy(piece, kept, sizeof(*piece));
	bpf_map_delete_elem(&http_kept, &key);
	c->rx.next_seq += piece->window.end;
	return 1;
}

/* Reads what was kept, as far as there is no hole. Not in a function of its own: Linux 5.10 adds up
 * the stacks of a chain of calls. */
static __always_inline void http_read_kept(struct __sk_buff *skb)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_KEPT_READ; i++) {
		if (!http_take_kept(skb))
			break;
		http2_packet_rx(skb, HTTP_KEPT, true);
	}
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
	    (http_awaited(skb, d->next_seq) || http_keeps(skb, d->next_seq))) {
		if (!d->holed)
			d->unkept = 0;
		if (!d->holed || (s32)(seq - d->hole_end) < 0)
			d->hole_end = seq;
		if (!http_awaited(skb, d->next_seq)) /* of a CPU that did not get its turn */
			d->hole_end = d->next_seq;
		if (!d->holed || (s32)(end - d->ahead_seq) > 0)
			d->ahead_seq = end;
		d->holed = 1;
		if (!http_keep(skb, seq, len))
			d->unkept = 1;
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

/* After a segment was parsed and what was kept behind it: whether there is another hole, or bytes
 * that nobody has any more. */
__noinline int http_hole(struct __sk_buff *skb)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_direction *d;
	u32 ahead;

	if (!c)
		return 0;
	d = &c->rx;
	ahead = d->ahead_seq - d->next_seq;
	if ((s32)ahead > 0 && !d->unkept && http_awaited(skb, d->next_seq)) {
		d->hole_end = d->next_seq + 1; /* another one */
		return 0;
	}
	d->holed = 0;
	if ((s32)ahead <= 0)
		return 0;
	d->next_seq = d->ahead_seq;
	http_gap(skb, ahead, true);
	return 0;
}

#endif
