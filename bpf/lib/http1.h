/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP1_H
#define BALLAST_HTTP1_H

/* Streaming HTTP/1.x parser for one direction of one connection (RFC 9112). It finds where
 * messages begin, where their heads end and where their bodies end, and reads nothing else.
 *
 * Written for the BPF verifier and compiled in userland too, for tests and fuzzing. All state
 * that lives from one step to the next is in memory (struct http1_stream and http1_window), never
 * in locals: the verifier then knows nothing about it, finds every round of the loop equal to the
 * one before, and checks the loop once. A stream may be cut at any byte.
 *
 * The caller hands in a window of the stream at a time (http1_run) until it has eaten the packet,
 * and acts on what comes back.
 */

#ifdef __bpf__
#include "bpf/lib/kernel.bpf.h"
#define HTTP1_INLINE static __attribute__((always_inline)) inline
/* One load: the kernel's verifier lets privileged programs read map memory unaligned wherever the
 * machine does. */
#define http1_load64(p)     (*(const u64 *)(p))
#define http1_store64(p, v) ((void)(*(u64 *)(p) = (v)))
/* Makes the compiler keep its state in memory, where the verifier does not follow it. */
#define http1_forget() asm volatile("" ::: "memory")
#else
#include <stdint.h>
#include <string.h>
typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
#define HTTP1_INLINE static inline
#endif

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#endif

#ifndef __bpf__
HTTP1_INLINE u64 http1_load64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, sizeof(v));
	return v;
}

HTTP1_INLINE void http1_store64(u8 *p, u64 v)
{
	memcpy(p, &v, sizeof(v));
}

HTTP1_INLINE void http1_forget(void)
{
}
#endif

#define HTTP1_WINDOW 256 /* bytes looked at together; a power of two */
/* Steps in one run. The verifier's work grows with it; a head of 256 bytes
 * takes about 12. */
#define HTTP1_STEPS 16

enum http1_state {
	HTTP1_START = 0, /* between messages */
	HTTP1_WORD,      /* method, or HTTP of a status line */
	HTTP1_TARGET,    /* request target, up to its space */
	HTTP1_VERSION,   /* HTTP/1.x of a request line */
	HTTP1_STATUS,    /* 1.x SP ddd of a status line */
	HTTP1_LINE,      /* to the end of a line that does not matter */
	HTTP1_FIELD,     /* first byte of a header or trailer line */
	HTTP1_HEAD_CR,   /* CR of the empty line was seen */
	HTTP1_NAME,      /* in a name that begins like one of ours */
	HTTP1_LENGTH,    /* value of Content-Length */
	HTTP1_CODING,    /* value of Transfer-Encoding */
	HTTP1_HEAD_DONE, /* the caller says what body follows: http1_begin_body() */
	HTTP1_BODY,      /* `remaining` bytes, then the message ends */
	HTTP1_CHUNK_SIZE,
	HTTP1_CHUNK_EXT,   /* to the end of the chunk-size line */
	HTTP1_CHUNK_DATA,  /* `remaining` bytes */
	HTTP1_CHUNK_END,   /* CRLF after the data */
	HTTP1_UNTIL_CLOSE, /* the body ends with the connection */
	HTTP1_TUNNEL,      /* not HTTP any more */
	HTTP1_LOST,        /* out of step: the next packet may begin a message */
	HTTP1_PREFACE,     /* in "PRI * HTTP/2.0...", `count` bytes of which were seen */
	HTTP1_FRAME,       /* in what may be an HTTP/2 frame's header, which begins with a zero */
	HTTP1_PROXY_LINE,  /* in a PROXY protocol header of version 1, up to its end */
	HTTP1_PROXY_SIZE,  /* in one of version 2, before its length */
	HTTP1_PROXY_REST,  /* in one of version 2, `remaining` bytes */
};

enum http1_kind {
	HTTP1_UNKNOWN = 0,
	HTTP1_REQUEST = 1,
	HTTP1_RESPONSE = 2,
};

enum http1_flag {
	HTTP1_HAS_LENGTH = 1,
	HTTP1_CHUNKED = 2,
	HTTP1_TRAILER = 4, /* in the lines after the last chunk */
	HTTP1_HEAD_METHOD = 8,
	HTTP1_CONNECT_METHOD = 16,
	HTTP1_OPENED = 32,  /* first line complete, not yet told to the caller */
	HTTP1_EXPECTS = 64, /* the body waits for an answer, and nothing of it came yet */
};

