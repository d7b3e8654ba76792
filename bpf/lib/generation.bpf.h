/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_GENERATION_BPF_H
#define BALLAST_GENERATION_BPF_H

/* See struct ballast_control_value: of two attached generations of a tracing program, one counts.
 */

#include "bpf/lib/kernel.bpf.h"
#include "bpf/wire/wire.h"

#include <bpf/bpf_helpers.h>

const volatile __u32 generation = 0;

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ballast_control_value);
} control SEC(".maps");

static __always_inline bool in_force(void)
{
	u32 zero = 0;
	struct ballast_control_value *value = bpf_map_lookup_elem(&control, &zero);

	return value && value->generation == generation;
}

#endif
