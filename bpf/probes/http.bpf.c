// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* HTTP requests by cgroup: a cgroup_skb pair at the cgroup v2 root sees every TCP segment of every
 * socket, before the socket's lock on the way in, and keeps the parser's state with the socket.
 *
 * Who writes what. Egress of one socket runs under that socket's lock, so `tx` has one writer.
 * Ingress runs without it and two CPUs may hold segments of one connection, so `rx` is claimed;
 * what its loser held counts as a gap. The direction that carries requests writes pipeline.begun,
 * the one that carries answers pipeline.ended.
 */
#include "bpf/lib/calls.bpf.h"
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/coverage.bpf.h"
#include "bpf/lib/http2.bpf.h"
#include "bpf/lib/http_sequence.bpf.h"
#include "bpf/lib/packet.bpf.h"
#include "bpf/lib/spans.bpf.h"

#include <bpf/bpf_tracing.h>

/* Whether the tcp probe marks the sockets that it counts (kernels from 5.11). */
const volatile bool tcp_marks_sockets = true;

/* Whether a packet's first window is parsed in place, without a call and its look-ups: the verifier
 * walks the parser twice then, for which another one may have too little patience. */
const volatile bool parse_in_place = true;

/* Windows in one packet: 64 KB of heads, more than a packet holds without BIG TCP. */
#define HTTP_MAX_WINDOWS 256
#define HTTP_CLAIM_TRIES 1024

/* After http_lost(), on a connection that never spoke HTTP: what it may be instead. */
static __always_inline void http_unknown(struct http_socket *c, const struct http1_window *w)
{
	bool tls = w->end >= 6 && tls_record(w->bytes);

	if (tls)
		c->class = HTTP_NOT;
	if (c->class == HTTP_NOT)
		coverage_add(c->cgroup_id, tls ? BALLAST_COVERAGE_TLS : BALLAST_COVERAGE_OTHER);
}

/* Parses one window of the packet from `offset` and acts on what it finds. Gives the offset of
 * the next byte to be looked at. */
static __always_inline u32 http_window(struct __sk_buff *skb, struct http_socket *c,
				       struct http1_window *w, bool ingress, u32 offset, u64 now)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	struct http1_stream *s = &d->stream;
	u32 left = skb->len - offset;
	bool begins = s->state == HTTP1_START;
	u32 begin = offset;
	bool opens;
	int event;
	u64 skipped;

	if (!http_load_window(skb, w, offset, left))
		return skb->len;
	event = http1_run(s, w, left, now);
	if (c->mode == HTTP_MODE_UPGRADED && (event == HTTP1_BAD || (s->flags & HTTP1_OPENED))) {
		c->mode = HTTP_MODE_TUNNEL;
		return begin;
	}
	offset += w->pos;
	left -= w->pos;
	opens = s->flags & HTTP1_OPENED;
	if (opens && event != HTTP1_BAD && !http_opened(c, d, ingress)) {
		s->state = HTTP1_LOST;
		event = HTTP1_BAD;
	}
	if (opens && event != HTTP1_BAD && s->kind == HTTP1_REQUEST)
		call_opened(skb, &c->call, c->role, ingress, begins ? begin : 0, c->pipeline.begun,
			    s->first_ns);
	if (event == HTTP1_HEAD) {
		event = http_head(c, d, now);
		if (event == HTTP1_MORE && left) {
			skipped = http1_skip(s, left, &event);
			offset += (u32)skipped;
			left -= (u32)skipped;
		}
	}
	if (event == HTTP1_END && s->kind == HTTP1_RESPONSE)
		http_answered(skb, c, d, ingress, now);
	if (event == HTTP1_SWITCH && !http2_switch(skb, c, ingress)) {
		s->state = HTTP1_LOST;
		event = HTTP1_BAD;
	}
	if (event == HTTP1_BAD) {
		http_lost(c, left);
		if (c->class != HTTP_SPOKEN)
			http_unknown(c, w);
		return skb->len;
	}
	return offset;
}

static __always_inline struct http1_window *http_window_of(struct http_socket *c, bool ingress)
{
	u32 zero = 0;

	return ingress ? bpf_map_lookup_elem(&rx_window, &zero) : &c->tx_window;
}

static __always_inline int http_next_window(struct __sk_buff *skb, u32 offset, u64 now,
					    bool ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct http1_window *w = c ? http_window_of(c, ingress) : NULL;

	return w && offset < skb->len ? (int)http_window(skb, c, w, ingress, offset, now) : -1;
}

/* Global functions, so that the verifier checks the parser once and not in every round of the
 * loop that calls it. Kernels before 5.12 pass them scalars and the context only. */
__noinline int http_window_rx(struct __sk_buff *skb, u32 offset, u64 now)
{
	return http_next_window(skb, offset, now, true);
}