enum http1_event {
	HTTP1_MORE = 0,   /* the window is eaten */
	HTTP1_HEAD = 1,   /* end of a head; state HTTP1_HEAD_DONE */
	HTTP1_END = 2,    /* end of a message that had a body; state HTTP1_START */
	HTTP1_BAD = 3,    /* not HTTP/1 here; state HTTP1_LOST */
	HTTP1_SWITCH = 4, /* HTTP/2: its preface was read, or (HTTP1_FRAME) a frame's header, of
			   * which the caller judges; `token` holds its last 8 bytes */
};

struct http1_stream {
	u64 remaining; /* of the body or of the chunk */
	u64 token;     /* the last bytes gathered, newest lowest */
	u64 first_ns;  /* when the first byte of this message came */
	u64 held;      /* `remaining` of the body that `resume` goes back to */
	u32 eaten;     /* bytes since then */
	u32 pad;
	u16 status; /* of a response */
	u8 state;   /* enum http1_state */
	u8 kind;    /* enum http1_kind of this message, once its first line is known */
	u8 flags;   /* enum http1_flag of this message */
	u8 count;   /* bytes in token, or matched of a name */
	u8 which;   /* name that is matched: index into http1_names */
	u8 resume;  /* state to go back to if no request begins here; 0: none */
};

struct http1_window {
	u32 pos;  /* next byte; may lie behind `end` when a body was skipped */
	u32 end;  /* bytes that are filled, <= HTTP1_WINDOW */
	u32 ate;  /* bytes of this step so far, <= 48 */
	u32 left; /* from its first byte to the packet's end, where it was read from one */
	u8 bytes[HTTP1_WINDOW + 64]; /* those behind `end` may be anything */
};

/* Lower case with the colon; compared with bytes | 0x20, which leaves '-' and ':' alone. */
#define HTTP1_NAME_MAX 32
static const u8 http1_names[4][HTTP1_NAME_MAX] = {
	"content-length:", "transfer-encoding:", "expect:"};

#define HTTP1_ONES 0x0101010101010101ULL
#define HTTP1_TOP  0x8080808080808080ULL

/* Where the first of 8 bytes (lowest address first) is that is below `below` once it is
 * exclusive-ored with its byte of `mask`, or 8. So a byte is found by its own value and 1, and
 * whatever ends a word by 0 and one more than a blank. Both stand in each byte of theirs. REQUIRES:
 * at most 128. */
HTTP1_INLINE u32 http1_find(u64 word, u64 mask, u64 below)
{
	u64 x = word ^ mask;
	u64 hit = (x - below) & ~x & HTTP1_TOP;

	if (!hit)
		return 8;
	/* The lowest hit is true; those above may be borrow. 1 << 8k times the table puts k on top.
	 */
	return (u32)((((hit & -hit) >> 7) * 0x0001020304050607ULL) >> 56) & 7;
}

HTTP1_INLINE int http1_bad(struct http1_stream *s)
{
	s->state = HTTP1_LOST;
	return HTTP1_BAD;
}

/* Characters of a token (RFC 9110, 5.6.2), a bit each: those below 64 and those from 64 on. */
#define HTTP1_TOKEN_LOW  0x03ff6cfa00000000ULL
#define HTTP1_TOKEN_HIGH 0x57ffffffc7fffffeULL

HTTP1_INLINE int http1_token_char(u8 c)
{
	u64 set = c & 64 ? HTTP1_TOKEN_HIGH : HTTP1_TOKEN_LOW;

	return c < 128 && (set >> (c & 63) & 1);
}

/* Characters of a first line before its target, one at a time. A method is any token (RFC 9110,
 * 9.1); `token` holds its last eight characters. */
#define HTTP1_METHOD_MAX 64

