// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* HTTP requests by cgroup: a cgroup_skb pair at the cgroup v2 root sees every TCP segment of every
 * socket, before the socket's lock on the way in, and keeps the parser's state with the socket.
 *
 * Who writes what. Egress of one socket runs under that socket's lock, so `tx` has one writer.
 * Ingress runs without it and two CPUs may hold segments of one connection, so `rx` is claimed
 * under a spin lock; the loser's bytes count as a gap. The direction that carries requests writes
 * pipeline.begun, the one that carries answers pipeline.ended.
 */
#include "bpf/lib/calls.bpf.h"
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/http2.bpf.h"
#include "bpf/lib/packet.bpf.h"

#include <bpf/bpf_tracing.h>

/* Whether the tcp probe marks the sockets that it counts (kernels from 5.11). */
const volatile bool tcp_marks_sockets = true;

/* Windows in one packet: 64 KB of heads, more than a packet holds without BIG TCP. */
#define HTTP_MAX_WINDOWS 256
/* A sequence number further off than any window (RFC 7323) is not a gap but another story. */
#define HTTP_MAX_GAP (1 << 30)

/* The first line of a message is known. false: it runs the wrong way. */
static __always_inline bool http_opened(struct http_socket *c, struct http_direction *d,
					bool ingress)
{
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
	bool request = s->kind == HTTP1_REQUEST;

	s->flags &= ~HTTP1_OPENED;
	if (c->class != HTTP_SPOKEN) {
		c->role = ingress == request ? BALLAST_ROLE_SERVER : BALLAST_ROLE_CLIENT;
		c->class = HTTP_SPOKEN;
	}
	if (http_carries_requests(c, ingress) != request)
		return false;
	if (!request)
		return true;
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row) {
		counter_add(row->requests, 1);
		counter_add(row->in_flight, 1);
		row->last_seen_ns = s->first_ns;
	}
	if (!http1_push(&c->pipeline, s->first_ns, s->flags))
		count_loss(BALLAST_LOSS_PIPELINE_OVERFLOW, 1, 0);
	return true;
}

/* An answer's first byte goes to its histogram as soon as its packet is done, its last byte when
 * the message ends: the first must not wait for a long body. */
static __always_inline void http_first_byte(struct http_socket *c, struct http_direction *d,
					    struct ballast_request_value *row)
{
	u8 flags;
	u64 start_ns = http1_oldest(&c->pipeline, &flags);

	if (start_ns && d->answered_ns >= start_ns)
		latency_add(&row->first_byte, d->answered_ns - start_ns);
	d->answered_ns = 0;
}

static __always_inline void http_answered(struct http_socket *c, struct http_direction *d, u64 now)
{
	u8 flags;
	u64 start_ns = http1_oldest(&c->pipeline, &flags);
	u32 class = d->stream.status / 100;
	struct ballast_request_value *row;

	if (!http1_waiting(&c->pipeline)) {
		count_loss(BALLAST_LOSS_UNMATCHED_RESPONSE, 1, 0);
		d->answered_ns = 0;
		return;
	}
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row) {
		if (d->answered_ns)
			http_first_byte(c, d, row);
		if (start_ns && now >= start_ns)
			latency_add(&row->last_byte, now - start_ns);
		opaque(class);
		if (class >= BALLAST_STATUS_CLASSES)
			class = 0;
		counter_add(row->status[class], 1);
		counter_add(row->responses, 1);
		counter_add(row->in_flight, -1);
	}
	c->pipeline.ended++;
}

