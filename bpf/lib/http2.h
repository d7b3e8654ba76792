/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP2_H
#define BALLAST_HTTP2_H

/* Streaming HTTP/2 parser for one direction of one connection (RFC 9113): follows the frames and
 * reports what begins and ends a request or an answer. Frames alone decide what is counted and
 * timed; the header fields (bpf/lib/hpack.h) only say what is known about it.
 *
 * As http1.h: compiled for BPF and in userland, state in memory, a stream may be cut at any byte,
 * a packet may hold many frames. The windows are the same.
 */

#include "bpf/lib/hpack.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#endif

/* Steps in one run: what one window of small frames takes. See HTTP1_STEPS. */
#define HTTP2_STEPS 32

enum http2_frame {
	HTTP2_DATA = 0,
	HTTP2_HEADERS = 1,
	HTTP2_PRIORITY = 2,
	HTTP2_RST_STREAM = 3,
	HTTP2_SETTINGS = 4,
	HTTP2_PUSH_PROMISE = 5,
	HTTP2_PING = 6,
	HTTP2_GOAWAY = 7,
	HTTP2_WINDOW_UPDATE = 8,
	HTTP2_CONTINUATION = 9,
};

enum http2_flag {
	HTTP2_END_STREAM = 0x1,
	HTTP2_ACK = 0x1,
	HTTP2_END_HEADERS = 0x4,
	HTTP2_PADDED = 0x8,
	HTTP2_HAS_PRIORITY = 0x20,
};

enum http2_state {
	HTTP2_NEW = 0,    /* nothing seen of this direction: http2_take_over() */
	HTTP2_IN_PREFACE, /* `count` bytes of it were seen */
	HTTP2_HEADER,     /* gathers a frame's header */
	HTTP2_LEAD,       /* pad length, priority, promised or last stream id */
	HTTP2_BLOCK,      /* header fields */
	HTTP2_SKIP,       /* the rest of the payload */
	HTTP2_LOST,       /* out of step: the next packet may begin with a frame */
};

enum http2_event {
	HTTP2_MORE = 0,
	HTTP2_STARTED,  /* the client's preface: this direction carries requests */
	HTTP2_HEAD,     /* a header block is complete: stream, block_flags, fields */
	HTTP2_DATA_END, /* the stream's last DATA frame is complete */
	HTTP2_RESET,    /* RST_STREAM */
	HTTP2_AWAY,     /* GOAWAY: streams above last_id will not be answered */
	HTTP2_BAD,      /* no frame can be here; state HTTP2_LOST */
};

/* Larger frames than peers send unasked are not believed when we look for the step. */
#define HTTP2_DEFAULT_FRAME 16384

struct http2_direction {
	struct hpack_decoder fields;
	u64 first_ns; /* when the first byte of the last HEADERS frame came */
	u32 length;   /* payload of this frame that is still to come */
	u32 stream;   /* of this frame */
	u32 last_id;  /* of GOAWAY */
	u8 header[16];
	u8 state; /* enum http2_state */
	u8 type;  /* enum http2_frame */
	u8 flags; /* of this frame */
	u8 count; /* bytes of the preface or of a frame's header */
	u8 lead;  /* bytes of it still to come */
	u8 padding;
	u8 padded;      /* the pad length is still to come */
	u8 in_block;    /* nothing but its CONTINUATION may follow */
	u8 block_flags; /* of the HEADERS frame that began the block */
	u8 block_type;
	u8 strict; /* looking for the step: only believe what is likely */
	u8 fresh;  /* its first byte tells whether it begins with the preface */
};

HTTP1_INLINE int http2_bad(struct http2_direction *d)
{
	if (d->in_block)
		hpack_forget(&d->fields);
	d->in_block = 0;
	d->strict = 1;
	d->state = HTTP2_LOST;
	return HTTP2_BAD;
}

