// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* HTTP requests by cgroup: a cgroup_skb pair at the cgroup v2 root sees every TCP segment of every
 * socket, before the socket's lock on the way in, and keeps the parser's state with the socket.
 *
 * Who writes what. Egress of one socket runs under that socket's lock, so `tx` has one writer.
 * Ingress runs without it and two CPUs may hold segments of one connection, so `rx` is claimed;
 * what its loser held counts as a gap. The direction that carries requests writes pipeline.begun,
 * the one that carries answers pipeline.ended.
 */
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/coverage.bpf.h"
#include "bpf/lib/http_sequence.bpf.h"
#include "bpf/lib/packet.bpf.h"
#include "bpf/lib/protocols.bpf.h"

#include <bpf/bpf_tracing.h>

/* Whether the tcp probe marks the sockets that it counts (kernels from 5.11). */
const volatile bool tcp_marks_sockets = true;

#define HTTP_CLAIM_TRIES 1024

static __always_inline void http_stream(struct __sk_buff *skb, struct http_socket *c,
					struct http_direction *d, const struct segment *seg,
					bool ingress)
{
	u32 offset = seg->offset;
	u32 seen;

	if (d->has_seq && seg->seq == d->next_seq) {
		d->next_seq = seg->seq + seg->len;
	} else {
		seen = (u32)http_out_of_order(skb, seg->seq, seg->len, ingress);
		if (seen >= seg->len)
			return;
		offset += seen;
	}
	protocol_payload(skb, c, ingress, offset);
	if (ingress && d->holed)
		http_hole(skb);
}

/* Waits for another CPU's segment of this direction, some microseconds at most. Adds without
 * fetching are all that kernels before 5.12 have, and enough: of two that both added, the second
 * sees two. The owner ends it by a plain store to `released`. */
static __always_inline bool http_claim(struct http_direction *d)
{
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < HTTP_CLAIM_TRIES; i++) {
		u32 released = *(volatile u32 *)&d->released;

		if (*(volatile u32 *)&d->claims != released)
			continue;
		counter_add(d->claims, 1);
		if (*(volatile u32 *)&d->claims == *(volatile u32 *)&d->released + 1)
			return true;
		counter_add(d->claims, -1);
	}
	return false;
}

static __always_inline void http_data(struct __sk_buff *skb, struct http_socket *c,
				      const struct segment *seg, bool ingress)
{
	struct http_direction *d = ingress ? &c->rx : &c->tx;

	if (c->class == HTTP_NOT) {
		count_loss(BALLAST_LOSS_NOT_HTTP, 1, seg->len);
		return;
	}
	if (!ingress) {
		http_stream(skb, c, d, seg, ingress);
		return;
	}
	if (d->has_seq && (s32)(seg->seq - d->next_seq) > 0)
		http_turn(skb, seg->seq);
	if (!http_claim(d)) {
		http1_doubt(&c->pipeline);
		return;
	}
	http_stream(skb, c, d, seg, ingress);
	*(volatile u32 *)&d->released = d->released + 1;
}

/* FIN or RST in the direction of the answers: a body without a length ends here, and there is no
 * answer to come. The other direction may close first and still be answered. */
__noinline int http_finish(struct __sk_buff *skb, u32 flags, u32 ingress)
{
	struct http_socket *c = http_socket_of(skb);

	if (c && c->class == HTTP_SPOKEN && !http_carries_requests(c, ingress))
		protocol_finish(skb, c, ingress, flags);
	return 0;
}

/* A connection that was open before the tcp probe was there counts from its first segment. */
static __always_inline void http_adopt_connection(struct bpf_sock *sk, u64 cgroup_id, bool fresh)
{
	struct ballast_connection_value *row;
	struct counted_socket *mark;

	if (!tcp_marks_sockets && fresh)
		return;
	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, 0);
	if (mark)
		return;
	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	row = mark ? connection_row(cgroup_id) : NULL;
	if (!row)
		return;
	mark->cgroup_id = cgroup_id;
	counter_add(row->open, 1);
	counter_add(row->adopted, 1);
}

/* 1: the socket has its state now. */
__noinline int http_socket_new(struct __sk_buff *skb, u32 len)
{
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct http_socket *c;
	bool fresh;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	if (sk->state == TCP_LISTEN) {
		/* Data in the handshake's last packet: the socket it is for is not made yet. */
		count_loss(BALLAST_LOSS_GAP, 1, len);
		return 0;
	}
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return 0;
	/* A SYN counts as a byte. */
	fresh = !tcp->bytes_received && tcp->bytes_acked <= 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) /* of two CPUs that create it at once, one is refused */
		c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c) {
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, len);
		return 0;
	}
	/* The first packets of both directions may be here at once on two CPUs (a server that
	 * speaks first): only what both would write alike is written, and of new sockets nothing
	 * that the other may have changed since. */
	if (!c->cgroup_id) {
		c->patience = HTTP_ADOPTED_PATIENCE;
		if (!fresh)
			c->class = HTTP_ADOPTED;
		c->cgroup_id = bpf_skb_cgroup_id(skb);
		http_adopt_connection(sk, c->cgroup_id, fresh);
	}
	return 1;
}

/* Always 1: a packet is never dropped. */
static __always_inline int http_packet(struct __sk_buff *skb, bool ingress)
{
	struct http_socket *c;
	struct bpf_sock *sk;
	struct segment seg;

	if (!segment_read(skb, &seg)) {
		if (!seg.offset)
			coverage_datagram(skb);
		return 1;
	}
	sk = skb->sk;
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || !c->cgroup_id) {
		if (!seg.len || (seg.flags & TCP_SYN))
			return 1;
		if (!http_socket_new(skb, seg.len))
			return 1;
		c = http_socket_of(skb);
		if (!c)
			return 1;
	}
	if (seg.len)
		http_data(skb, c, &seg, ingress);
	if (seg.flags & (TCP_FIN | TCP_RST))
		http_finish(skb, seg.flags, ingress);
	return 1;
}

SEC("cgroup_skb/ingress")
int http_ingress(struct __sk_buff *skb)
{
	return http_packet(skb, true);
}

SEC("cgroup_skb/egress")
int http_egress(struct __sk_buff *skb)
{
	return http_packet(skb, false);
}

/* Whatever way a connection ends (reset, time-out, its process killed), this is the last of it.
 * Kernels from 5.11; before, only FIN and RST give requests back. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_close, struct sock *sk, int old_state, int new_state)
{
	struct http_socket *c;

	if (new_state != TCP_CLOSE || sk->sk_protocol != IPPROTO_TCP)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || c->closed)
		return 0;
	c->closed = 1;
	if (c->class == HTTP_SPOKEN)
		protocol_close(sk, c);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