__noinline int http_window_tx(struct __sk_buff *skb, u32 offset, u64 now)
{
	return http_next_window(skb, offset, now, false);
}

/* The payload from `offset` on, in order and not seen before. Gives the offset from which on the
 * packet is HTTP/2, or its end. */
static __always_inline u32 http_payload(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					u32 offset)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
	u32 len = skb->len - offset;
	u64 now;
	u32 i;

	if (c->mode == HTTP_MODE_TUNNEL) {
		count_loss(BALLAST_LOSS_TUNNEL, 1, len);
		return skb->len;
	}
	/* The inside of a body, which most bytes are. */
	if (s->state == HTTP1_UNTIL_CLOSE)
		return skb->len;
	if ((s->state == HTTP1_BODY || s->state == HTTP1_CHUNK_DATA) && len < s->remaining) {
		s->remaining -= len;
		return skb->len;
	}
	if (s->state == HTTP1_LOST)
		s->state = HTTP1_START;
	now = http_now(skb, ingress);
	if (parse_in_place) {
		struct http1_window *w = http_window_of(c, ingress);

		if (w)
			offset = http_window(skb, c, w, ingress, offset, now);
	}
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_MAX_WINDOWS && offset < skb->len; i++) {
		int next;

		if (c->mode == HTTP_MODE_TUNNEL || c->mode == HTTP_MODE_2)
			break;
		next = ingress ? http_window_rx(skb, offset, now)
			       : http_window_tx(skb, offset, now);

		if (next < 0)
			break;
		offset = (u32)next;
	}
	if (offset < skb->len && c->mode == HTTP_MODE_TUNNEL) {
		count_loss(BALLAST_LOSS_TUNNEL, 1, skb->len - offset);
	} else if (offset < skb->len && i == HTTP_MAX_WINDOWS) {
		count_loss(BALLAST_LOSS_TRUNCATED, 1, skb->len - offset);
		http1_doubt(&c->pipeline);
		s->state = HTTP1_LOST;
	}
	if (d->answered_ns) {
		row = http1_waiting(&c->pipeline) ? http_row(c, BALLAST_PROTOCOL_HTTP1) : NULL;
		if (row)
			http_first_byte(c, d, row);
		else
			d->answered_ns = 0;
	}
	return offset;
}

static __always_inline int http2_packet(struct __sk_buff *skb, u32 offset, bool ingress)
{
	struct http_socket *c = http_socket_of(skb);

	if (c && offset < skb->len)
		http2_payload(skb, c, ingress, offset);
	return 0;
}

__noinline int http2_packet_rx(struct __sk_buff *skb, u32 offset)
{
	return http2_packet(skb, offset, true);
}

__noinline int http2_packet_tx(struct __sk_buff *skb, u32 offset)
{
	return http2_packet(skb, offset, false);
}

static __always_inline void http_stream(struct __sk_buff *skb, struct http_socket *c,
					struct http_direction *d, const struct segment *seg,
					bool ingress)
{
	u32 offset = seg->offset;
	u32 seen;

	if (d->has_seq && seg->seq == d->next_seq) {
		d->next_seq = seg->seq + seg->len;
	} else {
		seen = (u32)http_out_of_order(skb, seg->seq, seg->len, ingress);
		if (seen >= seg->len)
			return;
		offset += seen;
	}
	if (c->mode != HTTP_MODE_2)
		offset = http_payload(skb, c, ingress, offset);
	if (c->mode == HTTP_MODE_2 && ingress)
		http2_packet_rx(skb, offset);
	else if (c->mode == HTTP_MODE_2)
		http2_packet_tx(skb, offset);
	if (ingress && d->holed)
		http_hole(skb);
}

/* Waits for another CPU's segment of this direction, some microseconds at most. Adds without
 * fetching are all that kernels before 5.12 have, and enough: of two that both added, the second
 * sees two. The owner ends it by a plain store to `released`. */
static __always_inline bool http_claim(struct http_direction *d)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_CLAIM_TRIES; i++) {
		u32 released = *(volatile u32 *)&d->released;

		if (*(volatile u32 *)&d->claims != released)
			continue;
		counter_add(d->claims, 1);
		if (*(volatile u32 *)&d->claims == *(volatile u32 *)&d->released + 1)
			return true;
		counter_add(d->claims, -1);
	}
	return false;
}

static __always_inline void http_data(struct __sk_buff *skb, struct http_socket *c,
				      const struct segment *seg, bool ingress)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;

	if (c->class == HTTP_NOT) {
		count_loss(BALLAST_LOSS_NOT_HTTP, 1, seg->len);
		return;
	}
	if (!ingress) {
		http_stream(skb, c, d, seg, ingress);
		return;
	}
	if (d->has_seq && (s32)(seg->seq - d->next_seq) > 0)
		http_turn(skb, seg->seq);
	if (!http_claim(d)) {
		http1_doubt(&c->pipeline);
		return;
	}
	http_stream(skb, c, d, seg, ingress);
	*(volatile u32 *)&d->released = d->released + 1;
}