/* A payload is complete. */
HTTP1_INLINE int http2_frame_end(struct http2_direction *d)
{
	d->state = HTTP2_HEADER;
	d->count = 0;
	d->strict = 0;
	if (d->type == HTTP2_DATA)
		return d->flags & HTTP2_END_STREAM ? HTTP2_DATA_END : HTTP2_MORE;
	if (d->type == HTTP2_RST_STREAM)
		return HTTP2_RESET;
	if (d->type == HTTP2_GOAWAY)
		return HTTP2_AWAY;
	if (d->in_block && (d->flags & HTTP2_END_HEADERS)) {
		d->in_block = 0;
		hpack_end(&d->fields);
		return d->block_type == HTTP2_HEADERS ? HTTP2_HEAD : HTTP2_MORE;
	}
	return HTTP2_MORE;
}

/* Some of the payload was eaten, or it begins. */
HTTP1_INLINE int http2_settle(struct http2_direction *d)
{
	if (d->state == HTTP2_IN_PREFACE)
		return HTTP2_MORE;
	if (!d->length)
		return http2_frame_end(d);
	if (d->state == HTTP2_BLOCK && d->length <= d->padding)
		d->state = HTTP2_SKIP;
	return HTTP2_MORE;
}

/* Whether type, length and stream go together (RFC 9113, 6). */
HTTP1_INLINE int http2_plausible(u8 type, u8 flags, u32 length, u32 stream, u8 strict)
{
	if (strict && (type > HTTP2_WINDOW_UPDATE || length > HTTP2_DEFAULT_FRAME))
		return 0;
	if (type == HTTP2_WINDOW_UPDATE)
		return length == 4;
	if (type == HTTP2_SETTINGS)
		return !stream && length % 6 == 0 && (!(flags & HTTP2_ACK) || !length) &&
		       (!strict || !(flags & ~HTTP2_ACK));
	if (type == HTTP2_PING)
		return !stream && length == 8;
	if (type == HTTP2_GOAWAY)
		return !stream && length >= 8;
	if (type > HTTP2_CONTINUATION) /* extensions are passed over (RFC 9113, 5.5) */
		return 1;
	if (!stream)
		return 0;
	if (type == HTTP2_PRIORITY)
		return length == 5;
	if (type == HTTP2_RST_STREAM)
		return length == 4;
	return 1;
}

/* A header block begins, or a frame whose first bytes are of interest. */
HTTP1_INLINE int http2_begin_payload(struct http2_direction *d)
{
	u8 lead = 0;

	d->padding = 0;
	d->padded = 0;
	d->state = HTTP2_SKIP;
	if (d->type == HTTP2_GOAWAY) {
		lead = 4;
		d->last_id = 0;
	} else if (d->type == HTTP2_HEADERS || d->type == HTTP2_PUSH_PROMISE) {
		d->padded = !!(d->flags & HTTP2_PADDED);
		lead = d->padded;
		if (d->type == HTTP2_PUSH_PROMISE)
			lead += 4;
		else if (d->flags & HTTP2_HAS_PRIORITY)
			lead += 5;
		if (d->length < lead)
			return http2_bad(d);
		d->in_block = 1;
		d->block_type = d->type;
		d->block_flags = d->flags;
		hpack_begin(&d->fields);
		d->state = HTTP2_BLOCK;
	} else if (d->type == HTTP2_CONTINUATION) {
		d->state = HTTP2_BLOCK;
	}
	d->lead = lead;
	if (lead)
		d->state = HTTP2_LEAD;
	return HTTP2_MORE;
}

/* The nine bytes of a frame's header are in d->header. */
HTTP1_INLINE int http2_begin_frame(struct http2_direction *d)
{
	const u8 *h = d->header;
	u32 stream = (u32)(h[5] & 0x7f) << 24 | (u32)h[6] << 16 | (u32)h[7] << 8 | h[8];
	u8 type = h[3];

	d->length = (u32)h[0] << 16 | (u32)h[1] << 8 | h[2];
	if (d->in_block != (type == HTTP2_CONTINUATION) || (d->in_block && stream != d->stream))
		return http2_bad(d);
	if (!http2_plausible(type, h[4], d->length, stream, d->strict))
		return http2_bad(d);
	d->type = type;
	d->flags = h[4];
	d->stream = stream;
	return http2_begin_payload(d);
}

