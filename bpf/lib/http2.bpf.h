/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP2_BPF_H
#define BALLAST_HTTP2_BPF_H

/* HTTP/2 and gRPC by cgroup: what http2.h finds goes to the same rows and histograms as HTTP/1.
 *
 * A request counts when its header block is complete, from when its first byte came. It is open
 * until its answer's END_STREAM, a RST_STREAM or the connection's end, whichever the kernel sees
 * first: `lock` says who closes it. The direction of the requests alone opens, the other one alone
 * answers.
 */

#include "bpf/lib/calls.bpf.h"
#include "bpf/lib/http2.h"
#include "bpf/lib/http_follow.bpf.h"

/* Windows in one walk, of which each frame that means something takes one, and walks in one packet:
 * 64 KB of the smallest. A longer loop the verifier does not take. */
#define HTTP2_MAX_WINDOWS 1024
#define HTTP2_MAX_WALKS   8
#define HTTP2_PROTOCOLS   3 /* by enum ballast_protocol; the first is not used */

struct http2_socket {
	struct bpf_spin_lock lock; /* slots[].id, open, untracked, answering, spilled, missed */
	u32 pad;
	u32 max_id; /* of the requests so far */
	u32 open[HTTP2_PROTOCOLS];
	u32 answering[HTTP2_PROTOCOLS]; /* those of `open` whose answer has begun */
	u32 spilled;                    /* those of `open` that are in http_streams */
	u32 untracked[HTTP2_PROTOCOLS]; /* those of `open` that have no slot */
	u32 dropped[HTTP2_PROTOCOLS];   /* by the last GOAWAY */
	u8 adopted;                     /* met in mid-life */
	u8 upgraded;                    /* stream 1 is the HTTP/1 request that asked for it */
	u8 speaks;                      /* enum ballast_protocol of the last request */
	u8 pad2;
	u32 missed;    /* gaps that may have held a request's head, whose answer did not come yet */
	u32 hole_from; /* ids that were passed over after the last one: from, up to max_id */
	u32 hole_to;
	struct http2_direction rx;
	struct http2_direction tx;
	struct http2_slot slots[HTTP2_STREAMS];
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http2_socket);
} http2_sockets SEC(".maps");

/* Streams that found no place in their socket's table: those of connections that have very many.
 * Whoever deletes one closes it. What a closed connection leaves is the first to be overwritten. */
struct http2_stream_key {
	u64 socket; /* its cookie */
	u32 id;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BALLAST_MAX_STREAMS);
	__type(key, struct http2_stream_key);
	__type(value, struct http2_slot);
} http_streams SEC(".maps");

static __always_inline u8 http2_protocol(u8 protocol)
{
	return protocol == BALLAST_PROTOCOL_GRPC ? BALLAST_PROTOCOL_GRPC : BALLAST_PROTOCOL_HTTP2;
}

/* A stream that is beyond the table. 1: it is kept. */
__noinline int http2_spill(struct __sk_buff *skb, u32 id, u64 start_ns, u32 protocol)
{
	struct http2_stream_key key = {.socket = bpf_get_socket_cookie(skb), .id = id};
	struct http2_slot slot = {.start_ns = start_ns, .id = id, .protocol = (u8)protocol};

	return bpf_map_update_elem(&http_streams, &key, &slot, BPF_ANY) == 0;
}

/* A request's header block is complete. false: they are trailers. */
static __always_inline bool http2_request(struct __sk_buff *skb, struct http_socket *c,
					  struct http2_socket *h, struct http2_direction *d)
{
	u8 protocol = d->fields.grpc ? BALLAST_PROTOCOL_GRPC : BALLAST_PROTOCOL_HTTP2;
	struct ballast_request_value *row;
	struct http2_slot *slot;
	u32 id = d->stream;
	bool spilled = false;

