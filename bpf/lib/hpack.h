/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HPACK_H
#define BALLAST_HPACK_H

/* Walks the fields of HPACK header blocks (RFC 7541) of one direction and keeps the three that
 * matter: `:status`, `grpc-status` and whether the content is gRPC.
 *
 * No table is kept. An index into the dynamic table counts back from the newest entry, so it names
 * an entry by its ordinal, whatever was evicted meanwhile; only the ordinals of entries that matter
 * are remembered. A connection met in mid-life starts at ordinal 0: what was inserted before is
 * unknown, all that follows is known. A field that cannot be read is "unknown" (0, or
 * HPACK_GRPC_UNKNOWN); the frames are followed all the same.
 */

#include "bpf/lib/http1.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#endif

#define HPACK_STATIC       61 /* entries of the static table (RFC 7541, appendix A) */
#define HPACK_KNOWN        32 /* entries remembered; a power of two */
#define HPACK_GRPC_UNKNOWN 17
#define HPACK_NO_NUMBER    0xffff
#define HPACK_TEXT         16 /* bytes of a string that are looked at */

enum hpack_state {
	HPACK_FIELD = 0,   /* first byte of a field */
	HPACK_INDEX,       /* an index goes on */
	HPACK_LENGTH,      /* first byte of a string's length */
	HPACK_LENGTH_MORE, /* a length goes on */
	HPACK_STRING,      /* `number` bytes of a string */
	HPACK_BROKEN,      /* not HPACK: the rest of the block is passed over */
};

enum hpack_kind {
	HPACK_LITERAL = 0, /* without or never indexed */
	HPACK_INSERT,      /* with incremental indexing */
	HPACK_INDEXED,
	HPACK_RESIZE,
};

enum hpack_name {
	HPACK_OTHER = 0,
	HPACK_STATUS,
	HPACK_GRPC_STATUS,
	HPACK_CONTENT_TYPE,
};

enum hpack_side {
	HPACK_NO_SIDE = 0, /* trailers, or nothing that tells */
	HPACK_REQUEST,
	HPACK_RESPONSE,
};

struct hpack_entry {
	u32 ordinal; /* 0: none */
	u16 value;
	u8 name; /* enum hpack_name */
	u8 pad;
};

struct hpack_decoder {
	u64 text[2]; /* the string's first 16 bytes, big-endian */
	u32 number;  /* an integer as it comes; bytes of a string still to come */
	u32 inserted;
	u32 before; /* `inserted` when the block began */
	u32 size;   /* of the string */
	u16 status; /* 0: unknown */
	u16 value;  /* of the field, when it is one that matters */
	u8 grpc_status;
	u8 grpc; /* content-type: application/grpc */
	u8 side; /* enum hpack_side */
	u8 state;
	u8 kind;
	u8 name;     /* enum hpack_name of the field */
	u8 naming;   /* the string is the field's name */
	u8 huffman;  /* the string is coded */
	u8 shift;    /* of the integer's next group */
	u8 gathered; /* bytes in text, and one more */
	u8 after;    /* the byte that follows them */
	u8 pad[2];
	struct hpack_entry known[HPACK_KNOWN];
};

/* A header block begins. */
HTTP1_INLINE void hpack_begin(struct hpack_decoder *h)
{
	h->status = 0;
	h->grpc_status = HPACK_GRPC_UNKNOWN;
	h->grpc = 0;
	h->side = HPACK_NO_SIDE;
	h->state = HPACK_FIELD;
	h->naming = 0;
	h->before = h->inserted;
}

/* Entries may have been inserted that were not seen: no ordinal so far will be asked for again. */
HTTP1_INLINE void hpack_forget(struct hpack_decoder *h)
{
	h->inserted += 1U << 16;
}

/* A header block is complete. */
HTTP1_INLINE void hpack_end(struct hpack_decoder *h)
{
	if (h->state != HPACK_FIELD)
		hpack_forget(h);
}

HTTP1_INLINE void hpack_broken(struct hpack_decoder *h)
{
	h->state = HPACK_BROKEN;
}

