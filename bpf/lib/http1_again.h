/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP1_AGAIN_H
#define BALLAST_HTTP1_AGAIN_H

/* Messages that come again. On a connection that is kept alive most are, byte by byte, what came
 * before in the same direction: what parsing them gave is remembered by a sum of their bytes.
 * Compiled for BPF and in userland.
 *
 * The sum is UMAC's NH (Black, Halevi, Krawczyk, Krovetz, Rogaway, 1999) with keys that nobody
 * outside knows: of two different messages of one length, whoever chose them, the sums are equal
 * once in 2^32. */

#include "bpf/lib/http1.h"

#ifdef __cplusplus
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#pragma GCC diagnostic ignored "-Wconversion"
#endif

/* One for each word of 8 bytes. */
#define HTTP1_KEYS (HTTP1_WINDOW / 8)
/* Words of a step. */
#define HTTP1_SUMMED 4
/* Messages that are parsed before one is remembered, after one that was not what was expected. */
#define HTTP1_AGAIN_PATIENCE 8

struct http1_again {
	u64 sum;
	u16 len; /* of the whole message, head and body; 0: none is remembered */
	u16 status;
	u8 flags; /* enum http1_flag: of a request, what its answer depends on */
	u8 patience;
	u16 whole;  /* bytes of the packet that is parsed, where it may be one to remember, or 0 */
	u32 before; /* messages of this direction before it */
	u32 pad;
};

HTTP1_INLINE u64 http1_sum_word(u64 key, const u8 *p)
{
	u64 word = http1_load64(p);

	return (u64)((u32)word + (u32)key) * (u32)((word >> 32) + (key >> 32));
}

/* Of the window's bytes, of which there is at least one; writes zeros behind them. */
HTTP1_INLINE u64 http1_sum(const u64 *keys, struct http1_window *w)
{
	u8 *rest = w->bytes + ((w->end - 1) & (HTTP1_WINDOW - 1)) + 1;
	u64 sum = 0;
	u32 i;

	for (i = 0; i < HTTP1_SUMMED; i++)
		http1_store64(rest + i * 8, 0);
#ifdef __bpf__
#pragma clang loop unroll(disable)
#endif
	for (i = 0; i < HTTP1_KEYS; i += HTTP1_SUMMED) {
		const u8 *p = w->bytes + i * 8;

		sum += http1_sum_word(keys[i], p) + http1_sum_word(keys[i + 1], p + 8) +
		       http1_sum_word(keys[i + 2], p + 16) + http1_sum_word(keys[i + 3], p + 24);
		if ((i + HTTP1_SUMMED) * 8 >= w->end)
			break;
	}
	return sum;
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