	/* What does not open a stream is trailers (RFC 9113, 5.1.1 and 8.1). */
	if (!(id & 1) || id <= h->max_id || (h->adopted && d->fields.side != HPACK_REQUEST))
		return false;
	if (h->missed && id - h->max_id > 2) {
		h->hole_from = h->max_id + 1;
		h->hole_to = id;
	}
	h->max_id = id;
	h->speaks = protocol;
	slot = http2_find(h->slots, id, 0);
	if (slot) {
		slot->start_ns = d->first_ns;
		slot->status = 0;
		slot->protocol = protocol;
		slot->answered = 0;
	} else {
		spilled = http2_spill(skb, id, d->first_ns, protocol);
		if (!spilled)
			count_loss(BALLAST_LOSS_PIPELINE_OVERFLOW, 1, 0);
	}
	bpf_spin_lock(&h->lock);
	h->open[protocol]++;
	if (slot)
		slot->id = id;
	else if (spilled)
		h->spilled++;
	else
		h->untracked[protocol]++;
	bpf_spin_unlock(&h->lock);
	row = http_row(c, protocol);
	if (row) {
		counter_add(row->requests, 1);
		row->last_seen_ns = d->first_ns;
	}
	return true;
}

/* Closes the stream. false: somebody else did. */
static __always_inline bool http2_take(struct http2_socket *h, struct http2_slot *slot, u32 id,
				       u8 protocol)
{
	bool taken = false;

	bpf_spin_lock(&h->lock);
	if (slot->id == id) {
		slot->id = 0;
		if (h->open[protocol]) {
			h->open[protocol]--;
			if (slot->answered && h->answering[protocol])
				h->answering[protocol]--;
			taken = true;
		}
	}
	bpf_spin_unlock(&h->lock);
	return taken;
}

static __always_inline void http2_count_answer(struct ballast_request_value *row, u8 protocol,
					       u32 status, u32 grpc_status)
{
	u32 class = status / 100;

	opaque(class);
	if (class >= BALLAST_STATUS_CLASSES)
		class = 0;
	counter_add(row->status[class], 1);
	if (protocol == BALLAST_PROTOCOL_GRPC) {
		opaque(grpc_status);
		if (grpc_status >= BALLAST_GRPC_STATUSES)
			grpc_status = HPACK_GRPC_UNKNOWN;
		counter_add(row->grpc_status[grpc_status], 1);
	}
}

/* Whether an answer to a request that nobody saw is to one whose head lay in a gap: one answer a
 * gap, as of HTTP/1, and of ids that no request had. REQUIRES: the lock. */
static __always_inline bool http2_answers_missed(struct http2_socket *h, u32 id)
{
	if (!h->missed || (id <= h->max_id && (id < h->hole_from || id >= h->hole_to)) ||
	    (h->upgraded && id == 1))
		return false;
	h->missed--;
	return true;
}

/* The end of an answer whose request has no slot: one beyond the table, or none that we saw. */
static __always_inline void http2_untracked_end(struct http_socket *c, struct http2_socket *h,
						struct http2_direction *d, u32 status)
{
	u8 protocol = 0;
	struct ballast_request_value *row;
	bool missed = false;

	bpf_spin_lock(&h->lock);
	if (h->untracked[BALLAST_PROTOCOL_GRPC])
		protocol = BALLAST_PROTOCOL_GRPC;
	else if (h->untracked[BALLAST_PROTOCOL_HTTP2])
		protocol = BALLAST_PROTOCOL_HTTP2;
	if (protocol) {
		h->untracked[protocol]--;
		h->open[protocol]--;
	} else {
		missed = http2_answers_missed(h, d->stream);
	}
	bpf_spin_unlock(&h->lock);
	if (missed) { /* counts for both */
		protocol = http2_protocol(h->speaks);
		count_loss(BALLAST_LOSS_IN_DOUBT, 1, 0);
	}
	if (protocol) {
		row = http_row(c, protocol);
		if (row)
			http2_count_answer(row, protocol, status, HPACK_GRPC_UNKNOWN);
		if (row && missed)
			counter_add(row->requests, 1);
	} else if (!(h->upgraded && d->stream == 1)) {
		count_loss(BALLAST_LOSS_UNMATCHED_RESPONSE, 1, 0);
	}
}

