// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* TCP connections by cgroup, from their changes of state. The cgroup is the socket's, because the
 * tracepoint often runs in a softirq on top of somebody else. */
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/generation.bpf.h"
#include "bpf/lib/maps.bpf.h"

#include <bpf/bpf_tracing.h>

static __always_inline void count_opened(struct ballast_connection_value *row, int old_state)
{
	counter_add(row->open, 1);
	if (old_state == TCP_SYN_SENT)
		counter_add(row->connected, 1);
	else
		counter_add(row->accepted, 1);
}

static __always_inline void count_closed(struct ballast_connection_value *row, struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);

	counter_add(row->open, -1);
	counter_add(row->closed, 1);
	if (tcp)
		counter_add(row->srtt_us_sum, tcp->srtt_us >> 3);
}

static __always_inline bool opens(int old_state, int new_state)
{
	return new_state == TCP_ESTABLISHED &&
	       (old_state == TCP_SYN_SENT || old_state == TCP_SYN_RECV);
}

/* Kernels from 5.11: a mark on the socket says that it was counted, so that a connection which
 * was open before us is not subtracted. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state, struct sock *sk, int old_state, int new_state)
{
	struct ballast_connection_value *row;
	struct counted_socket *mark;
	u64 cgroup_id;

	if (sk->sk_protocol != IPPROTO_TCP || !in_force())
		return 0;
	if (opens(old_state, new_state)) {
		mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
		cgroup_id = sock_cgroup_id(sk);
		row = connection_row(cgroup_id);
		if (!mark || !row) {
			count_loss(BALLAST_LOSS_NO_STORAGE, 1, 0);
			return 0;
		}
		mark->cgroup_id = cgroup_id;
		mark->unfollowed = 0; /* a socket may be used again */
		count_opened(row, old_state);
	} else if (new_state == TCP_CLOSE) {
		mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, 0);
		if (!mark || !mark->cgroup_id)
			return 0;
		row = connection_row(mark->cgroup_id);
		mark->cgroup_id = 0;
		if (row)
			count_closed(row, sk);
	}
	return 0;
}

/* Before 5.11 tracing programs have no socket storage: a close is told from the state alone, and
 * `open` may go below the truth by the connections that were there before us. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(tcp_state_unmarked, struct sock *sk, int old_state, int new_state)
{
	struct ballast_connection_value *row;
	bool closes = new_state == TCP_CLOSE && old_state != TCP_CLOSE && old_state != TCP_LISTEN &&
		      old_state != TCP_SYN_SENT && old_state != TCP_SYN_RECV &&
		      old_state != TCP_NEW_SYN_RECV;

	if (sk->sk_protocol != IPPROTO_TCP || !in_force())
		return 0;
	if (!closes && !opens(old_state, new_state))
		return 0;
	row = connection_row(sock_cgroup_id(sk));
	if (!row)
		return 0;
	if (closes)
		count_closed(row, sk);
	else
		count_opened(row, old_state);
	return 0;
}

SEC("tp_btf/tcp_retransmit_skb")
int BPF_PROG(tcp_retransmit, struct sock *sk)
{
	struct ballast_connection_value *row;

	if (!in_force())
		return 0;
	row = connection_row(sock_cgroup_id(sk));
	if (row)
		counter_add(row->retransmits, 1);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