HTTP1_INLINE int http2_lead_step(struct http2_direction *d, u8 c)
{
	if (d->padded) {
		d->padding = c;
		d->padded = 0;
	} else if (d->type == HTTP2_GOAWAY) {
		d->last_id = d->last_id << 8 | c;
	}
	d->lead--;
	d->length--;
	if (!d->lead) {
		d->state = d->type == HTTP2_GOAWAY ? HTTP2_SKIP : HTTP2_BLOCK;
		if (d->state == HTTP2_BLOCK && d->padding > d->length)
			return http2_bad(d);
	}
	return HTTP2_MORE;
}

/* Part of a frame's header, or all of it when the window holds it; bytes eaten. */
HTTP1_INLINE u32 http2_header_step(struct http2_direction *d, struct http1_window *w, u32 pos,
				   u64 now)
{
	if (d->fresh) {
		d->fresh = 0;
		if (w->bytes[pos] == 'P') {
			d->state = HTTP2_IN_PREFACE;
			return 0;
		}
	}
	if (!d->count) {
		/* A block's time is that of its HEADERS frame. */
		if (!d->in_block)
			d->first_ns = now;
		if (pos + HTTP2_FRAME_HEADER <= w->end) {
			__builtin_memcpy(d->header, w->bytes + pos, 8);
			d->header[8] = w->bytes[pos + 8];
			d->count = HTTP2_FRAME_HEADER;
			return HTTP2_FRAME_HEADER;
		}
	}
	d->header[d->count & 15] = w->bytes[pos];
	d->count++;
	return 1;
}

HTTP1_INLINE int http2_preface_step(struct http2_direction *d, u8 c)
{
	if (http2_preface[d->count & 31] != c)
		return http2_bad(d);
	d->count++;
	if (d->count < HTTP2_PREFACE_SIZE)
		return HTTP2_MORE;
	d->state = HTTP2_HEADER;
	d->count = 0;
	return HTTP2_STARTED;
}

/* One step. `left` counts from the window's first byte to the packet's end.
 * REQUIRES: pos < end <= HTTP1_WINDOW. */
HTTP1_INLINE int http2_step(struct http2_direction *d, struct http1_window *w, u32 left, u64 now)
{
	u32 pos = w->pos & (HTTP1_WINDOW - 1);
	int event = HTTP2_MORE;
	u32 n = 1;

	if (d->state == HTTP2_BLOCK) {
		n = d->length - d->padding;
		if (n > w->end - pos)
			n = w->end - pos;
		n = hpack_step(&d->fields, w->bytes, pos, n);
		d->length -= n;
	} else if (d->state == HTTP2_SKIP) {
		n = left - pos;
		if (n > d->length)
			n = d->length;
		d->length -= n;
	} else if (d->state == HTTP2_HEADER) {
		n = http2_header_step(d, w, pos, now);
	} else if (d->state == HTTP2_LEAD) {
		event = http2_lead_step(d, w->bytes[pos]);
	} else if (d->state == HTTP2_IN_PREFACE) {
		event = http2_preface_step(d, w->bytes[pos]);
	} else {
		event = http2_bad(d);
	}
	w->pos = pos + n;
	http1_forget();
	if (event != HTTP2_MORE)
		return event;
	if (d->state == HTTP2_HEADER && d->count == HTTP2_FRAME_HEADER)
		event = http2_begin_frame(d);
	http1_forget();
	if (d->state == HTTP2_HEADER || event != HTTP2_MORE)
		return event;
	return http2_settle(d);
}

/* Steps until the window is eaten, something happened or the steps are used up: on HTTP2_MORE the
 * caller goes on from w->pos, which may lie behind the window. */