/* Of a stream that was taken. */
static __always_inline void http2_count_end(struct http_socket *c, u8 protocol, u64 start_ns,
					    u32 statuses, u64 now)
{
	struct ballast_request_value *row = http_row(c, protocol);

	if (!row)
		return;
	if (now >= start_ns)
		latency_add(&row->last_byte, now - start_ns);
	http2_count_answer(row, protocol, statuses & 0xffff, statuses >> 16);
}

static __always_inline void http2_answered(struct __sk_buff *skb, struct http_socket *c,
					   struct http2_socket *h, struct http2_slot *slot, u32 id,
					   u32 grpc_status, u64 now)
{
	u8 protocol = http2_protocol(slot->protocol);
	u32 statuses = slot->status | grpc_status << 16;
	u64 start_ns = slot->start_ns;

	if (!http2_take(h, slot, id, protocol))
		return;
	http2_count_end(c, protocol, start_ns, statuses, now);
	if (span_every)
		span_stream_answered(skb, id, now, statuses, protocol);
}

/* The final head of an answer, of which this is the first byte. */
static __always_inline void http2_answer_begins(struct __sk_buff *skb, struct http_socket *c,
						struct http2_socket *h, struct http2_slot *slot,
						struct http2_direction *d, u64 now)
{
	u8 protocol = http2_protocol(slot->protocol);
	u32 status = d->fields.status;
	struct ballast_request_value *row;

	slot->answered = 1;
	slot->status = status;
	bpf_spin_lock(&h->lock);
	h->answering[protocol]++;
	bpf_spin_unlock(&h->lock);
	row = http_row(c, protocol);
	if (row && d->first_ns >= slot->start_ns)
		latency_add(&row->first_byte, d->first_ns - slot->start_ns);
	call_answered(skb, &c->call, c->cgroup_id, c->role, protocol, 0, slot->start_ns,
		      d->first_ns, now, status);
}

/* `count` requests that will have no answer, of which `unanswered` had not begun to have one.
 * `given_up`: by the end that asked. */
static __always_inline void http2_give_back(struct http_socket *c, u8 protocol, u32 count,
					    u32 unanswered, bool given_up)
{
	struct ballast_request_value *row = http_row(c, protocol);

	if (!row)
		return;
	counter_add(row->in_flight, -(s64)count);
	opaque(unanswered);
	if (given_up)
		counter_add(row->abandoned, unanswered);
	else
		counter_add(row->no_answer, unanswered);
}

/* RST_STREAM took a stream. Whoever answers owes the rest, too, of an answer that has begun. */
static __always_inline void http2_reset(struct http_socket *c, u8 protocol, bool answered,
					bool given_up)
{
	count_loss(BALLAST_LOSS_STREAM_RESET, 1, 0);
	http2_give_back(c, protocol, 1, !(given_up && answered), given_up);
}

/* The stream of this direction's frame, where it is in http_streams. */
static __always_inline struct http2_slot *http2_find_spilled(struct __sk_buff *skb,
							     struct http2_stream_key *key, u32 id)
{
	key->socket = bpf_get_socket_cookie(skb);
	key->id = id;
	return bpf_map_lookup_elem(&http_streams, key);
}

/* The head of an answer to a stream that may be in http_streams, or its trailers. 1: it is there.
 */
__noinline int http2_spilled_head(struct __sk_buff *skb, u32 ingress, u64 now)
{
	struct http2_stream_key key = {};
	struct bpf_sock *sk = skb->sk;
	struct http2_direction *d;
	struct http2_slot *slot;
	struct http2_socket *h;
	struct http_socket *c;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!c || !h)
		return 0;
	d = ingress ? &h->rx : &h->tx;
	slot = http2_find_spilled(skb, &key, d->stream);
	if (slot && !slot->answered)
		http2_answer_begins(skb, c, h, slot, d, now);
	return slot != NULL;
}

/* The end of one, by END_STREAM or RST_STREAM. A span of it is not published: the stack has no room
 * left for that. */