HTTP1_INLINE void hpack_take(struct hpack_decoder *h, u8 name, u16 value)
{
	if (name == HPACK_STATUS)
		h->status = value == HPACK_NO_NUMBER ? 0 : value;
	else if (name == HPACK_GRPC_STATUS)
		h->grpc_status = value < HPACK_GRPC_UNKNOWN ? (u8)value : HPACK_GRPC_UNKNOWN;
	else if (name == HPACK_CONTENT_TYPE)
		h->grpc |= (u8)value;
}

/* Entries 8 to 14 of the static table. */
static const u16 hpack_static_status[12] = {200, 204, 206, 304, 400, 404, 500};

/* An index, of a whole field or of its name. Gives the name. */
HTTP1_INLINE u8 hpack_lookup(struct hpack_decoder *h, u32 index, int whole)
{
	struct hpack_entry *entry;
	u32 ordinal;

	if (index <= HPACK_STATIC) {
		if (index >= 1 && index <= 7)
			h->side = HPACK_REQUEST;
		if (index < 8 || index > 14)
			return index == 31 ? HPACK_CONTENT_TYPE : HPACK_OTHER;
		h->side = HPACK_RESPONSE;
		if (whole)
			h->status = hpack_static_status[(index - 8) & 7];
		return HPACK_STATUS;
	}
	ordinal = h->inserted - (index - HPACK_STATIC - 1);
	entry = &h->known[ordinal & (HPACK_KNOWN - 1)];
	if (entry->ordinal != ordinal || !ordinal)
		return HPACK_OTHER;
	if (entry->name == HPACK_STATUS)
		h->side = HPACK_RESPONSE;
	if (whole)
		hpack_take(h, entry->name, entry->value);
	return entry->name;
}

/* An index is complete. */
HTTP1_INLINE void hpack_indexed(struct hpack_decoder *h)
{
	h->state = HPACK_FIELD;
	h->name = HPACK_OTHER;
	if (h->kind == HPACK_RESIZE)
		return;
	if (h->number)
		h->name = hpack_lookup(h, h->number, h->kind == HPACK_INDEXED);
	if (h->kind == HPACK_INDEXED) {
		if (!h->number) /* RFC 7541, 6.1 */
			hpack_broken(h);
		return;
	}
	h->naming = !h->number;
	h->state = HPACK_LENGTH;
}

/* What a step completed. The work that follows is in one place, and what it needs in memory: the
 * verifier then walks it once for all the ways that lead there. */
enum hpack_done {
	HPACK_NOTHING = 0,
	HPACK_INDEX_DONE,
	HPACK_LENGTH_DONE,
	HPACK_STRING_DONE,
};

HTTP1_INLINE int hpack_field_step(struct hpack_decoder *h, u8 c)
{
	u8 mask;

	if (c & 0x80) {
		h->kind = HPACK_INDEXED;
		mask = 0x7f;
	} else if (c & 0x40) {
		h->kind = HPACK_INSERT;
		mask = 0x3f;
	} else if (c & 0x20) {
		h->kind = HPACK_RESIZE;
		mask = 0x1f;
	} else {
		h->kind = HPACK_LITERAL;
		mask = 0x0f;
	}
	h->number = c & mask;
	h->shift = 0;
	h->state = HPACK_INDEX;
	return (c & mask) != mask ? HPACK_INDEX_DONE : HPACK_NOTHING;
}

HTTP1_INLINE int hpack_length_step(struct hpack_decoder *h, u8 c)
{
	h->huffman = c >> 7;
	h->number = c & 0x7f;
	h->shift = 0;
	h->state = HPACK_LENGTH_MORE;
	return (c & 0x7f) != 0x7f ? HPACK_LENGTH_DONE : HPACK_NOTHING;
}

/* Next group of an integer (RFC 7541, 5.1); `done` when it was the last. */
HTTP1_INLINE int hpack_number_step(struct hpack_decoder *h, u8 c, int done)
{
	if (h->shift > 21) {
		hpack_broken(h);
		return HPACK_NOTHING;
	}
	h->number += (u32)(c & 0x7f) << (h->shift & 31);
	h->shift += 7;
	return c & 0x80 ? HPACK_NOTHING : done;
}

