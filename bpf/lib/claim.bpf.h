/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_CLAIM_BPF_H
#define BALLAST_CLAIM_BPF_H

/* One CPU at a time, of those that come to the same state without a lock around them. */

#include "bpf/lib/maps.bpf.h"

#define CLAIM_TRIES 1024

/* Waits for another CPU that has it, some microseconds at most. Adds without fetching are all that
 * kernels before 5.12 have, and enough: of two that both added, the second sees two. The owner ends
 * it by a plain store to `released`. */
static __always_inline bool claim(u32 *claims, u32 *released)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < CLAIM_TRIES; i++) {
		u32 done = *(volatile u32 *)released;

		if (*(volatile u32 *)claims != done)
			continue;
		counter_add(*claims, 1);
		if (*(volatile u32 *)claims == *(volatile u32 *)released + 1)
			return true;
		counter_add(*claims, -1);
	}
	return false;
}

static __always_inline void release(u32 *released)
{
	*(volatile u32 *)released = *released + 1;
}

#endif