__noinline int http2_spilled_end(struct __sk_buff *skb, u32 ingress, u32 grpc_status, u64 now)
{
	struct http2_stream_key key = {};
	struct bpf_sock *sk = skb->sk;
	struct http2_slot *slot;
	struct http2_socket *h;
	struct http_socket *c;
	u8 protocol, answered;
	u64 start_ns;
	u32 status;
	bool reset;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!c || !h)
		return 0;
	reset = (ingress ? h->rx.type : h->tx.type) == HTTP2_RST_STREAM;
	slot = http2_find_spilled(skb, &key, ingress ? h->rx.stream : h->tx.stream);
	if (!slot)
		return 0;
	protocol = http2_protocol(slot->protocol);
	answered = slot->answered;
	start_ns = slot->start_ns;
	status = slot->status;
	if (bpf_map_delete_elem(&http_streams, &key))
		return 1;
	bpf_spin_lock(&h->lock);
	if (h->spilled)
		h->spilled--;
	if (h->open[protocol])
		h->open[protocol]--;
	if (answered && h->answering[protocol])
		h->answering[protocol]--;
	bpf_spin_unlock(&h->lock);
	if (reset)
		http2_reset(c, protocol, answered, http_carries_requests(c, ingress));
	else
		http2_count_end(c, protocol, start_ns, status | grpc_status << 16, now);
	return 1;
}

/* A header block of an answer is complete: interim, final or trailers. */
static __always_inline void http2_answer_head(struct __sk_buff *skb, struct http_socket *c,
					      struct http2_socket *h, struct http2_direction *d,
					      bool ingress, u64 now)
{
	bool end = d->block_flags & HTTP2_END_STREAM;
	u32 status = d->fields.status;
	struct http2_slot *slot;
	u32 id = d->stream;

	if (!(id & 1) || status / 100 == 1)
		return;
	slot = http2_find(h->slots, id, id);
	if (!slot) {
		bool known = h->spilled && http2_spilled_head(skb, ingress, now);

		if (end && known)
			http2_spilled_end(skb, ingress, d->fields.grpc_status, now);
		else if (end)
			http2_untracked_end(c, h, d, status);
		return;
	}
	if (!slot->answered) {
		http2_answer_begins(skb, c, h, slot, d, now);
		if (span_every)
			span_first_byte(skb, id, d->first_ns);
	}
	if (end)
		http2_answered(skb, c, h, slot, id, d->fields.grpc_status, now);
}

static __always_inline void http2_abandoned(struct http_socket *c, u8 protocol, u32 count,
					    u32 unanswered, bool given_up)
{
	if (!count)
		return;
	count_loss(BALLAST_LOSS_ABANDONED, count, 0);
	http2_give_back(c, protocol, count, unanswered, given_up);
}

/* After a GOAWAY: the streams above `last_id` will never be answered, and were not begun: whoever
 * asked asks somebody else (RFC 9113, 6.8). */
__noinline int http2_away(struct __sk_buff *skb, u32 last_id)
{
	struct bpf_sock *sk = skb->sk;
	struct http2_socket *h;
	struct http_socket *c;
	u32 i;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!c || !h)
		return 0;
	/* Summed in memory, where the verifier does not follow. */
	h->dropped[BALLAST_PROTOCOL_HTTP2] = 0;
	h->dropped[BALLAST_PROTOCOL_GRPC] = 0;
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP2_STREAMS; i++) {
		struct http2_slot *slot = &h->slots[i];
		u8 protocol = http2_protocol(slot->protocol);
		u32 id = slot->id;

		if (id > last_id && http2_take(h, slot, id, protocol))
			h->dropped[protocol]++;
		http1_forget();
	}
	http2_abandoned(c, BALLAST_PROTOCOL_HTTP2, h->dropped[BALLAST_PROTOCOL_HTTP2], 0, false);
	http2_abandoned(c, BALLAST_PROTOCOL_GRPC, h->dropped[BALLAST_PROTOCOL_GRPC], 0, false);
	return 0;
}

