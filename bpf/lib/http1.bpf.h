/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP1_BPF_H
#define BALLAST_HTTP1_BPF_H

/* HTTP/1 by cgroup: what http1.h finds, in counters and histograms. */

#include "bpf/lib/calls.bpf.h"
#include "bpf/lib/coverage.bpf.h"
#include "bpf/lib/http2.bpf.h"
#include "bpf/lib/http_socket.bpf.h"

/* Whether a packet's first window is parsed in place, without a call and its look-ups: the verifier
 * walks the parser twice then, for which another one may have too little patience. */
const volatile bool parse_in_place = true;

/* Windows in one packet: 64 KB of the smallest chunks, of which one takes 16. */
#define HTTP1_MAX_WINDOWS 1024

/* The first line of a message is known. false: it runs the wrong way. */
static __always_inline bool http_opened(struct http_socket *c, struct http_direction *d,
					bool ingress)
{
	struct http1_stream *s = &d->stream;
	const struct http_direction *other = ingress ? &c->tx : &c->rx;
	struct ballast_request_value *row;
	bool request = s->kind == HTTP1_REQUEST;
	u32 left;

	s->flags &= ~HTTP1_OPENED;
	s->resume = 0;
	http_speaks(c, request, ingress);
	if (http_carries_requests(c, ingress) != request)
		return false;
	if (!request)
		return true;
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	left = http1_settle(&c->pipeline, other->stream.state != HTTP1_START);
	if (left) {
		count_loss(BALLAST_LOSS_IN_DOUBT, left, 0);
		if (row)
			counter_add(row->in_flight, -(s64)left);
	}
	if (row) {
		counter_add(row->requests, 1);
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

static __always_inline void http_count_answer(struct ballast_request_value *row, u32 class)
{
	opaque(class);
	if (class >= BALLAST_STATUS_CLASSES)
		class = 0;
	counter_add(row->status[class], 1);
}

/* An answer in doubt, or one to which no request waits: counted where there was a request, never
 * timed. A function of its own: it is rare, and the verifier walks it once. */
__noinline int http_untimed(struct __sk_buff *skb, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct ballast_request_value *row;
	struct http1_pipeline *p;
	struct http_direction *d;
	u32 status;

	if (!c)
		return 0;
	d = ingress ? &c->rx : &c->tx;
	p = &c->pipeline;
	status = d->stream.status;
	d->answered_ns = 0;
	/* Only a request that came makes an answer work: whoever answers unasked gains nothing. 408
	 * is a server's last word on an idle connection. */
	if (http1_answers_missed(p)) { /* counts for both */
		count_loss(BALLAST_LOSS_IN_DOUBT, 1, 0);
		row = http_row(c, BALLAST_PROTOCOL_HTTP1);
		if (row) {
			http_count_answer(row, status / 100);
			counter_add(row->requests, 1);
		}
		return 0;
	}
	if (!http1_waiting(p)) {
		count_loss(BALLAST_LOSS_UNMATCHED_RESPONSE, 1, 0);
		if (status != 408 && p->begun && !http1_in_doubt(p)) {
			p->manners = HTTP1_PIPELINES;
			http1_doubt(p);
		}
		return 0;
	}
	count_loss(BALLAST_LOSS_IN_DOUBT, 1, 0);
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row)
		http_count_answer(row, status / 100);
	call_answered(skb, &c->call, c->cgroup_id, c->role, BALLAST_PROTOCOL_HTTP1, 0, 0, 0,
		      http_now(skb, ingress), status);
	p->ended++;
	return 0;
}

static __always_inline void http_answered(struct __sk_buff *skb, struct http_socket *c,
					  struct http_direction *d, bool ingress, u64 now)
{
	struct http1_pipeline *p = &c->pipeline;
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
	u64 start_ns;
	u8 flags;

	p->answers++;
	if (!http1_waiting(p) || http1_in_doubt(p)) {
		http_untimed(skb, ingress);
		return;
	}
	start_ns = http1_oldest(p, &flags);
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row) {
		if (d->answered_ns)
			http_first_byte(c, d, row);
		if (start_ns && now >= start_ns)
			latency_add(&row->last_byte, now - start_ns);
		http_count_answer(row, s->status / 100);
	}
	call_answered(skb, &c->call, c->cgroup_id, c->role, BALLAST_PROTOCOL_HTTP1, p->ended + 1,
		      start_ns, s->first_ns, now, s->status);
	p->ended++;
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
	if (event == HTTP1_MORE && http1_in_doubt(&c->pipeline))
		s->flags |= HTTP1_EXPECTS;
	if (s->state == HTTP1_TUNNEL) {
		c->upgrade = HTTP1_TUNNELS;
		if (s->status == 101) { /* the next bytes tell what it is now */
			c->upgrade = HTTP1_UPGRADED;
			s->state = HTTP1_START;
		}
	}
	d->answered_ns = s->first_ns;
	return event;
}

