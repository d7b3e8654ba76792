// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* AF_UNIX connections by cgroup, which no packet hook sees: a gap in the coverage that is known. A
 * cgroup hook of Linux 6.7 on; the loader sets its attach type, for which libbpf 1.1 has no
 * section. */
#include "bpf/lib/coverage.bpf.h"

SEC("cgroup/connect4")
int unix_connect(void *ctx)
{
	/* The caller's own: this hook runs in its context. */
	coverage_add(bpf_get_current_cgroup_id(), BALLAST_COVERAGE_UNIX);
	return 1; /* always allowed */
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