/* Requests that nobody will answer any more. */
static __always_inline void http2_abandon(struct http_socket *c, struct http2_socket *h)
{
	bool given_up = http_requests_of(c)->finished;
	u32 http2, grpc, http2_begun, grpc_begun;

	bpf_spin_lock(&h->lock);
	http2 = h->open[BALLAST_PROTOCOL_HTTP2];
	grpc = h->open[BALLAST_PROTOCOL_GRPC];
	http2_begun = h->answering[BALLAST_PROTOCOL_HTTP2];
	grpc_begun = h->answering[BALLAST_PROTOCOL_GRPC];
	h->open[BALLAST_PROTOCOL_HTTP2] = 0;
	h->open[BALLAST_PROTOCOL_GRPC] = 0;
	h->untracked[BALLAST_PROTOCOL_HTTP2] = 0;
	h->untracked[BALLAST_PROTOCOL_GRPC] = 0;
	h->answering[BALLAST_PROTOCOL_HTTP2] = 0;
	h->answering[BALLAST_PROTOCOL_GRPC] = 0;
	h->spilled = 0;
	bpf_spin_unlock(&h->lock);
	/* Streams whose answer has begun end with their connection: that is how watches end. */
	http2_abandoned(c, BALLAST_PROTOCOL_HTTP2, http2, http2 - http2_begun, given_up);
	http2_abandoned(c, BALLAST_PROTOCOL_GRPC, grpc, grpc - grpc_begun, given_up);
}

/* Of the frame that was read last, with its header. */
static __always_inline u32 http2_frame_size(const struct http2_direction *d)
{
	return HTTP2_FRAME_HEADER +
	       ((u32)d->header[0] << 16 | (u32)d->header[1] << 8 | d->header[2]);
}

/* `end`: where in the packet what caused it ends. */
static __always_inline void http2_event(struct __sk_buff *skb, struct http_socket *c,
					struct http2_socket *h, bool ingress, int event, u32 end,
					u64 now)
{
	struct http2_direction *d = ingress ? &h->rx : &h->tx;
	struct http2_slot *slot;
	u32 id = d->stream;

	if (event == HTTP2_STARTED)
		http_speaks(c, true, ingress);
	if (event == HTTP2_HEAD && d->fields.side != HPACK_NO_SIDE)
		http_speaks(c, d->fields.side == HPACK_REQUEST, ingress);
	if (c->class != HTTP_SPOKEN)
		return;
	if (event == HTTP2_HEAD && http_carries_requests(c, ingress)) {
		c->call.inserted = d->fields.before;
		if (http2_request(skb, c, h, d))
			call_opened(skb, &c->call, c->role, ingress,
				    end < HTTP_KEPT ? end - http2_frame_size(d) : 0, id,
				    d->first_ns);
	} else if (event == HTTP2_HEAD) {
		http2_answer_head(skb, c, h, d, ingress, now);
	} else if (event == HTTP2_RESET) {
		slot = http2_find(h->slots, id, id);
		if (slot) {
			u8 protocol = http2_protocol(slot->protocol);
			bool answered = slot->answered;

			if (http2_take(h, slot, id, protocol))
				http2_reset(c, protocol, answered,
					    http_carries_requests(c, ingress));
		} else if (h->spilled) {
			http2_spilled_end(skb, ingress, HPACK_GRPC_UNKNOWN, now);
		}
	} else if (event == HTTP2_DATA_END && !http_carries_requests(c, ingress) && (id & 1)) {
		slot = http2_find(h->slots, id, id);
		if (slot)
			http2_answered(skb, c, h, slot, id, HPACK_GRPC_UNKNOWN, now);
		else if (!h->spilled || !http2_spilled_end(skb, ingress, HPACK_GRPC_UNKNOWN, now))
			http2_untracked_end(c, h, d, 0);
	} else if (event == HTTP2_AWAY && !http_carries_requests(c, ingress)) {
		if (d->last_id < h->max_id)
			http2_away(skb, d->last_id);
	}
}

