/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#define bpf_htons(x) __builtin_bswap16(x)
#define bpf_ntohs(x) __builtin_bswap16(x)