/* End of a head: what follows it. */
static __always_inline int http_head(struct http_socket *c, struct http_direction *d, u64 now)
{
	struct http1_stream *s = &d->stream;
	u8 request_flags;
	int event;

	if (s->kind == HTTP1_REQUEST)
		return http1_begin_body(s, 0);
	http1_oldest(&c->pipeline, &request_flags);
	event = http1_begin_body(s, request_flags);
	if (http1_interim(s))
		return HTTP1_MORE;
	if (s->state == HTTP1_TUNNEL) {
		c->mode = HTTP_MODE_TUNNEL;
		if (s->status == 101) { /* the next bytes tell what it is now */
			c->mode = HTTP_MODE_UPGRADED;
			s->state = HTTP1_START;
		}
	}
	d->answered_ns = s->first_ns;
	return event;
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
	u64 start_ns;
	bool opens;
	u8 flags;
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
		call_opened(skb, c->cgroup_id, c->role, ingress, begins ? begin : 0,
			    c->pipeline.begun, s->first_ns);
	if (event == HTTP1_HEAD) {
		event = http_head(c, d, now);
		if (event == HTTP1_MORE && left) {
			skipped = http1_skip(s, left, &event);
			offset += (u32)skipped;
			left -= (u32)skipped;
		}
	}
	if (event == HTTP1_END && s->kind == HTTP1_RESPONSE) {
		start_ns = http1_oldest(&c->pipeline, &flags);
		if (http1_waiting(&c->pipeline))
			call_answered(skb, c->cgroup_id, c->role, BALLAST_PROTOCOL_HTTP1,
				      c->pipeline.ended + 1, start_ns, s->first_ns, now, s->status);
		http_answered(c, d, now);
	}
	if (event == HTTP1_SWITCH && !http2_switch(skb, c, ingress)) {
		s->state = HTTP1_LOST;
		event = HTTP1_BAD;
	}
	if (event == HTTP1_BAD) {
		http_lost(c, left);
		return skb->len;
	}
	return offset;
}

/* Global functions, so that the verifier checks the parser once and not in every round of the
 * loop that calls it. Kernels before 5.12 pass them scalars and the context only. */
__noinline int http_window_rx(struct __sk_buff *skb, u32 offset, u64 now)
{
	u32 zero = 0;
	struct http1_window *w = bpf_map_lookup_elem(&rx_window, &zero);
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	if (!sk || !w || offset >= skb->len)
		return -1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c)
		return -1;
	return (int)http_window(skb, c, w, true, offset, now);
}

__noinline int http_window_tx(struct __sk_buff *skb, u32 offset, u64 now)
{
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	if (!sk || offset >= skb->len)
		return -1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c)
		return -1;
	return (int)http_window(skb, c, &c->tx_window, false, offset, now);
}

/* `len` payload bytes at `offset`, in order and not seen before. Gives the offset from which on the
 * packet is HTTP/2, or its end. */
