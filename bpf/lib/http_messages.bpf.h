/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_MESSAGES_BPF_H
#define BALLAST_HTTP_MESSAGES_BPF_H

/* What the HTTP/1 parser found, in counters and histograms. */

#include "bpf/lib/calls.bpf.h"
#include "bpf/lib/http_socket.bpf.h"

/* The first line of a message is known. false: it runs the wrong way. */
static __always_inline bool http_opened(struct http_socket *c, struct http_direction *d,
					bool ingress)
{
	struct http1_stream *s = &d->stream;
	struct ballast_request_value *row;
	bool request = s->kind == HTTP1_REQUEST;
	u32 left;

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
	left = http1_settle(&c->pipeline);
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

/* An answer in doubt, or one to which no request waits: counted where that is right, never timed. A
 * function of its own: it is rare, and the verifier walks it once. */
__noinline int http_untimed(struct __sk_buff *skb, u32 ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct ballast_request_value *row;
	struct http1_pipeline *p;
	struct http_direction *d;
	struct http_socket *c;
	u32 status;

	c = sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
	if (!c)
		return 0;
	d = ingress ? &c->rx : &c->tx;
	p = &c->pipeline;
	status = d->stream.status;
	d->answered_ns = 0;
	/* In doubt it is for a request that was missed, and counts for both. So it does where no
	 * request was seen yet: that one came before us, or with the handshake's last segment, when
	 * there was no socket to see it by. 408 is a server's last word on an idle connection. */
	if (!http1_waiting(p) && !http1_in_doubt(p) && (p->begun || status == 408)) {
		count_loss(BALLAST_LOSS_UNMATCHED_RESPONSE, 1, 0);
		if (status != 408) {
			p->manners = HTTP1_PIPELINES;
			http1_doubt(p);
		}
		return 0;
	}
	count_loss(BALLAST_LOSS_IN_DOUBT, 1, 0);
	row = http_row(c, BALLAST_PROTOCOL_HTTP1);
	if (row)
		http_count_answer(row, status / 100);
	if (row && !http1_waiting(p))
		counter_add(row->requests, 1);
	call_answered(skb, &c->call, c->cgroup_id, c->role, BALLAST_PROTOCOL_HTTP1, 0, 0, 0,
		      http_now(skb, ingress), status);
	if (http1_waiting(p))
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

#endif
