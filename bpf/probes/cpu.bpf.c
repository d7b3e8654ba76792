// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* CPU time and time spent waiting for a CPU, by cgroup, from the scheduler's tracepoints. They run
 * under the run queue's lock: nothing here allocates (all hash maps are preallocated). */
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/generation.bpf.h"
#include "bpf/lib/maps.bpf.h"

#include <bpf/bpf_tracing.h>

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_CGROUPS);
	__type(key, __u64);
	__type(value, struct ballast_cpu_value);
} cpu SEC(".maps");

/* max_entries is set to the machine's CPUs at load. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct ballast_running_value);
} running SEC(".maps");

/* A thread that waits for a CPU. Entries stay while the thread lives: writing one in place costs
 * a third of inserting and deleting it. */
struct waiting {
	u64 since_ns; /* 0: it does not wait */
	u64 own_ns;   /* what its cgroup had had of that CPU by then */
	u64 cgroup_id;
	u32 cpu;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_TASKS);
	__type(key, __u32);
	__type(value, struct waiting);
} tasks SEC(".maps");

/* max_entries is cut to what the machine's CPUs need at load. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_CPU_SHARES);
	__type(key, struct ballast_cpu_share_key);
	__type(value, __u64);
} cpu_share SEC(".maps");

static __always_inline struct ballast_cpu_value *cpu_row(u64 cgroup_id)
{
	struct ballast_cpu_value *value = bpf_map_lookup_elem(&cpu, &cgroup_id);

	if (!value) {
		struct ballast_cpu_value zero = {};

		bpf_map_update_elem(&cpu, &cgroup_id, &zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&cpu, &cgroup_id);
		if (!value)
			count_loss(BALLAST_LOSS_MAP_FULL, 1, 0);
	}
	return value;
}

/* A reader without a share (full map) takes all its waiting as waiting for others. */
static __always_inline u64 *share_of(u64 cgroup_id, u32 cpu_id)
{
	struct ballast_cpu_share_key key = {.cgroup_id = cgroup_id, .cpu = cpu_id};
	u64 *value = bpf_map_lookup_elem(&cpu_share, &key);

	if (!value) {
		u64 zero = 0;

		bpf_map_update_elem(&cpu_share, &key, &zero, BPF_NOEXIST);
		value = bpf_map_lookup_elem(&cpu_share, &key);
		if (!value)
			count_loss(BALLAST_LOSS_MAP_FULL, 1, 0);
	}
	return value;
}

/* What the cgroup has had of the CPU up to now, its present turn included. */
static __always_inline u64 own_time(u64 cgroup_id, u32 cpu_id, u64 now)
{
	struct ballast_running_value *turn = bpf_map_lookup_elem(&running, &cpu_id);
	u64 *share = share_of(cgroup_id, cpu_id);
	u64 own = share ? *share : 0;

	if (turn && turn->cgroup_id == cgroup_id && turn->since_ns && now > turn->since_ns)
		own += now - turn->since_ns;
	return own;
}

static __always_inline void begin_wait(struct task_struct *task, u64 cgroup_id, u32 cpu_id,
				       u64 own_ns, u64 now)
{
	u32 tid = (u32)task->pid;
	struct waiting *entry = bpf_map_lookup_elem(&tasks, &tid);

	if (!entry) {
		struct waiting fresh = {};

		bpf_map_update_elem(&tasks, &tid, &fresh, BPF_NOEXIST);
		entry = bpf_map_lookup_elem(&tasks, &tid);
		if (!entry) {
			count_loss(BALLAST_LOSS_MAP_FULL, 1, 0);
			return;
		}
	}
	entry->own_ns = own_ns;
	entry->cgroup_id = cgroup_id;
	entry->cpu = cpu_id;
	entry->since_ns = now;
}