/* What is here is no frame. */
static __always_inline void http2_lost(struct http_socket *c, struct http2_socket *h, u32 bytes)
{
	http_lost(c, bytes);
	if (c->class != HTTP_SPOKEN) { /* then it never was HTTP/2 */
		c->mode = HTTP_MODE_1;
		h->rx.state = HTTP2_NEW;
		h->tx.state = HTTP2_NEW;
	}
}

/* As http1_window(). */
static __always_inline u32 http2_window(struct __sk_buff *skb, struct http_socket *c,
					struct http2_socket *h, struct http1_window *w,
					bool ingress, u32 offset, u64 now)
{
	struct http2_direction *d = ingress ? &h->rx : &h->tx;
	u32 begin, left;
	int event;

	if (!http_window(skb, w, ingress, offset))
		return skb->len;
	begin = offset - w->pos;
	left = w->left;
	event = http2_run(d, w, left, now);
	if (event == HTTP2_BAD) {
		http2_lost(c, h, left);
		return skb->len;
	}
	if (event != HTTP2_MORE)
		http2_event(skb, c, h, ingress, event, begin + w->pos, now);
	return begin + w->pos;
}

__noinline int http2_window_rx(struct __sk_buff *skb, u32 offset, u64 now)
{
	u32 zero = 0;
	struct http1_window *w = bpf_map_lookup_elem(&rx_window, &zero);
	struct bpf_sock *sk = skb->sk;
	struct http2_socket *h;
	struct http_socket *c;

	if (!sk || !w || offset >= http_end(skb, true, offset))
		return -1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!c || !h)
		return -1;
	return (int)http2_window(skb, c, h, w, true, offset, now);
}

__noinline int http2_window_tx(struct __sk_buff *skb, u32 offset, u64 now)
{
	struct bpf_sock *sk = skb->sk;
	struct http2_socket *h;
	struct http_socket *c;

	if (!sk || offset >= skb->len)
		return -1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!c || !h)
		return -1;
	return (int)http2_window(skb, c, h, &c->tx_window, false, offset, now);
}

/* Gives the offset from which on another walk is needed, or the packet's end. `last`: there will be
 * none. */
static __always_inline u32 http2_walk(struct __sk_buff *skb, struct http_socket *c, bool ingress,
				      u32 offset, u32 last)
{
	struct bpf_sock *sk = skb->sk;
	u32 end = http_end(skb, ingress, offset);
	struct http2_direction *d;
	struct http2_socket *h;
	u32 len = end - offset;
	struct http_piece *kept;
	u64 now;
	u32 i;

	if (!sk)
		return skb->len;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!h)
		return skb->len;
	d = ingress ? &h->rx : &h->tx;
	/* The inside of a DATA frame, which most bytes are. */
	if (d->state == HTTP2_SKIP && len < d->length) {
		d->length -= len;
		return skb->len;
	}
	if (d->state == HTTP2_NEW) {
		http2_take_over(d, ingress ? &c->rx.stream : &c->tx.stream);
		d->strict = h->adopted;
	} else if (d->state == HTTP2_LOST) {
		http2_resume(d);
	}
	kept = http_piece_at(ingress, offset);
	now = kept ? kept->came_ns : http_now(skb, ingress);
#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP2_MAX_WINDOWS; i++) {
		int next = ingress ? http2_window_rx(skb, offset, now)
				   : http2_window_tx(skb, offset, now);

		if (next < 0)
			return skb->len;
		offset = (u32)next;
		if (offset >= end)
			return offset;
	}
	if (last) {
		count_loss(BALLAST_LOSS_TRUNCATED, 1, end - offset);
		http2_lose(d);
	}
	return offset;
}

static __always_inline int http2_packet(struct __sk_buff *skb, u32 offset, u32 last, bool ingress)
{
	struct http_socket *c = http_socket_of(skb);

	return c && offset < http_end(skb, ingress, offset)
		       ? (int)http2_walk(skb, c, ingress, offset, last)
		       : (int)skb->len;
}