HTTP1_INLINE int http1_word_step(struct http1_stream *s, u8 c)
{
	if (http1_token_char(c) && s->count < HTTP1_METHOD_MAX) {
		s->token = s->token << 8 | c;
		s->count++;
		return HTTP1_MORE;
	}
	if (c == ' ' && s->token == 0x505249) { /* PRI: no method, RFC 9113, 3.4 */
		s->state = HTTP1_PREFACE;
		s->count = 4;
		return HTTP1_MORE;
	}
	if (c == ' ' && s->token == 0x50524f5859) { /* PROXY */
		s->state = HTTP1_PROXY_LINE;
		return HTTP1_MORE;
	}
	if (c == ' ' && s->count) {
		if (s->token == 0x48454144) /* HEAD */
			s->flags = HTTP1_HEAD_METHOD;
		if (s->token == 0x434f4e4e454354) /* CONNECT */
			s->flags = HTTP1_CONNECT_METHOD;
		s->kind = HTTP1_REQUEST;
		s->state = HTTP1_TARGET;
		return HTTP1_MORE;
	}
	if (c == '/' && s->token == 0x48545450) { /* HTTP */
		s->kind = HTTP1_RESPONSE;
		s->state = HTTP1_STATUS;
		s->count = 0;
		s->status = 0;
		return HTTP1_MORE;
	}
	return http1_bad(s);
}

HTTP1_INLINE int http1_start_step(struct http1_stream *s, u8 c, u64 now)
{
	if (c == '\r' || c == '\n') /* RFC 9112, 2.2: empty lines before a message are ignored */
		return HTTP1_MORE;
	s->first_ns = now;
	s->kind = HTTP1_UNKNOWN;
	s->flags = 0;
	s->token = 0;
	s->count = 0;
	s->remaining = 0;
	if (!c) {
		s->state = HTTP1_FRAME;
		s->count = 1;
		return HTTP1_MORE;
	}
	s->state = HTTP1_WORD;
	return http1_word_step(s, c);
}

/* The client's connection preface of HTTP/2 (RFC 9113, 3.4). */
#define HTTP2_PREFACE_SIZE 24
/* 48 and not 32 bytes: clang would put those into a section that libbpf does not take. */
static const u8 http2_preface[48] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
#define HTTP2_FRAME_HEADER 9

HTTP1_INLINE int http1_preface_step(struct http1_stream *s, u8 c)
{
	if (http2_preface[s->count & 31] != c)
		return http1_bad(s);
	s->count++;
	return s->count == HTTP2_PREFACE_SIZE ? HTTP1_SWITCH : HTTP1_MORE;
}

/* A PROXY protocol header of version 2 begins with an empty line, which was passed over, and what
 * looks like a frame's header: a zero, this, and its version. */
#define HTTP1_PROXY_2 0x0d0a515549540aULL

HTTP1_INLINE int http1_frame_step(struct http1_stream *s, u8 c)
{
	s->token = s->token << 8 | c;
	s->count++;
	if (s->count < HTTP2_FRAME_HEADER)
		return HTTP1_MORE;
	if (s->token >> 8 != HTTP1_PROXY_2)
		return HTTP1_SWITCH;
	s->state = HTTP1_PROXY_SIZE;
	s->count = 0;
	return HTTP1_MORE;
}

