/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_SERVER_BPF_H
#define BALLAST_HTTP_SERVER_BPF_H

/* Who serves a connection. Its socket has the cgroup in which its listener was made, which need not
 * be the server's: listeners are handed over (socket activation), and processes are moved after
 * they began to listen. So the first answer is looked at as it is sent: a socket that a process
 * owns is that of the process which runs. What was found holds for the connections that follow.
 *
 * At the same moment the other end is looked for. Where it is a socket of the same cgroup (in the
 * same network namespace, as of one pod it is), the requests are made up as far as anybody else is
 * concerned: they have rows of their own. */

#include "bpf/lib/core.bpf.h"
#include "bpf/lib/protocols.bpf.h"

/* Whether the process that sends is told by the packet's programs (CAP_PERFMON). */
const volatile bool server_is_told = true;

struct server_key {
	u64 cgroup_id; /* in which the listener was made */
	u32 port;
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BALLAST_MAX_SERVERS);
	__type(key, struct server_key);
	__type(value, __u64);
} servers SEC(".maps");

/* The cgroup that serves connections of this socket's listener, as far as is known. */
static __always_inline u64 server_known(struct bpf_sock *sk, u64 cgroup_id)
{
	struct server_key key = {.cgroup_id = cgroup_id, .port = sk->src_port};
	u64 *known = bpf_map_lookup_elem(&servers, &key);

	return known ? *known : cgroup_id;
}

/* The cgroup of the process that sends this packet; 0: it is sent for it. */
static __always_inline u64 server_sending(struct bpf_sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct task_struct *task;

	if (!tcp || !((struct sock *)tcp)->sk_lock.owned)
		return 0;
	task = (struct task_struct *)bpf_get_current_task();
	return BPF_CORE_READ(task, cgroups, dfl_cgrp, kn, id);
}

/* Whether the socket that this packet goes to was made in `cgroup_id` itself. */
static __always_inline bool server_asks_itself(struct __sk_buff *skb, u64 cgroup_id)
{
	const u8 *ip = (const u8 *)(unsigned long)skb->data;
	const u8 *end = (const u8 *)(unsigned long)skb->data_end;
	u32 ip_len = ip_header_len(skb, ip, end);
	struct bpf_sock_tuple ends = {};
	struct bpf_sock *peer;
	bool same;

	if (!ip_len)
		return false;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (bpf_skb_load_bytes(skb, 12, &ends.ipv4.saddr, 8) < 0 ||
		    bpf_skb_load_bytes(skb, ip_len, &ends.ipv4.sport, 4) < 0)
			return false;
		peer = bpf_sk_lookup_tcp(skb, &ends, sizeof(ends.ipv4), BPF_F_CURRENT_NETNS, 0);
	} else {
		if (bpf_skb_load_bytes(skb, 8, &ends.ipv6.saddr, 32) < 0 ||
		    bpf_skb_load_bytes(skb, ip_len, &ends.ipv6.sport, 4) < 0)
			return false;
		peer = bpf_sk_lookup_tcp(skb, &ends, sizeof(ends.ipv6), BPF_F_CURRENT_NETNS, 0);
	}
	if (!peer)
		return false;
	/* A listener is found where no connection is: the other end is elsewhere. */
	same = peer->state != TCP_LISTEN && bpf_sk_cgroup_id(peer) == cgroup_id;
	bpf_sk_release(peer);
	return same;
}

/* What the socket's requests that wait count for, from one row to another. */
static __always_inline void server_move(struct http_socket *c, u8 protocol, u32 waiting, u64 to,
					u8 self)
{
	struct ballast_request_value *row;

	opaque(waiting);
	if (!waiting)
		return;
	row = request_row(c->cgroup_id, c->role, protocol);
	if (row)
		counter_add(row->moved, waiting);
	row = request_row(to, c->role | self, protocol);
	if (row)
		counter_add(row->requests, waiting);
}

/* An answer of a connection whose server has not been seen yet is about to be sent. */
__noinline int http_served(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct server_key key = {};
	struct http2_socket *h;
	struct http_socket *c;
	u64 server;
	u8 self;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || c->class != HTTP_SPOKEN)
		return 0;
	c->unseen = 0;
	if (c->role != BALLAST_ROLE_SERVER)
		return 0;
	server = server_is_told ? server_sending(sk) : 0;
	if (!server)
		server = c->cgroup_id;
	self = server_asks_itself(skb, server) ? BALLAST_ROLE_SELF : 0;
	if (server == c->cgroup_id && !self)
		return 0;
	if (server != c->cgroup_id) {
		key.cgroup_id = c->born_in;
		key.port = sk->src_port;
		bpf_map_update_elem(&servers, &key, &server, BPF_ANY);
	}
	server_move(c, BALLAST_PROTOCOL_HTTP1, http1_waiting(&c->pipeline), server, self);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (h) {
		server_move(c, BALLAST_PROTOCOL_HTTP2, h->open[BALLAST_PROTOCOL_HTTP2], server,
			    self);
		server_move(c, BALLAST_PROTOCOL_GRPC, h->open[BALLAST_PROTOCOL_GRPC], server, self);
	}
	c->cgroup_id = server;
	c->self = self;
	return 0;
}

#endif