/* Takes a digit off the string's first bytes and adds it to h->number; `shift` counts the bits.
 * Huffman codes: 5 bits 00000..00010 for 0..2, 6 bits 011001..011111 for 3..9. */
HTTP1_INLINE void hpack_digit_step(struct hpack_decoder *h)
{
	u64 word = h->text[0];
	u32 digit;
	u8 bits;

	if (!h->huffman) {
		bits = 8;
		digit = (u32)(word >> 56) - '0';
	} else if (word >> 59 < 3) {
		bits = 5;
		digit = (u32)(word >> 59);
	} else {
		bits = 6;
		digit = (u32)(word >> 58) - 0x19 + 3;
	}
	h->text[0] = word << bits;
	h->shift += digit > 9 ? 64 : bits;
	h->number = h->number * 10 + digit;
}

/* The decimal number of `digits` digits that the string is, padding apart (RFC 7541, 5.2). */
HTTP1_INLINE u16 hpack_decimal(struct hpack_decoder *h, u32 digits)
{
	u32 rest;

	h->number = 0;
	h->shift = 0;
	hpack_digit_step(h);
	http1_forget();
	if (digits > 1)
		hpack_digit_step(h);
	http1_forget();
	if (digits > 2)
		hpack_digit_step(h);
	http1_forget();
	rest = 8 * h->size - h->shift;
	if (rest > 7 || h->text[0] != (rest ? ~0ULL << (64 - rest) : 0))
		return HPACK_NO_NUMBER;
	return (u16)h->number;
}

/* "application/grpc", in 16 bytes or Huffman-coded in 11, and nothing more than a suffix ("+proto")
 * or a parameter: gRPC-Web, which goes on with "-web", has its status in the body. */
HTTP1_INLINE int hpack_is_grpc(const struct hpack_decoder *h)
{
	u8 coded = (u8)(h->text[1] >> 32);

	if (!h->huffman)
		return h->text[0] == 0x6170706c69636174ULL && h->text[1] == 0x696f6e2f67727063ULL &&
		       (h->size == 16 || h->after == '+' || h->after == ';');
	return h->text[0] == 0x1d75d0620d263d4cULL && h->text[1] >> 40 == 0x4d6564ULL &&
	       (h->size == 11 || coded == 0xff || coded == 0xfb);
}

/* Names that matter, by length: plain in 7, 11 and 12 bytes, Huffman-coded in 5, 8 and 9. */
#define HPACK_NAME_LENGTHS (1U << 5 | 1U << 7 | 1U << 8 | 1U << 9 | 1U << 11 | 1U << 12)

HTTP1_INLINE int hpack_name_matters(u32 size)
{
	return size < 32 && (HPACK_NAME_LENGTHS >> size & 1);
}

/* ":status", "grpc-status" and "content-type", spelt out. */
HTTP1_INLINE u8 hpack_read_name(const struct hpack_decoder *h)
{
	u64 first = h->text[0];
	u64 second = h->text[1];

	if (h->huffman) {
		if (first == 0xb8848d36a3000000ULL && h->size == 5)
			return HPACK_STATUS;
		if (first == 0x9acac8b21234da8fULL && h->size == 8)
			return HPACK_GRPC_STATUS;
		if (first == 0x21ea496a4ac9f559ULL && second == 0x7fULL << 56 && h->size == 9)
			return HPACK_CONTENT_TYPE;
		return HPACK_OTHER;
	}
	if (first == 0x3a73746174757300ULL && h->size == 7)
		return HPACK_STATUS;
	if (first == 0x677270632d737461ULL && second == 0x747573ULL << 40 && h->size == 11)
		return HPACK_GRPC_STATUS;
	if (first == 0x636f6e74656e742dULL && second == 0x74797065ULL << 32 && h->size == 12)
		return HPACK_CONTENT_TYPE;
	return HPACK_OTHER;
}

/* What the string, a field's value, says of its name. */
HTTP1_INLINE u16 hpack_read_value(struct hpack_decoder *h)
{
	if (h->name == HPACK_STATUS)
		return h->size > 1 && h->size <= 3 ? hpack_decimal(h, 3) : HPACK_NO_NUMBER;
	if (h->name == HPACK_GRPC_STATUS)
		return h->size && h->size <= 2 ? hpack_decimal(h, h->size) : HPACK_NO_NUMBER;
	return h->name == HPACK_CONTENT_TYPE && hpack_is_grpc(h);
}