/* After http_lost(), on a connection that never spoke HTTP: what it may be instead. It counts once,
 * when it begins, and again when TLS begins on it. */
static __always_inline void http_unknown(struct http_socket *c, const struct http1_window *w,
					 u8 was)
{
	bool tls = w->end >= 6 && tls_record(w->bytes);

	if (tls)
		c->class = HTTP_NOT;
	if (!c->early && (tls || was == HTTP_NEW || (was == HTTP_ADOPTED && c->class == HTTP_NOT)))
		coverage_add(c->cgroup_id, tls ? BALLAST_COVERAGE_TLS : BALLAST_COVERAGE_OTHER);
}

static __always_inline struct http1_window *http1_window_of(struct http_socket *c, bool ingress)
{
	u32 zero = 0;

	return ingress ? bpf_map_lookup_elem(&rx_window, &zero) : &c->tx_window;
}

/* Parses one window of the packet from `offset` and acts on what it finds. Gives the offset of
 * the next byte to be looked at. */
static __always_inline u32 http1_window(struct __sk_buff *skb, struct http_socket *c,
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
	if (c->upgrade == HTTP1_UPGRADED && (event == HTTP1_BAD || (s->flags & HTTP1_OPENED))) {
		c->upgrade = HTTP1_TUNNELS;
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
		if (left)
			s->flags &= ~HTTP1_EXPECTS;
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
		u8 was = c->class;

		if (http1_resumes(s))
			return begin - s->eaten;
		http_lost(c, left);
		if (c->class != HTTP_SPOKEN)
			http_unknown(c, w, was);
		return skb->len;
	}
	s->eaten += offset - begin;
	return offset;
}

static __always_inline int http1_next_window(struct __sk_buff *skb, u32 offset, u64 now,
					     bool ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct http1_window *w = c ? http1_window_of(c, ingress) : NULL;

	return w && offset < skb->len ? (int)http1_window(skb, c, w, ingress, offset, now) : -1;
}

/* Global functions, so that the verifier checks the parser once and not in every round of the
 * loop that calls it. Kernels before 5.12 pass them scalars and the context only. */
__noinline int http1_window_rx(struct __sk_buff *skb, u32 offset, u64 now)
{
	return http1_next_window(skb, offset, now, true);
}

__noinline int http1_window_tx(struct __sk_buff *skb, u32 offset, u64 now)
{
	return http1_next_window(skb, offset, now, false);
}

/* In doubt, after an answer's head that may have been all of it: where another one begins, it was.
 */
__noinline int http1_bodiless(struct __sk_buff *skb, u32 offset, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_direction *d;
	u64 word;

	if (!c)
		return 0;
	d = ingress ? &c->rx : &c->tx;
	/* The packet decides, however short: by the next one the answer may have ended. */
	d->stream.flags &= ~HTTP1_EXPECTS;
	if (bpf_skb_load_bytes(skb, offset, &word, sizeof(word)) < 0 || !http1_begins_answer(word))
		return 0;
	d->stream.state = HTTP1_START;
	c->pipeline.answers++;
	http_untimed(skb, ingress);
	return 0;
}

/* Messages that a direction has had. */
static __always_inline u32 http1_had(const struct http_socket *c, bool ingress)
{
	return http_carries_requests(c, ingress) ? c->pipeline.begun : c->pipeline.answers;
}

/* Keys of http1_sum(), made at the first use: what was summed before is not recognised then, and
 * parsed. */
unsigned long long http1_keys[HTTP1_KEYS]; /* no typedefs: the skeleton repeats the types */
unsigned int http1_keyed = 0;

/* A packet is about to be parsed: whether it may be a message to remember goes through memory, so
 * that the verifier does not parse in both cases. */
