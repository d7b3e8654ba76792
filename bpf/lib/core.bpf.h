/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_CORE_BPF_H
#define BALLAST_CORE_BPF_H

/* What differs between kernels is decided here, once, by asking the running kernel's types. */

#include "bpf/lib/kernel.bpf.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#define TASK_DEAD 0x80

/* REQUIRES: a task that the verifier knows (an argument of a tp_btf program). */
static __always_inline u64 task_cgroup_id(struct task_struct *task)
{
	return task->cgroups->dfl_cgrp->kn->id;
}

static __always_inline u32 task_state(struct task_struct *task)
{
	if (bpf_core_field_exists(task->__state))
		return task->__state;
	return (u32)((struct task_struct___before_5_14 *)task)->state;
}

/* cgroup v2 id of a socket; 0 when it has none. REQUIRES: a socket that the verifier knows. */
static __always_inline u64 sock_cgroup_id(struct sock *sk)
{
	struct sock_cgroup_data___before_5_15 *old = (void *)&sk->sk_cgrp_data;
	u64 word;

	if (!bpf_core_field_exists(old->val))
		return sk->sk_cgrp_data.cgroup->kn->id;
	word = BPF_CORE_READ(old, val);
	if (word & 1)
		return 0;
	return BPF_CORE_READ((struct cgroup *)(word & ~3ULL), kn, id);
}

#endif