/* The end of a turn on this CPU. Gives what the cgroup has had of the CPU by now. */
static __always_inline u64 end_turn(struct ballast_running_value *turn, u32 cpu_id, u64 now)
{
	u64 cgroup_id = turn->cgroup_id;
	struct ballast_cpu_value *row;
	u64 *share;
	u64 ran;

	if (!turn->since_ns || now < turn->since_ns)
		return 0;
	ran = now - turn->since_ns;
	turn->since_ns = 0;
	row = cpu_row(cgroup_id);
	if (row)
		counter_add(row->on_cpu_ns, ran);
	share = share_of(cgroup_id, cpu_id);
	if (!share)
		return 0;
	*share += ran; /* this CPU alone writes it */
	return *share;
}

/* REQUIRES: nobody's turn is on this CPU. */
static __always_inline void end_wait(struct task_struct *task, u64 cgroup_id, u32 cpu_id, u64 now)
{
	u32 tid = (u32)task->pid;
	struct waiting *entry = bpf_map_lookup_elem(&tasks, &tid);
	struct ballast_cpu_value *row = cpu_row(cgroup_id);
	u64 own, waited;
	u64 *share;

	if (!row)
		return;
	counter_add(row->switches, 1);
	if (!entry || !entry->since_ns)
		return;
	waited = now > entry->since_ns ? now - entry->since_ns : 0;
	entry->since_ns = 0;
	counter_add(row->wait_ns, waited);
	if (entry->cgroup_id != cgroup_id)
		return;
	/* It may have been moved meanwhile: what its cgroup had of the CPU where it began to wait
	 * is the best that is known. */
	if (entry->cpu == cpu_id) {
		share = share_of(cgroup_id, cpu_id);
		own = share ? *share : 0;
	} else {
		own = own_time(cgroup_id, entry->cpu, now);
	}
	own = own > entry->own_ns ? own - entry->own_ns : 0;
	counter_add(row->self_wait_ns, own < waited ? own : waited);
}

SEC("tp_btf/sched_switch")
int BPF_PROG(cpu_switch, bool preempt, struct task_struct *prev, struct task_struct *next)
{
	u32 cpu_id = bpf_get_smp_processor_id();
	struct ballast_running_value *turn;
	u64 now, prev_cgroup, next_cgroup, own_ns;
	u32 tid, state;

	if (!in_force())
		return 0;
	turn = bpf_map_lookup_elem(&running, &cpu_id);
	if (!turn)
		return 0;
	now = bpf_ktime_get_ns();
	if (prev->pid) {
		prev_cgroup = task_cgroup_id(prev);
		own_ns = end_turn(turn, cpu_id, now);
		state = task_state(prev);
		/* Preempted, or its quota is used up: it would run on if it could. */
		if (preempt || state == 0) {
			if (turn->cgroup_id != prev_cgroup)
				own_ns = own_time(prev_cgroup, cpu_id, now);
			begin_wait(prev, prev_cgroup, cpu_id, own_ns, now);
		} else if (state & TASK_DEAD) {
			tid = (u32)prev->pid;
			bpf_map_delete_elem(&tasks, &tid);
		}
	}
	if (!next->pid) {
		turn->since_ns = 0;
		turn->cgroup_id = 0;
		return 0;
	}
	next_cgroup = task_cgroup_id(next);
	end_wait(next, next_cgroup, cpu_id, now);
	turn->cgroup_id = next_cgroup;
	turn->since_ns = now;
	return 0;
}

static __always_inline int woken(struct task_struct *task)
{
	u64 now, cgroup_id;
	u32 cpu_id;

	if (!in_force() || !task->pid)
		return 0;
	now = bpf_ktime_get_ns();
	cgroup_id = task_cgroup_id(task);
	cpu_id = (u32)task->wake_cpu;
	begin_wait(task, cgroup_id, cpu_id, own_time(cgroup_id, cpu_id, now), now);
	return 0;
}

SEC("tp_btf/sched_wakeup")
int BPF_PROG(cpu_wakeup, struct task_struct *task)
{
	return woken(task);
}

SEC("tp_btf/sched_wakeup_new")
int BPF_PROG(cpu_wakeup_new, struct task_struct *task)
{
	return woken(task);
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