static __always_inline void http1_try(struct http_socket *c, struct http_direction *d, bool ingress,
				      u32 len)
{
	d->again.before = http1_had(c, ingress);
	d->again.whole = d->stream.state == HTTP1_START && !d->stream.resume &&
					 c->class == HTTP_SPOKEN && len <= HTTP1_WINDOW
				 ? (u16)len
				 : 0;
	http1_forget();
}

/* After a packet that began and ended between messages: remembers what parsing it gave, where it
 * was one message. */
__noinline int http1_remember(struct __sk_buff *skb, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);
	struct http_direction *d;
	struct http1_window *w;
	u32 i;

	if (!c)
		return 0;
	d = ingress ? &c->rx : &c->tx;
	if (d->again.patience) {
		d->again.patience--;
		return 0;
	}
	w = http1_window_of(c, ingress);
	d->again.patience = HTTP1_AGAIN_PATIENCE;
	if (!w || !d->again.whole || d->again.whole > skb->len ||
	    http1_had(c, ingress) - d->again.before != 1 || http1_in_doubt(&c->pipeline) ||
	    d->stream.flags & (HTTP1_EXPECTS | HTTP1_CONNECT_METHOD) ||
	    (!http_carries_requests(c, ingress) && !http1_plainly_asked(&c->pipeline)))
		return 0;
	if (!http_load_window(skb, w, skb->len - d->again.whole, d->again.whole))
		return 0;
	if (!http1_keyed) {
#pragma clang loop unroll(disable)
		for (i = 0; i < HTTP1_KEYS; i++)
			http1_keys[i] = (u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
		http1_keyed = 1;
	}
	d->again.sum = http1_sum(http1_keys, w);
	d->again.status = d->stream.status;
	d->again.flags = d->stream.flags & HTTP1_HEAD_METHOD;
	d->again.len = (u16)w->end;
	d->again.patience = 0;
	return 0;
}

/* Whether the packet is the message that this direction had before; then it is done with. */
static __always_inline bool http1_again(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					u32 offset)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	bool request = http_carries_requests(c, ingress);
	struct http1_stream *s = &d->stream;
	struct http1_window *w;
	u8 asked = 0;
	u32 unlike;
	u64 now;

	/* In one, so that the verifier learns nothing that makes what follows another case. */
	unlike = (d->again.len + offset) ^ skb->len;
	unlike |= s->state ^ HTTP1_START;
	unlike |= c->upgrade;
	unlike |= c->class ^ HTTP_SPOKEN;
	unlike |= c->pipeline.doubts ^ c->pipeline.settled;
	opaque(unlike);
	if (unlike)
		return false;
	/* What follows the head of an answer its request has a say in. */
	if (!request && (!http1_oldest(&c->pipeline, &asked) || asked))
		return false;
	w = http1_window_of(c, ingress);
	if (!w || !http_load_window(skb, w, offset, skb->len - offset))
		return false;
	if (http1_sum(http1_keys, w) != d->again.sum) {
		d->again.len = 0;
		d->again.patience = HTTP1_AGAIN_PATIENCE;
		return false;
	}
	now = http_now(skb, ingress);
	s->first_ns = now;
	s->flags = d->again.flags;
	if (request) {
		s->kind = HTTP1_REQUEST;
		http_opened(c, d, ingress);
		call_opened(skb, &c->call, c->role, ingress, offset, c->pipeline.begun, now);
		return true;
	}
	s->kind = HTTP1_RESPONSE;
	s->status = d->again.status;
	d->answered_ns = now;
	http_answered(skb, c, d, ingress, now);
	return true;
}

/* The payload from `offset` on, in order and not seen before. Gives the offset from which on the
 * packet is HTTP/2, or its end. */