HTTP1_INLINE int http2_run(struct http2_direction *d, struct http1_window *w, u32 left, u64 now)
{
	int event = HTTP2_MORE;
	u32 i;

#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < HTTP2_STEPS; i++) {
		http1_forget();
		if (w->pos >= w->end)
			break;
		event = http2_step(d, w, left, now);
		if (event != HTTP2_MORE)
			break;
	}
	return event;
}

/* Goes on where the HTTP/1 parser recognised HTTP/2 or was still in doubt (state WORD, PREFACE or
 * FRAME); from any other state begins with the next byte. Gives HTTP2_STARTED when the preface is
 * complete, HTTP2_BAD when what was read is no frame's header. */
HTTP1_INLINE int http2_take_over(struct http2_direction *d, const struct http1_stream *s)
{
	u64 token = s->token;
	u32 i;

	d->state = HTTP2_HEADER;
	d->count = 0;
	d->first_ns = s->first_ns;
	if (s->state == HTTP1_PREFACE && s->count >= HTTP2_PREFACE_SIZE)
		return HTTP2_STARTED;
	if (s->state == HTTP1_PREFACE || s->state == HTTP1_WORD) {
		d->state = HTTP2_IN_PREFACE;
		d->count = s->count;
		return HTTP2_MORE;
	}
	if (s->state != HTTP1_FRAME) {
		d->fresh = 1;
		return HTTP2_MORE;
	}
	/* The token's last byte is the newest; byte 0 of the header was the zero that began it. */
	d->count = s->count;
	token <<= 8 * ((HTTP2_FRAME_HEADER - s->count) & 7);
	d->header[0] = 0;
	for (i = 1; i < HTTP2_FRAME_HEADER; i++)
		d->header[i] = (u8)(token >> 8 * (HTTP2_FRAME_HEADER - 1 - i));
	if (d->count < HTTP2_FRAME_HEADER)
		return HTTP2_MORE;
	i = (u32)http2_begin_frame(d);
	return i == HTTP2_MORE ? http2_settle(d) : (int)i;
}

/* Bytes that a gap in the stream may swallow without harm: the inside of a frame that is passed
 * over. */
HTTP1_INLINE int http2_skips(const struct http2_direction *d, u64 bytes)
{
	return d->state == HTTP2_SKIP && bytes < d->length;
}

/* Bytes are missing. */
HTTP1_INLINE void http2_lose(struct http2_direction *d)
{
	hpack_forget(&d->fields);
	d->in_block = 0;
	d->strict = 1;
	d->state = HTTP2_LOST;
}

/* A new packet after the step was lost. */
HTTP1_INLINE void http2_resume(struct http2_direction *d)
{
	d->state = HTTP2_HEADER;
	d->count = 0;
}

/* Streams that wait for their answers, by id; those that find no place here are kept elsewhere. A
 * slot has one writer of `id` != 0, the direction of the requests. */
#define HTTP2_STREAMS 128 /* a power of two */
#define HTTP2_PROBES  4
#define HTTP2_STRIDE  37 /* ids are consecutive, so neighbours are no place to look */

struct http2_slot {
	u64 start_ns;
	u32 id; /* 0: free */
	u16 status;
	u8 protocol; /* enum ballast_protocol */
	u8 answered; /* its first byte was seen */
};

/* The slot of `id`, or of none (0: a free one) where `id` may be kept; NULL when there is none. */
HTTP1_INLINE struct http2_slot *http2_find(struct http2_slot *slots, u32 id, u32 wanted)
{
	struct http2_slot *slot;
	u32 at = id >> 1;
	u32 i;

#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (i = 0; i < HTTP2_PROBES; i++) {
		slot = &slots[at & (HTTP2_STREAMS - 1)];
		if (slot->id == wanted)
			return slot;
		at += HTTP2_STRIDE;
	}
	return (struct http2_slot *)0;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