__noinline int http2_packet_rx(struct __sk_buff *skb, u32 offset, u32 last)
{
	return http2_packet(skb, offset, last, true);
}

__noinline int http2_packet_tx(struct __sk_buff *skb, u32 offset, u32 last)
{
	return http2_packet(skb, offset, last, false);
}

static __always_inline u32 http2_payload(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					 u32 offset)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 1; i <= HTTP2_MAX_WALKS && offset < skb->len; i++)
		offset = ingress ? http2_packet_rx(skb, offset, i == HTTP2_MAX_WALKS)
				 : http2_packet_tx(skb, offset, i == HTTP2_MAX_WALKS);
	return skb->len;
}

static __always_inline bool http2_gap_harmless(struct __sk_buff *skb, struct http_socket *c,
					       bool ingress, u32 gap)
{
	struct bpf_sock *sk = skb->sk;
	struct http2_socket *h;

	if (!sk)
		return false;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	return h && http2_skips(ingress ? &h->rx : &h->tx, gap);
}

static __always_inline void http2_gap(struct __sk_buff *skb, struct http_socket *c, bool ingress,
				      u32 gap)
{
	struct bpf_sock *sk = skb->sk;
	struct http2_direction *d;
	struct http2_socket *h;

	if (!sk)
		return;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!h)
		return;
	d = ingress ? &h->rx : &h->tx;
	if (http2_skips(d, gap)) {
		d->length -= gap;
		return;
	}
	count_loss(BALLAST_LOSS_GAP, 1, gap);
	if (http_carries_requests(c, ingress)) {
		bpf_spin_lock(&h->lock);
		h->missed++;
		bpf_spin_unlock(&h->lock);
	}
	http2_lose(d);
}

static __always_inline void http2_finish(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					 u32 flags)
{
	struct bpf_sock *sk = skb->sk;
	struct http2_socket *h;

	h = sk && c->mode == HTTP_MODE_2 ? bpf_sk_storage_get(&http2_sockets, sk, NULL, 0) : NULL;
	if (h)
		http2_abandon(c, h);
}

static __always_inline void http2_close(struct sock *sk, struct http_socket *c)
{
	struct http2_socket *h =
		c->mode == HTTP_MODE_2 ? bpf_sk_storage_get(&http2_sockets, sk, NULL, 0) : NULL;

	if (h)
		http2_abandon(c, h);
}

/* The HTTP/1 parser met the preface or what may be a frame's header. false: it is none, or there
 * is no room to follow it. */
static __always_inline bool http2_switch(struct __sk_buff *skb, struct http_socket *c, bool ingress)
{
	struct http1_stream *s = ingress ? &c->rx.stream : &c->tx.stream;
	bool framed = s->state == HTTP1_FRAME;
	struct bpf_sock *sk = skb->sk;
	struct http2_direction *d;
	struct http2_socket *h;
	int event;

	if (!sk)
		return false;
	/* Only a connection met in mid-life may begin with another frame than SETTINGS. */
	if (framed && c->class != HTTP_ADOPTED && (u8)(s->token >> 40) != HTTP2_SETTINGS)
		return false;
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!h && !c->early) {
		if (!http_follow(c->born_in, BALLAST_HTTP2_KB)) {
			count_loss(BALLAST_LOSS_NO_STORAGE, 1, 0);
			c->class = HTTP_NOT;
			return false;
		}
		c->kb += BALLAST_HTTP2_KB;
	}
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!h) /* both directions may come to this at once: one is refused */
		h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (!h) {
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, 0);
		return false;
	}
	h->adopted = c->class == HTTP_ADOPTED;
	h->upgraded = c->upgrade == HTTP1_UPGRADED;
	d = ingress ? &h->rx : &h->tx;
	d->strict = 1;
	event = http2_take_over(d, s);
	if (event == HTTP2_BAD)
		return false;
	c->mode = HTTP_MODE_2;
	if (event != HTTP2_MORE)
		http2_event(skb, c, h, ingress, event, 0, 0);
	return true;
}

#endif