static __always_inline u32 http_payload(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					u32 offset, u32 len)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
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
	now = bpf_ktime_get_ns();
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_MAX_WINDOWS; i++) {
		int next = ingress ? http_window_rx(skb, offset, now)
				   : http_window_tx(skb, offset, now);

		if (next < 0)
			break;
		offset = (u32)next;
		if (offset >= skb->len)
			break;
		if (c->mode == HTTP_MODE_TUNNEL) {
			count_loss(BALLAST_LOSS_TUNNEL, 1, skb->len - offset);
			break;
		}
		if (c->mode == HTTP_MODE_2)
			break;
	}
	if (offset < skb->len && i == HTTP_MAX_WINDOWS) {
		count_loss(BALLAST_LOSS_TRUNCATED, 1, skb->len - offset);
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

/* How the segment lies to what was seen: bytes at its front to leave out, or -1 for all of it.
 * Moves next_seq on. `gap` gets the bytes that were jumped over. */
static __always_inline s64 http_sequence(struct http_direction *d, const struct segment *seg,
					 u32 *gap)
{
	s32 ahead = (s32)(seg->seq - d->next_seq);
	u32 end = seg->seq + seg->len;

	*gap = 0;
	if (!d->has_seq || ahead > HTTP_MAX_GAP || ahead < -HTTP_MAX_GAP) {
		*gap = d->has_seq;
		d->has_seq = 1;
		d->next_seq = end;
		return 0;
	}
	if ((s32)(end - d->next_seq) <= 0)
		return -1;
	d->next_seq = end;
	if (ahead > 0)
		*gap = (u32)ahead;
	return ahead < 0 ? -(s64)ahead : 0;
}

static __always_inline void http_gap(struct __sk_buff *skb, struct http_socket *c, bool ingress,
				     u32 gap)
{
	struct http1_stream *s = ingress ? &c->rx.stream : &c->tx.stream;

	if (c->mode == HTTP_MODE_2) {
		http2_gap(skb, ingress, gap);
		return;
	}
	if (http1_skips(s, gap)) {
		if (s->state == HTTP1_BODY || s->state == HTTP1_CHUNK_DATA)
			s->remaining -= gap;
		return;
	}
	count_loss(BALLAST_LOSS_GAP, 1, gap);
	s->state = HTTP1_LOST;
}

static __always_inline void http_data(struct __sk_buff *skb, struct http_socket *c,
				      const struct segment *seg, bool ingress)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	u32 offset;
	s64 seen;
	u32 gap;

	if (c->class == HTTP_NOT) {
		count_loss(BALLAST_LOSS_NOT_HTTP, 1, seg->len);
		return;
	}
	if (ingress) {
		bool busy;

		bpf_spin_lock(&c->lock);
		busy = d->busy;
		seen = -1;
		if (!busy) {
			seen = http_sequence(d, seg, &gap);
			d->busy = seen >= 0;
		}
		bpf_spin_unlock(&c->lock);
	} else {
		seen = http_sequence(d, seg, &gap);
	}
	if (seen < 0)
		return;
	if (gap)
		http_gap(skb, c, ingress, gap);
	offset = seg->offset + (u32)seen;
	if (c->mode != HTTP_MODE_2)
		offset = http_payload(skb, c, ingress, offset, seg->len - (u32)seen);
	if (c->mode == HTTP_MODE_2 && offset < skb->len)
		http2_payload(skb, c, ingress, offset);
	if (ingress)
		d->busy = 0;
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
static __always_inline void http_finish(struct __sk_buff *skb, struct http_socket *c,
					const struct segment *seg, bool ingress)
{
	struct http2_socket *h;
	struct bpf_sock *sk = skb->sk;
	struct http_direction *d = ingress ? &c->rx : &c->tx;

	if (c->class != HTTP_SPOKEN || http_carries_requests(c, ingress))
		return;
	if (d->stream.state == HTTP1_UNTIL_CLOSE && (seg->flags & TCP_FIN)) {
		d->stream.state = HTTP1_START;
		http_answered(c, d, bpf_ktime_get_ns());
	}
	http_abandon(c);
	if (c->mode != HTTP_MODE_2 || !sk)
		return;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (h)
		http2_abandon(c, h);
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

static __always_inline struct http_socket *http_socket_new(struct __sk_buff *skb,
							   const struct segment *seg)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct http_socket *c;
	bool fresh;

	if (!sk)
		return NULL;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return NULL;
	if (sk->state == TCP_LISTEN) {
		/* Data in the handshake's last packet: the socket it is for is not made yet. */
		count_loss(BALLAST_LOSS_GAP, 1, seg->len);
		return NULL;
	}
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return NULL;
	/* A SYN counts as a byte. */
	fresh = !tcp->bytes_received && tcp->bytes_acked <= 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, seg->len);
		return NULL;
	}
	if (!c->cgroup_id) {
		c->patience = HTTP_ADOPTED_PATIENCE;
		c->class = fresh ? HTTP_NEW : HTTP_ADOPTED;
		c->cgroup_id = bpf_skb_cgroup_id(skb);
		http_adopt_connection(sk, c->cgroup_id, fresh);
	}
	return c;
}

/* Always 1: a packet is never dropped. */
static __always_inline int http_packet(struct __sk_buff *skb, bool ingress)
{
	struct http_socket *c;
	struct bpf_sock *sk;
	struct segment seg;

	if (!segment_read(skb, &seg))
		return 1;
	sk = skb->sk;
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c) {
		if (!seg.len || (seg.flags & TCP_SYN))
			return 1;
		c = http_socket_new(skb, &seg);
		if (!c)
			return 1;
	}
	if (seg.len)
		http_data(skb, c, &seg, ingress);
	if (seg.flags & (TCP_FIN | TCP_RST))
		http_finish(skb, c, &seg, ingress);
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
