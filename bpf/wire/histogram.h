/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_WIRE_HISTOGRAM_H
#define BALLAST_WIRE_HISTOGRAM_H

/* Log-linear latency histogram, shared by the BPF programs and everything that reads them.
 *
 * Bucket 0 holds everything below 1024 ns (1.024 us). Above, every octave [2^k, 2^(k+1)) ns for
 * k = 10..36 is cut in 8 equal parts, so a bucket is at most 12.5 % wide and a quantile read from
 * its middle is at most 6.25 % off. The last bucket holds everything from 2^37 ns (137 s) on.
 */
#define BALLAST_HIST_FIRST_OCTAVE 10
#define BALLAST_HIST_LAST_OCTAVE  36
#define BALLAST_HIST_SUB_BITS     3
#define BALLAST_HIST_SUB          (1 << BALLAST_HIST_SUB_BITS)
#define BALLAST_HIST_BUCKETS                                                                       \
	(1 + (BALLAST_HIST_LAST_OCTAVE - BALLAST_HIST_FIRST_OCTAVE + 1) * BALLAST_HIST_SUB + 1)

#ifdef __cplusplus /* C casts are the only ones that both sides have */
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wold-style-cast"
#endif

/* Hides a value from the compiler, which would make branches of what follows. */
#ifdef __bpf__
#define BALLAST_HIST_KEEP(x) asm volatile("" : "+r"(x))
#else
#define BALLAST_HIST_KEEP(x) ((void)0)
#endif

/* 1 when v > most, both below 2^63. */
static inline unsigned long long ballast_above(unsigned long long v, unsigned long long most)
{
	unsigned long long difference = most - v;

	BALLAST_HIST_KEEP(difference);
	return difference >> 63;
}

/* floor(log2(v)) for v > 0, without a branch: the verifier would walk all that follows once for
 * each way to here. */
static inline unsigned int ballast_log2(unsigned long long v)
{
	unsigned long long r, shift;

	r = ballast_above(v >> 32, 0) << 5;
	v >>= r;
	shift = ballast_above(v, 0xFFFF) << 4;
	v >>= shift;
	r |= shift;
	shift = ballast_above(v, 0xFF) << 3;
	v >>= shift;
	r |= shift;
	shift = ballast_above(v, 0xF) << 2;
	v >>= shift;
	r |= shift;
	shift = ballast_above(v, 0x3) << 1;
	v >>= shift;
	r |= shift;
	return (unsigned int)(r | v >> 1);
}

/* Bucket of a duration in ns; always below BALLAST_HIST_BUCKETS. */
static inline unsigned int ballast_hist_bucket(unsigned long long ns)
{
	unsigned int octave;

	if (ns < (1ULL << BALLAST_HIST_FIRST_OCTAVE))
		return 0;
	octave = ballast_log2(ns);
	if (octave > BALLAST_HIST_LAST_OCTAVE)
		return BALLAST_HIST_BUCKETS - 1;
	return 1 + (octave - BALLAST_HIST_FIRST_OCTAVE) * BALLAST_HIST_SUB +
	       (unsigned int)((ns >> (octave - BALLAST_HIST_SUB_BITS)) & (BALLAST_HIST_SUB - 1));
}

/* Lower bound in ns, included; the upper bound is the next bucket's lower bound. */
static inline unsigned long long ballast_hist_lower(unsigned int bucket)
{
	unsigned int octave;

	if (bucket == 0)
		return 0;
	if (bucket >= BALLAST_HIST_BUCKETS - 1)
		return 1ULL << (BALLAST_HIST_LAST_OCTAVE + 1);
	octave = BALLAST_HIST_FIRST_OCTAVE + (bucket - 1) / BALLAST_HIST_SUB;
	return (1ULL << octave) + ((unsigned long long)((bucket - 1) % BALLAST_HIST_SUB)
				   << (octave - BALLAST_HIST_SUB_BITS));
}

#ifdef __cplusplus
#pragma GCC diagnostic pop
#endif

#endif