/* Requests that nobody will answer any more. */
static __always_inline void http_abandon(struct http_socket *c)
{
	u32 waiting = http1_waiting(&c->pipeline);
	struct ballast_request_value *row;

	if (!waiting || waiting > (1U << 31))
		return;
	c->pipeline.ended += waiting;
	count_loss(BALLAST_LOSS_ABANDONED, waiting, 0);
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row)
		counter_add(row->in_flight, -(s64)waiting);
}

/* FIN or RST in the direction of the answers: a body without a length ends here, and there is no
 * answer to come. The other direction may close first and still be answered. */
__noinline int http_finish(struct __sk_buff *skb, u32 flags, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct bpf_sock *sk = skb->sk;
	struct http_direction *d;
	struct http2_socket *h;

	if (!c || c->class != HTTP_SPOKEN || http_carries_requests(c, ingress))
		return 0;
	d = ingress ? &c->rx : &c->tx;
	if (d->stream.state == HTTP1_UNTIL_CLOSE && (flags & TCP_FIN)) {
		d->stream.state = HTTP1_START;
		http_answered(skb, c, d, ingress, bpf_ktime_get_ns());
	}
	http_abandon(c);
	if (c->mode != HTTP_MODE_2 || !sk)
		return 0;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (h)
		http2_abandon(c, h);
	return 0;
}

/* A connection that was open before the tcp probe was there counts from its first segment. */
static __always_inline void http_adopt_connection(struct bpf_sock *sk, u64 cgroup_id, bool fresh)
{
	struct ballast_connection_value *row;
	struct counted_socket *mark;

	if (!tcp_marks_sockets && fresh)
		return;
	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, 0);
	if (mark)
		return;
	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	row = mark ? connection_row(cgroup_id) : NULL;
	if (!row)
		return;
	mark->cgroup_id = cgroup_id;
	counter_add(row->open, 1);
	counter_add(row->adopted, 1);
}

/* 1: the socket has its state now. */
__noinline int http_socket_new(struct __sk_buff *skb, u32 len)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct http_socket *c;
	bool fresh;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	if (sk->state == TCP_LISTEN) {
		/* Data in the handshake's last packet: the socket it is for is not made yet. */
		count_loss(BALLAST_LOSS_GAP, 1, len);
		return 0;
	}
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return 0;
	/* A SYN counts as a byte. */
	fresh = !tcp->bytes_received && tcp->bytes_acked <= 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) /* of two CPUs that create it at once, one is refused */
		c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c) {
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, len);
		return 0;
	}
	/* The first packets of both directions may be here at once on two CPUs (a server that
	 * speaks first): only what both would write alike is written, and of new sockets nothing
	 * that the other may have changed since. */
	if (!c->cgroup_id) {
		c->patience = HTTP_ADOPTED_PATIENCE;
		if (!fresh)
			c->class = HTTP_ADOPTED;
		c->cgroup_id = bpf_skb_cgroup_id(skb);
		http_adopt_connection(sk, c->cgroup_id, fresh);
	}
	return 1;
}

/* Always 1: a packet is never dropped. */
static __always_inline int http_packet(struct __sk_buff *skb, bool ingress)
{
	struct http_socket *c;
	struct bpf_sock *sk;
	struct segment seg;

	if (!segment_read(skb, &seg)) {
		if (!seg.offset)
			coverage_datagram(skb);
		return 1;
	}
	sk = skb->sk;
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || !c->cgroup_id) {
		if (!seg.len || (seg.flags & TCP_SYN))
			return 1;
		if (!http_socket_new(skb, seg.len))
			return 1;
		c = http_socket_of(skb);
		if (!c)
			return 1;
	}
	if (seg.len)
		http_data(skb, c, &seg, ingress);
	if (seg.flags & (TCP_FIN | TCP_RST))
		http_finish(skb, seg.flags, ingress);
	return 1;
}

SEC("cgroup_skb/ingress")
int http_ingress(struct __sk_buff *skb)
{
	return http_packet(skb, true);
}

SEC("cgroup_skb/egress")
int http_egress(struct __sk_buff *skb)
{
	return http_packet(skb, false);
}

/* Whatever way a connection ends (reset, time-out, its process killed), this is the last of it.
 * Kernels from 5.11; before, only FIN and RST give requests back. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_close, struct sock *sk, int old_state, int new_state)
{
	struct http2_socket *h;
	struct http_socket *c;

	if (new_state != TCP_CLOSE || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || c->closed)
		return 0;
	c->closed = 1;
	if (c->class != HTTP_SPOKEN)
		return 0;
	http_abandon(c);
	if (c->mode != HTTP_MODE_2)
		return 0;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (h)
		http2_abandon(c, h);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