/* Address family, then the length of what follows. */
HTTP1_INLINE int http1_proxy_step(struct http1_stream *s, u8 c)
{
	s->token = s->token << 8 | c;
	s->count++;
	if (s->count < 3)
		return HTTP1_MORE;
	s->remaining = s->token & 0xffff;
	s->state = s->remaining ? HTTP1_PROXY_REST : HTTP1_START;
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_version_step(struct http1_stream *s, u8 c)
{
	u8 at = s->count & 7;

	/* "HTTP/1.", then any digit */
	if (at < 7 && c != (u8)(0x485454502f312eULL >> (8 * (6 - at))))
		return http1_bad(s);
	s->count = at + 1;
	if (at < 7)
		return HTTP1_MORE;
	s->flags |= HTTP1_OPENED;
	s->state = HTTP1_LINE;
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_status_step(struct http1_stream *s, u8 c)
{
	u8 at = s->count;

	s->count++;
	if (at < 4) {
		if ((at == 0 && c == '1') || (at == 1 && c == '.') || at == 2 ||
		    (at == 3 && c == ' '))
			return HTTP1_MORE;
		return http1_bad(s);
	}
	if (c < '0' || c > '9')
		return http1_bad(s);
	s->status = (u16)(s->status * 10 + (c - '0'));
	if (at == 6) {
		s->flags |= HTTP1_OPENED;
		s->state = HTTP1_LINE;
	}
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_head_end(struct http1_stream *s)
{
	if (s->flags & HTTP1_TRAILER) {
		s->state = HTTP1_START;
		return HTTP1_END;
	}
	s->state = HTTP1_HEAD_DONE;
	return HTTP1_HEAD;
}

HTTP1_INLINE int http1_field_step(struct http1_stream *s, u8 c)
{
	u8 lower = c | 0x20;

	if (c == '\n')
		return http1_head_end(s);
	s->state = c == '\r' ? HTTP1_HEAD_CR : HTTP1_LINE;
	if ((lower == 'c' || lower == 't' || lower == 'e') && !(s->flags & HTTP1_TRAILER)) {
		s->state = HTTP1_NAME;
		s->which = lower == 'c' ? 0 : lower == 't' ? 1 : 2;
		s->count = 1;
	}
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_name_step(struct http1_stream *s, u8 c)
{
	u32 at = s->count & (HTTP1_NAME_MAX - 1);

	if (c == '\n') {
		s->state = HTTP1_FIELD;
	} else if (http1_names[s->which & 3][at] != (c | 0x20)) {
		s->state = HTTP1_LINE;
	} else if (c == ':' && s->which & 2) { /* there is one expectation (RFC 9110, 10.1.1) */
		s->flags |= HTTP1_EXPECTS;
		s->state = HTTP1_LINE;
	} else if (c == ':') {
		s->token = 0;
		s->state = s->which & 1 ? HTTP1_CODING : HTTP1_LENGTH;
		if (s->state == HTTP1_LENGTH)
			s->remaining = 0;
	} else {
		s->count++;
	}
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_length_step(struct http1_stream *s, u8 c)
{
	if (c >= '0' && c <= '9') {
		if (s->remaining >> 56)
			return http1_bad(s);
		s->remaining = s->remaining * 10 + (c - '0');
		s->flags |= HTTP1_HAS_LENGTH;
	} else if (c == '\n') {
		s->state = HTTP1_FIELD;
	} else if (c == ',') { /* a list of equal values (RFC 9112, 6.3): the first one will do */
		s->state = HTTP1_LINE;
	} else if (c != ' ' && c != '\t' && c != '\r') {
		return http1_bad(s);
	}
	return HTTP1_MORE;
}

/* The last coding decides (RFC 9112, 6.3). */
HTTP1_INLINE int http1_coding_step(struct http1_stream *s, u8 c)
{
	if (c == '\n') {
		u8 before = s->token >> 56;

		if ((s->token & 0xffffffffffffffULL) == 0x6368756e6b6564ULL &&
		    (!before || before == ','))
			s->flags |= HTTP1_CHUNKED;
		s->state = HTTP1_FIELD;
	} else if (c != ' ' && c != '\t' && c != '\r') {
		s->token = s->token << 8 | (u8)(c | 0x20);
	}
	return HTTP1_MORE;
}

HTTP1_INLINE void http1_chunk_line(struct http1_stream *s)
{
	s->state = HTTP1_CHUNK_SIZE;
	s->remaining = 0;
	s->count = 0;
}

HTTP1_INLINE int http1_chunk_line_end(struct http1_stream *s)
{
	if (!s->count)
		return http1_bad(s);
	if (s->remaining) {
		s->state = HTTP1_CHUNK_DATA;
	} else {
		s->flags |= HTTP1_TRAILER;
		s->state = HTTP1_FIELD;
	}
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_chunk_size_step(struct http1_stream *s, u8 c)
{
	u8 lower = c | 0x20;
	u8 digit;

	if (c >= '0' && c <= '9')
		digit = c - '0';
	else if (lower >= 'a' && lower <= 'f')
		digit = lower - 'a' + 10;
	else if (c == '\n')
		return http1_chunk_line_end(s);
	else if (c == '\r' || c == ' ' || c == '\t')
		return HTTP1_MORE;
	else if (c == ';') {
		s->state = HTTP1_CHUNK_EXT;
		return HTTP1_MORE;
	} else
		return http1_bad(s);
	if (s->count >= 15)
		return http1_bad(s);
	s->remaining = s->remaining << 4 | digit;
	s->count++;
	return HTTP1_MORE;
}

HTTP1_INLINE int http1_chunk_end_step(struct http1_stream *s, u8 c)
{
	if (c == '\n')
		http1_chunk_line(s);
	else if (c != '\r')
		return http1_bad(s);
	return HTTP1_MORE;
}

/* Eats up to `left` bytes of a body. */
HTTP1_INLINE u64 http1_skip(struct http1_stream *s, u64 left, int *event)
{
	u64 n = left;

	if (s->state == HTTP1_UNTIL_CLOSE || s->state == HTTP1_TUNNEL)
		return left;
	if (s->state != HTTP1_BODY && s->state != HTTP1_CHUNK_DATA && s->state != HTTP1_PROXY_REST)
		return 0;
	if (n > s->remaining)
		n = s->remaining;
	s->remaining -= n;
	if (!s->remaining) {
		if (s->state == HTTP1_BODY) {
			s->state = HTTP1_START;
			*event = HTTP1_END;
		} else {
			s->state = s->state == HTTP1_CHUNK_DATA ? HTTP1_CHUNK_END : HTTP1_START;
		}
	}
	return n;
}

/* Short cuts for what is not cut by the window's end. Each does in one step what the byte steps
 * do in many, and gives the same (tests/unit/bpf_lib cuts streams at every byte). They read words
 * as a little-endian machine stores them. */
#define HTTP1_LOWER 0x2020202020202020ULL
#define HTTP1_WORD8(a, b, c, d, e, f, g, h)                                                        \
	((u64)(a) | (u64)(b) << 8 | (u64)(c) << 16 | (u64)(d) << 24 | (u64)(e) << 32 |             \
	 (u64)(f) << 40 | (u64)(g) << 48 | (u64)(h) << 56)
#define HTTP1_LOW7 0x00ffffffffffffffULL

/* "HTTP/1.x ddd" at the start of a message; bytes eaten or 0. */
HTTP1_INLINE u32 http1_status_at_once(struct http1_stream *s, const u8 *p, u64 now)
{
	u64 word = http1_load64(p);
	u64 code = http1_load64(p + 8);
	u8 a = (u8)(code >> 8) - '0', b = (u8)(code >> 16) - '0', c = (u8)(code >> 24) - '0';

	if ((word & HTTP1_LOW7) != (HTTP1_WORD8('H', 'T', 'T', 'P', '/', '1', '.', 0)))
		return 0;
	if ((u8)code != ' ' || a > 9 || b > 9 || c > 9)
		return 0;
	s->first_ns = now;
	s->kind = HTTP1_RESPONSE;
	s->flags = HTTP1_OPENED;
	s->remaining = 0;
	s->status = (u16)(a * 100 + b * 10 + c);
	s->state = HTTP1_LINE;
	return 12;
}

/* "GET " or "POST " at the start of a message; bytes eaten or 0. */
HTTP1_INLINE u32 http1_method_at_once(struct http1_stream *s, const u8 *p, u64 now)
{
	u64 word = http1_load64(p);
	u32 n;

	if ((u32)word == (u32)HTTP1_WORD8('G', 'E', 'T', ' ', 0, 0, 0, 0))
		n = 4;
	else if ((word & 0xffffffffffULL) == HTTP1_WORD8('P', 'O', 'S', 'T', ' ', 0, 0, 0))
		n = 5;
	else
		return 0;
	s->first_ns = now;
	s->kind = HTTP1_REQUEST;
	s->flags = 0;
	s->remaining = 0;
	s->state = HTTP1_TARGET;
	return n;
}

/* A header's name; bytes eaten, 0: it is none of ours, and its line does not matter. */
HTTP1_INLINE u32 http1_name_at_once(struct http1_stream *s, const u8 *p)
{
	u64 first = http1_load64(p) | HTTP1_LOWER;
	u64 second = http1_load64(p + 8) | HTTP1_LOWER;

	s->state = HTTP1_LINE;
	if (first == HTTP1_WORD8('c', 'o', 'n', 't', 'e', 'n', 't', '-') &&
	    (second & HTTP1_LOW7) == HTTP1_WORD8('l', 'e', 'n', 'g', 't', 'h', ':', 0)) {
		s->state = HTTP1_LENGTH;
		s->remaining = 0;
		return 15;
	}
	if (first == HTTP1_WORD8('t', 'r', 'a', 'n', 's', 'f', 'e', 'r') &&
	    second == HTTP1_WORD8('-', 'e', 'n', 'c', 'o', 'd', 'i', 'n')) {
		s->state = HTTP1_NAME;
		s->which = 1;
		s->count = 16;
		return 16;
	}
	if ((first & HTTP1_LOW7) == HTTP1_WORD8('e', 'x', 'p', 'e', 'c', 't', ':', 0)) {
		s->flags |= HTTP1_EXPECTS;
		return 7;
	}
	return 0;
}

/* A small chunk, all of which lies in the `room` bytes at `pos`, with the line end after its data;
 * bytes eaten or 0. Servers write such ones by the thousand. */
HTTP1_INLINE u32 http1_chunk_at_once(const u8 *bytes, u32 pos, u32 room)
{
	u64 word = http1_load64(bytes + pos);
	u32 value = 0, digits, last;

#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (digits = 0; digits < 2; digits++) {
		u8 c = (u8)word, lower = c | 0x20;

		if (c >= '0' && c <= '9')
			value = value << 4 | (c - '0');
		else if (lower >= 'a' && lower <= 'f')
			value = value << 4 | (lower - 'a' + 10);
		else
			break;
		word >>= 8;
	}
	last = digits + 3 + value;
	if (!value || (word & 0xffff) != ('\r' | '\n' << 8) || last >= room)
		return 0;
	pos += last;
	pos &= HTTP1_WINDOW - 1;
	return bytes[pos] == '\n' ? last + 1 : 0;
}

/* " ddd CR LF", up to six digits, as Content-Length's value; bytes eaten or 0. */
HTTP1_INLINE u32 http1_length_at_once(struct http1_stream *s, const u8 *p)
{
	u64 word = http1_load64(p) >> 8;
	u32 value = 0, digits;

	if (*p != ' ')
		return 0;
#ifdef __bpf__
#pragma clang loop unroll(full)
#endif
	for (digits = 0; digits < 5; digits++) {
		u8 digit = (u8)word - '0';

		if (digit > 9)
			break;
		value = value * 10 + digit;
		word >>= 8;
	}
	if (!digits || (word & 0xffff) != ('\r' | '\n' << 8))
		return 0;
	s->remaining = value;
	s->flags |= HTTP1_HAS_LENGTH;
	s->state = HTTP1_FIELD;
	return digits + 3;
}

/* The same in the next 32, or 32. May look behind `end`. */
HTTP1_INLINE u32 http1_find_far(const u8 *p, u64 mask, u64 below)
{
	u32 n = http1_find(http1_load64(p), mask, below);

	if (n < 8)
		return n;
	n = http1_find(http1_load64(p + 8), mask, below);
	if (n < 8)
		return n + 8;
	n = http1_find(http1_load64(p + 16), mask, below);
	if (n < 8)
		return n + 16;
	return http1_find(http1_load64(p + 24), mask, below) + 24;
}

/* One byte. */
HTTP1_INLINE int http1_byte(struct http1_stream *s, u8 c, u64 now)
{
	switch (s->state) {
	case HTTP1_START:
		return http1_start_step(s, c, now);
	case HTTP1_WORD:
		return http1_word_step(s, c);
	case HTTP1_VERSION:
		return http1_version_step(s, c);
	case HTTP1_STATUS:
		return http1_status_step(s, c);
	case HTTP1_FIELD:
		return http1_field_step(s, c);
	case HTTP1_HEAD_CR:
		if (c == '\n')
			return http1_head_end(s);
		s->state = HTTP1_LINE;
		return HTTP1_MORE;
	case HTTP1_NAME:
		return http1_name_step(s, c);
	case HTTP1_LENGTH:
		return http1_length_step(s, c);
	case HTTP1_CODING:
		return http1_coding_step(s, c);
	case HTTP1_CHUNK_SIZE:
		return http1_chunk_size_step(s, c);
	case HTTP1_CHUNK_END:
		return http1_chunk_end_step(s, c);
	case HTTP1_PREFACE:
		return http1_preface_step(s, c);
	case HTTP1_FRAME:
		return http1_frame_step(s, c);
	case HTTP1_PROXY_SIZE:
		return http1_proxy_step(s, c);
	}
	return http1_bad(s);
}

/* The byte that a line, a target or a chunk's extension was searched for. */
HTTP1_INLINE int http1_line_end(struct http1_stream *s, u8 state)
{
	if (state == HTTP1_CHUNK_EXT)
		return http1_chunk_line_end(s);
	if (state == HTTP1_LINE) {
		s->state = HTTP1_FIELD;
	} else if (state == HTTP1_PROXY_LINE) {
		s->state = HTTP1_START;
	} else {
		s->state = HTTP1_VERSION;
		s->token = 0;
		s->count = 0;
	}
	return HTTP1_MORE;
}

/* One step of at least one byte. `left` counts from the window's first byte to the packet's end.
 * REQUIRES: pos < end <= HTTP1_WINDOW. */
HTTP1_INLINE int http1_step(struct http1_stream *s, struct http1_window *w, u32 left, u64 now)
{
	u32 pos = w->pos & (HTTP1_WINDOW - 1);
	const u8 *p = w->bytes + pos;
	u8 state = s->state;
	int event = HTTP1_MORE;
	u32 n = 0;

	/* What stands at the start of a line, where it is whole; its rest is eaten in the same
	 * step. */
	if (state == HTTP1_FIELD && p[0] == '\r' && p[1] == '\n' && pos + 2 <= w->end) {
		w->pos = pos + 2;
		return http1_head_end(s);
	}
	if (pos + 16 <= w->end) {
		if (state == HTTP1_FIELD && *p >= 'A' && !(s->flags & HTTP1_TRAILER)) {
			n = http1_name_at_once(s, p);
		} else if (state == HTTP1_START) {
			n = *p == 'H' ? http1_status_at_once(s, p, now)
				      : http1_method_at_once(s, p, now);
		} else if (state == HTTP1_VERSION && !s->count) {
			n = 8;
			if ((http1_load64(p) & HTTP1_LOW7) !=
			    HTTP1_WORD8('H', 'T', 'T', 'P', '/', '1', '.', 0)) {
				w->pos = pos + 8;
				return http1_bad(s);
			}
			s->flags |= HTTP1_OPENED;
			s->state = HTTP1_LINE;
		} else if (state == HTTP1_LENGTH && !(s->flags & HTTP1_HAS_LENGTH)) {
			n = http1_length_at_once(s, p);
		} else if (state == HTTP1_CHUNK_SIZE && !s->count) {
			n = http1_chunk_at_once(w->bytes, pos, w->end - pos);
			if (n) {
				w->pos = pos + n;
				return event;
			}
		}
	}
	/* By way of memory: all that was possible up to here is one state to the verifier. */
	w->ate = n;
	http1_forget();
	n = w->ate & 31;
	state = s->state;
	if (state == HTTP1_LINE || state == HTTP1_TARGET || state == HTTP1_CHUNK_EXT ||
	    state == HTTP1_PROXY_LINE) {
		/* A target ends with a blank, and holds nothing below it: many a protocol of lines
		 * begins like a request. */
		u8 wanted = state == HTTP1_TARGET ? ' ' : '\n';

		u64 mask = state == HTTP1_TARGET ? 0 : HTTP1_ONES * '\n';
		u64 below = state == HTTP1_TARGET ? HTTP1_ONES * (' ' + 1) : HTTP1_ONES;

		w->ate = n + http1_find_far(p + n, mask, below);
		http1_forget();
		n = w->ate & 63;
		/* Beyond the window, or beyond what was searched. */
		if (pos + n >= w->end) {
			n = w->end - pos;
		} else if (p[n] == wanted) {
			n++;
			event = http1_line_end(s, state);
		} else if (state == HTTP1_TARGET && p[n] < ' ') {
			event = http1_bad(s);
		}
		w->pos = pos + n;
		return event;
	}
	if (n) {
		w->pos = pos + n;
		return event;
	}
	if (state == HTTP1_BODY || state == HTTP1_CHUNK_DATA || state == HTTP1_UNTIL_CLOSE ||
	    state == HTTP1_TUNNEL || state == HTTP1_PROXY_REST) {
		w->pos = pos + (u32)http1_skip(s, left - pos, &event);
		return event;
	}
	w->pos = pos + 1;
	return http1_byte(s, w->bytes[pos], now);
}

/* Steps until the window is eaten, something happened or the steps are used up: on HTTP1_MORE the
 * caller goes on from w->pos. `now` stamps a message that begins. */
HTTP1_INLINE int http1_run(struct http1_stream *s, struct http1_window *w, u32 left, u64 now)
{
	int event = HTTP1_MORE;
	u32 i;

#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < HTTP1_STEPS; i++) {
		http1_forget();
		if (w->pos >= w->end)
			break;
		event = http1_step(s, w, left, now);
		if (event != HTTP1_MORE)
			break;
	}
	return event;
}

/* After HTTP1_HEAD: what follows, by RFC 9112, 6.3. `request_flags` are those of the request that
 * is answered (0 for a request). Gives HTTP1_END when nothing follows. A 1xx ends here too, and is
 * not the answer: http1_interim(). */
HTTP1_INLINE int http1_begin_body(struct http1_stream *s, u8 request_flags)
{
	u16 status = s->status;

	if (s->kind == HTTP1_RESPONSE) {
		if (status == 101 ||
		    ((request_flags & HTTP1_CONNECT_METHOD) && status / 100 == 2)) {
			s->state = HTTP1_TUNNEL;
			return HTTP1_END;
		}
		if (status / 100 == 1 || status == 204 || status == 304 ||
		    (request_flags & HTTP1_HEAD_METHOD)) {
			s->state = HTTP1_START;
			return HTTP1_END;
		}
	}
	if (s->flags & HTTP1_CHUNKED) {
		http1_chunk_line(s);
		return HTTP1_MORE;
	}
	if (s->flags & HTTP1_HAS_LENGTH && s->remaining) {
		s->state = HTTP1_BODY;
		return HTTP1_MORE;
	}
	if (s->kind == HTTP1_RESPONSE && !(s->flags & HTTP1_HAS_LENGTH)) {
		s->state = HTTP1_UNTIL_CLOSE;
		return HTTP1_MORE;
	}
	s->state = HTTP1_START;
	return HTTP1_END;
}

HTTP1_INLINE int http1_interim(const struct http1_stream *s)
{
	return s->kind == HTTP1_RESPONSE && s->status / 100 == 1 && s->status != 101;
}

/* Whether the body that a request announced is still to begin, and waits for a word from the other
 * side (RFC 9110, 10.1.1). */
HTTP1_INLINE int http1_expects(const struct http1_stream *s)
{
	return (s->flags & HTTP1_EXPECTS) && s->kind == HTTP1_REQUEST &&
	       (s->state == HTTP1_BODY || s->state == HTTP1_CHUNK_SIZE);
}

/* Whether an answer's body is still to begin, and may not come: the request is not known, and
 * answers to HEAD have none (RFC 9112, 6.3). */
HTTP1_INLINE int http1_maybe_bodiless(const struct http1_stream *s)
{
	return s->kind == HTTP1_RESPONSE &&
	       (s->state == HTTP1_UNTIL_CLOSE || (s->flags & HTTP1_EXPECTS));
}

/* Whether these 8 bytes begin an answer. */
HTTP1_INLINE int http1_begins_answer(u64 word)
{
	return (word & 0x00ffffffffffffffULL) == 0x002e312f50545448ULL; /* "HTTP/1." */
}

/* The request was answered before its body began: clients keep it back then and send their next
 * request, or send it all the same. What comes next tells which. */
HTTP1_INLINE void http1_reconsider(struct http1_stream *s)
{
	s->resume = s->state;
	s->held = s->remaining;
	s->eaten = 0;
	s->state = HTTP1_START;
}

/* After HTTP1_BAD in the packet that http1_reconsider() was for: it is the body after all, from
 * `eaten` bytes before on. The caller adds to those, and forgets `resume` with the packet. */
HTTP1_INLINE int http1_resumes(struct http1_stream *s)
{
	if (!s->resume)
		return 0;
	s->kind = HTTP1_REQUEST;
	s->flags = 0;
	s->count = 0;
	s->state = s->resume;
	s->remaining = s->held;
	s->resume = 0;
	return 1;
}

/* Bytes that a gap in the stream may swallow without harm: the inside of a body. */
HTTP1_INLINE int http1_skips(const struct http1_stream *s, u64 bytes)
{
	if (s->state == HTTP1_UNTIL_CLOSE || s->state == HTTP1_TUNNEL)
		return 1;
	return (s->state == HTTP1_BODY || s->state == HTTP1_CHUNK_DATA) && bytes < s->remaining;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
