/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP1_PIPELINE_H
#define BALLAST_HTTP1_PIPELINE_H

/* Which request of an HTTP/1 connection an answer is for. Compiled for BPF and in userland. */

#include "bpf/lib/http1.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#endif

/* The requests that wait for their answers, oldest first. The direction that carries requests
 * writes `begun`, the other one `ended` and `answers`: no lock. A request beyond the FIFO's depth
 * is counted all the same; only its start is forgotten.
 *
 * Bytes that were never seen may have held heads, and then nobody can say which of the requests an
 * answer is for. From there on the FIFO is in doubt: answers are counted, and nothing is timed.
 * What ends the doubt is a request of a client that waits for its answers, after an answer that
 * came since the request before: nothing else is out then. That a client waits has to have been
 * seen before the doubt, for one that always has two requests out looks the same afterwards. */
#define HTTP1_PIPELINE 16

enum http1_manners {
	HTTP1_UNTRIED = 0,
	HTTP1_WAITS,     /* a request began when none was out */
	HTTP1_PIPELINES, /* a request began while another was out: never to be trusted again */
};

struct http1_slot {
	u64 start_ns;
	u32 ordinal;
	u32 flags;
};

struct http1_pipeline {
	u32 begun;
	u32 ended;
	u32 answers; /* complete ones, in doubt too */
	u32 doubts;  /* anybody adds to it */
	u32 settled; /* doubts that are over. This and the rest: the direction of the requests */
	u32 last_answers; /* `answers` and `doubts` when the last request began */
	u32 last_doubts;
	u32 manners; /* enum http1_manners */
	s32 missed;  /* gaps that may have held a request's head, whose answer did not come yet;
		      * anybody adds to it */
	u32 pad;
	struct http1_slot lone; /* of a request that began when none was out, as most do: beside
				 * what is read with it */
	struct http1_slot slots[HTTP1_PIPELINE];
};

HTTP1_INLINE u32 http1_waiting(const struct http1_pipeline *p)
{
	return p->begun - p->ended;
}

HTTP1_INLINE int http1_in_doubt(const struct http1_pipeline *p)
{
	return p->doubts != p->settled;
}

/* Heads may have been missed, in either direction. */
HTTP1_INLINE void http1_doubt(struct http1_pipeline *p)
{
	/* Atomic, its result not used: kernels before 5.12 have no other. */
	(void)__sync_fetch_and_add(&p->doubts, 1);
}

/* Bytes of the direction of the requests were never seen: one of them may have been a head. */
HTTP1_INLINE void http1_missed(struct http1_pipeline *p)
{
	(void)__sync_fetch_and_add(&p->missed, 1);
}

/* Whether an answer to which no request waits may be to one that was missed: one answer a gap, or
 * whoever answers unasked would have done work. */
HTTP1_INLINE int http1_answers_missed(struct http1_pipeline *p)
{
	if (http1_waiting(p) || p->missed <= 0) /* below: settled in the moment between */
		return 0;
	(void)__sync_fetch_and_add(&p->missed, -1);
	return 1;
}

/* Whether the body that is due may be kept back, as its request was answered before it began: what
 * comes may be the next request. */
HTTP1_INLINE int http1_kept_back(const struct http1_stream *s, const struct http1_pipeline *p)
{
	return http1_expects(s) && !http1_waiting(p);
}

/* Whether bytes that were never seen are the inside of a body, where nothing is missed. */
HTTP1_INLINE int http1_gap_inside(const struct http1_stream *s, const struct http1_pipeline *p,
				  u64 bytes)
{
	return http1_skips(s, bytes) && !http1_kept_back(s, p);
}

/* A request begins: before http1_push(). Gives how many requests lost their answers, for a doubt
 * that ends here; they wait no more. `midway`: the other direction is inside a message. Whoever
 * waits for answers has had them whole, so it is misread (an answer to HEAD, of which nobody knows
 * in doubt) and its end says nothing. */
HTTP1_INLINE u32 http1_settle(struct http1_pipeline *p, int midway)
{
	u32 answers = p->answers;
	u32 doubts = p->doubts;
	u32 left = 0;

	if (doubts == p->last_doubts && answers == p->last_answers && p->begun)
		p->manners = HTTP1_PIPELINES;
	if (doubts == p->settled && p->begun && !http1_waiting(p) && p->manners == HTTP1_UNTRIED)
		p->manners = HTTP1_WAITS;
	if (doubts != p->settled && doubts == p->last_doubts && answers != p->last_answers &&
	    p->manners == HTTP1_WAITS && !midway) {
		left = http1_waiting(p);
		/* The other direction has nothing to end now. */
		p->ended = p->begun;
		p->settled = doubts;
		p->missed = 0;
	}
	p->last_answers = answers;
	p->last_doubts = doubts;
	return left;
}

/* 0: no room to remember the start. */
HTTP1_INLINE int http1_push(struct http1_pipeline *p, u64 start_ns, u8 flags)
{
	u32 ordinal = p->begun;
	u32 waiting = ordinal - p->ended;
	struct http1_slot *slot = &p->lone;
	int room = waiting < HTTP1_PIPELINE;

	if (waiting)
		slot = &p->slots[ordinal & (HTTP1_PIPELINE - 1)];
	if (room) {
		slot->start_ns = start_ns;
		slot->flags = flags;
		slot->ordinal = ordinal + 1; /* 0 is an empty slot */
	}
	p->begun = ordinal + 1;
	return room;
}

/* When the request that is answered now began, and its flags; 0 when that is not known. */
HTTP1_INLINE u64 http1_oldest(struct http1_pipeline *p, u8 *flags)
{
	u32 ordinal = p->ended;
	struct http1_slot *slot = &p->lone;

	*flags = 0;
	if (slot->ordinal != ordinal + 1)
		slot = &p->slots[ordinal & (HTTP1_PIPELINE - 1)];
	if (ordinal == p->begun || slot->ordinal != ordinal + 1 || http1_in_doubt(p))
		return 0;
	*flags = (u8)slot->flags;
	return slot->start_ns;
}

/* Whether the request that was answered last was one whose method says nothing of its answer's
 * body. 0 too where that is forgotten. */
HTTP1_INLINE int http1_plainly_asked(const struct http1_pipeline *p)
{
	u32 ordinal = p->ended;
	const struct http1_slot *slot = &p->lone;

	if (slot->ordinal != ordinal)
		slot = &p->slots[(ordinal - 1) & (HTTP1_PIPELINE - 1)];
	return slot->ordinal == ordinal && !slot->flags;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