HTTP1_INLINE void hpack_string_done(struct hpack_decoder *h)
{
	struct hpack_entry *entry;

	if (h->naming) {
		h->name = hpack_read_name(h);
		if (h->name == HPACK_STATUS)
			h->side = HPACK_RESPONSE;
		h->naming = 0;
		h->state = HPACK_LENGTH;
		return;
	}
	h->state = HPACK_FIELD;
	h->inserted += h->kind == HPACK_INSERT;
	if (h->name == HPACK_OTHER)
		return;
	h->value = hpack_read_value(h);
	http1_forget();
	hpack_take(h, h->name, h->value);
	if (h->kind != HPACK_INSERT)
		return;
	entry = &h->known[h->inserted & (HPACK_KNOWN - 1)];
	entry->ordinal = h->inserted;
	entry->name = h->name;
	entry->value = h->value;
}

HTTP1_INLINE int hpack_length_done(struct hpack_decoder *h)
{
	h->size = h->number;
	h->text[0] = 0;
	h->text[1] = 0;
	h->gathered = 0;
	h->after = 0;
	h->state = HPACK_STRING;
	return h->number ? HPACK_NOTHING : HPACK_STRING_DONE;
}

/* A string whose `n` >= 8 bytes are all there. */
HTTP1_INLINE void hpack_gather(struct hpack_decoder *h, const u8 *p, u32 n)
{
	u64 second = __builtin_bswap64(http1_load64(p + 8));

	h->text[0] = __builtin_bswap64(http1_load64(p));
	if (n < HPACK_TEXT)
		second = n > 8 ? second & ~0ULL << (8 * (HPACK_TEXT - n) & 63) : 0;
	h->text[1] = second;
	h->after = n > HPACK_TEXT ? p[HPACK_TEXT] : 0;
}

/* How many of the `n` bytes at `pos`, which are a string's, are eaten at once. */
HTTP1_INLINE u32 hpack_string_step(struct hpack_decoder *h, const u8 *bytes, u32 pos, u32 n)
{
	int wanted = h->naming ? hpack_name_matters(h->size) : h->name != HPACK_OTHER;

	if (n > h->number)
		n = h->number;
	if (!wanted || h->gathered > HPACK_TEXT)
		return n;
	if (n == h->size && n >= 8 && !h->gathered) {
		hpack_gather(h, bytes + pos, n);
		return n;
	}
	if (h->gathered < HPACK_TEXT)
		h->text[(h->gathered >> 3) & 1] |= (u64)bytes[pos] << (56 - 8 * (h->gathered & 7));
	else
		h->after = bytes[pos];
	h->gathered++;
	return 1;
}

/* One step of at least one of the `n` bytes at `pos`; 16 bytes behind them may be read. Gives how
 * many were eaten. REQUIRES: n >= 1. */
HTTP1_INLINE u32 hpack_step(struct hpack_decoder *h, const u8 *bytes, u32 pos, u32 n)
{
	int done = HPACK_NOTHING;
	u8 state = h->state;
	u8 c = bytes[pos];

	if (state == HPACK_BROKEN)
		return n;
	if (state == HPACK_STRING) {
		n = hpack_string_step(h, bytes, pos, n);
		h->number -= n;
		if (!h->number)
			done = HPACK_STRING_DONE;
	} else {
		n = 1;
		if (state == HPACK_FIELD)
			done = hpack_field_step(h, c);
		else if (state == HPACK_LENGTH)
			done = hpack_length_step(h, c);
		else
			done = hpack_number_step(
				h, c, state == HPACK_INDEX ? HPACK_INDEX_DONE : HPACK_LENGTH_DONE);
	}
	http1_forget();
	if (done == HPACK_INDEX_DONE)
		hpack_indexed(h);
	else if (done == HPACK_LENGTH_DONE)
		done = hpack_length_done(h);
	http1_forget();
	if (done == HPACK_STRING_DONE)
		hpack_string_done(h);
	return n;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