static __always_inline u32 http1_payload(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					 u32 offset)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
	u32 len = skb->len - offset;
	u64 now;
	u32 i;

	if (parse_in_place && http1_again(skb, c, ingress, offset))
		return skb->len;
	if (c->upgrade == HTTP1_TUNNELS) {
		count_loss(BALLAST_LOSS_TUNNEL, 1, len);
		return skb->len;
	}
	if (s->flags & HTTP1_EXPECTS && http1_expects(s)) {
		if (http1_kept_back(s, &c->pipeline))
			http1_reconsider(s);
		s->flags &= ~HTTP1_EXPECTS;
	}
	if (http1_maybe_bodiless(s) && http1_in_doubt(&c->pipeline))
		http1_bodiless(skb, offset, ingress);
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
	http1_try(c, d, ingress, len);
	if (parse_in_place) {
		struct http1_window *w = http1_window_of(c, ingress);

		if (w)
			offset = http1_window(skb, c, w, ingress, offset, now);
	}
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP1_MAX_WINDOWS && offset < skb->len; i++) {
		int next;

		if (c->upgrade == HTTP1_TUNNELS || c->mode == HTTP_MODE_2)
			break;
		next = ingress ? http1_window_rx(skb, offset, now)
			       : http1_window_tx(skb, offset, now);

		if (next < 0)
			break;
		offset = (u32)next;
	}
	s->resume = 0;
	if (offset < skb->len && c->upgrade == HTTP1_TUNNELS) {
		count_loss(BALLAST_LOSS_TUNNEL, 1, skb->len - offset);
	} else if (offset < skb->len && i == HTTP1_MAX_WINDOWS) {
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
	if (parse_in_place) {
		u32 unlike = !d->again.whole | (s->state ^ HTTP1_START) | c->upgrade;

		opaque(unlike);
		if (!unlike)
			http1_remember(skb, ingress);
	}
	return offset;
}

/* Whether a gap of so many bytes is the inside of a body, of which nothing has to be seen. */
static __always_inline bool http1_gap_harmless(struct __sk_buff *skb, struct http_socket *c,
					       bool ingress, u32 gap)
{
	return http1_gap_inside(ingress ? &c->rx.stream : &c->tx.stream, &c->pipeline, gap);
}

static __always_inline void http1_gap(struct __sk_buff *skb, struct http_socket *c, bool ingress,
				      u32 gap)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;
	struct http1_stream *s = &d->stream;

	if (http1_gap_inside(s, &c->pipeline, gap)) {
		if (s->state == HTTP1_BODY || s->state == HTTP1_CHUNK_DATA)
			s->remaining -= gap;
	} else if (s->state == HTTP1_BODY && s->remaining == gap &&
		   !http1_kept_back(s, &c->pipeline)) { /* its rest, and no more */
		s->state = HTTP1_START;
		if (s->kind == HTTP1_RESPONSE)
			http_answered(skb, c, d, ingress, http_now(skb, ingress));
	} else {
		count_loss(BALLAST_LOSS_GAP, 1, gap);
		http1_doubt(&c->pipeline);
		if (http_carries_requests(c, ingress))
			http1_missed(&c->pipeline);
		s->state = HTTP1_LOST;
		if (c->class == HTTP_NEW) /* its first bytes are not known */
			c->class = HTTP_ADOPTED;
	}
}

/* Requests that nobody will answer any more. */
static __always_inline void http1_abandon(struct http_socket *c)
{
	u32 waiting = http1_waiting(&c->pipeline);
	bool given_up = http_requests_of(c)->finished;
	struct http1_stream *answers =
		http_carries_requests(c, true) ? &c->tx.stream : &c->rx.stream;
	struct ballast_request_value *row;
	u32 unanswered = waiting;

	if (!waiting || waiting > (1U << 31))
		return;
	c->pipeline.ended += waiting;
	count_loss(BALLAST_LOSS_ABANDONED, waiting, 0);
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (!row)
		return;
	counter_add(row->in_flight, -(s64)waiting);
	/* Whose answer is under way was not left without a word. */
	if (given_up && answers->state != HTTP1_START && answers->kind == HTTP1_RESPONSE)
		unanswered--;
	opaque(unanswered);
	if (given_up)
		counter_add(row->abandoned, unanswered);
	else
		counter_add(row->no_answer, unanswered);
}

static __always_inline void http1_finish(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					 u32 flags)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;

	if (d->stream.state == HTTP1_UNTIL_CLOSE && (flags & TCP_FIN) &&
	    !http_carries_requests(c, ingress)) {
		d->stream.state = HTTP1_START;
		http_answered(skb, c, d, ingress, bpf_ktime_get_ns());
	}
	http1_abandon(c);
}

static __always_inline void http1_close(struct sock *sk, struct http_socket *c)
{
	http1_abandon(c);
}

#endif
