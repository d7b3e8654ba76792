// SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
/* HTTP requests by cgroup: a cgroup_skb pair at the cgroup v2 root sees every TCP segment of every
 * socket, before the socket's lock on the way in, and keeps the parser's state with the socket.
 *
 * Who writes what. Egress of one socket runs under that socket's lock, so `tx` has one writer.
 * Ingress runs without it and two CPUs may hold segments of one connection, so `rx` is claimed;
 * what its loser held is kept, or counts as a gap. The direction that carries requests writes
 * pipeline.begun, the one that carries answers pipeline.ended.
 */
#include "bpf/lib/claim.bpf.h"
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/coverage.bpf.h"
#include "bpf/lib/http_early.bpf.h"
#include "bpf/lib/http_follow.bpf.h"
#include "bpf/lib/http_sequence.bpf.h"
#include "bpf/lib/http_server.bpf.h"
#include "bpf/lib/packet.bpf.h"
#include "bpf/lib/protocols.bpf.h"

#include <bpf/bpf_tracing.h>

/* Whether the tcp probe marks the sockets that it counts (kernels from 5.11). */
const volatile bool tcp_marks_sockets = true;

static __always_inline void http_stream(struct __sk_buff *skb, struct http_socket *c,
					struct http_direction *d, const struct segment *seg,
					bool ingress)
{
	u32 offset = seg->offset;
	u32 seen = 0;

	if (d->has_seq && seg->seq == d->next_seq) {
		d->next_seq = seg->seq + seg->len;
	} else {
		seen = (u32)http_out_of_order(skb, seg->seq, seg->len, ingress);
		offset += seen;
	}
	if (seen < seg->len)
		protocol_payload(skb, c, ingress, offset);
	if (ingress && d->holed && (s32)(d->next_seq - d->hole_end) >= 0) {
		http_read_kept(skb);
		http_hole(skb);
	}
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
		if (c->unseen)
			http_served(skb);
		http_stream(skb, c, d, seg, ingress);
		return;
	}
	if (d->has_seq && (s32)(seg->seq - d->next_seq) > 0)
		http_turn(skb, seg->seq);
	if (!claim(&d->claims, &d->released)) {
		if (!http_keep(skb, seg->seq, seg->len))
			http1_doubt(&c->pipeline);
		return;
	}
	http_stream(skb, c, d, seg, ingress);
	release(&d->released);
}

/* Whether TCP will take the FIN or RST that comes with a segment's end: then all before it was
 * seen. One that does not fit may be anybody's. */
static __always_inline bool http_ends(struct bpf_sock *sk, struct http_direction *d, u32 end)
{
	struct bpf_tcp_sock *tcp;
	u32 next;

	next = d->next_seq;
	opaque(next); /* or the compiler makes one load of two kinds of pointer */
	if (d->has_seq)
		return next == end;
	tcp = bpf_tcp_sock(sk);
	return tcp && tcp->rcv_nxt == end;
}

/* FIN or RST. In the direction of the answers a body without a length ends with it, and there is no
 * answer to come. The other direction may close first and still be answered, if it is no reset. */
__noinline int http_finish(struct __sk_buff *skb, u32 flags, u32 end, u32 ingress)
{
	struct bpf_sock *sk = skb->sk;
	struct http_direction *d;
	struct http_socket *c;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c)
		return 0;
	d = ingress ? &c->rx : &c->tx;
	if (ingress && !claim(&d->claims, &d->released))
		return 0; /* http_close() has the last word */
	if (!ingress || http_ends(sk, d, end)) {
		d->finished = 1;
		if (c->class == HTTP_SPOKEN &&
		    (!http_carries_requests(c, ingress) || (flags & TCP_RST)))
			protocol_finish(skb, c, ingress, flags);
	}
	if (ingress)
		release(&d->released);
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
__noinline int http_socket_new(struct __sk_buff *skb, u32 len, u32 ingress)
{
	struct counted_socket *mark;
	struct early_key key = {};
	struct bpf_sock *sk = skb->sk;
	struct bpf_tcp_sock *tcp;
	struct http_socket *c;
	u64 cgroup_id;
	bool fresh;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	if (sk->state == TCP_LISTEN)
		return early_begin(skb, len);
	tcp = bpf_tcp_sock(sk);
	if (!tcp)
		return 0;
	mark = bpf_sk_storage_get(&tcp_sockets, sk, NULL, 0);
	if (mark && mark->unfollowed) {
		if (len)
			count_loss(mark->unfollowed - 1, 1, len);
		return 0;
	}
	cgroup_id = bpf_skb_cgroup_id(skb);
	if (early_seen && early_packet_key(skb, &key, ingress)) {
		c = early_take(sk, &key, tcp->rcv_nxt, server_known(sk, cgroup_id));
		if (c) {
			http_adopt_connection(sk, cgroup_id, true);
			return 1;
		}
	}
	if (!len)
		return 0;
	/* A SYN counts as a byte. */
	fresh = !tcp->bytes_received && tcp->bytes_acked <= 1;
	if (!http_follow(cgroup_id, BALLAST_HTTP_KB)) {
		http_adopt_connection(sk, cgroup_id, fresh);
		http_unfollow(sk, BALLAST_LOSS_NO_STORAGE);
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, len);
		return 0;
	}
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) { /* of two CPUs that create it at once, one is refused */
		http_follow_add(cgroup_id, -BALLAST_HTTP_KB);
		c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	}
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
		c->kb = BALLAST_HTTP_KB;
		c->unseen = 1;
		c->born_in = cgroup_id;
		c->cgroup_id = server_known(sk, cgroup_id);
		http_adopt_connection(sk, cgroup_id, fresh);
	}
	return 1;
}

/* A connection that is not HTTP: a mark of it is enough. */
__noinline int http_drop(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;

	if (!sk)
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c)
		return 0;
	http_unfollow(sk, BALLAST_LOSS_NOT_HTTP);
	if (follow_bounded)
		http_follow_add(c->born_in, -(s64)c->kb);
	bpf_sk_storage_delete(&http_sockets, sk);
	bpf_sk_storage_delete(&http2_sockets, sk);
	return 0;
}

/* Always 1: a packet is never dropped. */
static __always_inline int http_packet(struct __sk_buff *skb, bool ingress)
{
	struct http_socket *c;
	struct segment seg = {};
	struct bpf_sock *sk;

	if (!segment_read(skb, &seg)) {
		if (!seg.offset) {
			coverage_datagram(skb);
			return 1;
		}
		/* An acknowledgement alone. A request that came with the handshake is counted with
		 * the first one that goes out, where no tracepoint did it. */
		if (ingress || !early_seen)
			return 1;
	}
	sk = skb->sk;
	if (!sk)
		return 1;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || !c->cgroup_id) {
		if (!seg.len && !early_seen)
			return 1;
		if (!http_socket_new(skb, seg.len, ingress))
			return 1;
		c = http_socket_of(skb);
		if (!c)
			return 1;
	}
	if (seg.len)
		http_data(skb, c, &seg, ingress);
	if (c->early) {
		early_keep(skb);
		return 1;
	}
	if (seg.flags & (TCP_FIN | TCP_RST))
		http_finish(skb, seg.flags, seg.seq + seg.len, ingress);
	if (c->class == HTTP_NOT)
		http_drop(skb);
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

/* A socket is born, for which a request may wait already. */
static __always_inline void http_open(struct sock *sk)
{
	struct tcp_sock *tcp = bpf_skc_to_tcp_sock(sk);
	struct sock_common *ends = &sk->__sk_common;
	struct early_key key = {.cgroup_id = sock_cgroup_id(sk)};
	struct server_key listener = {.cgroup_id = key.cgroup_id, .port = ends->skc_num};
	u64 *server = bpf_map_lookup_elem(&servers, &listener);

	if (!tcp)
		return;
	key.peer = ends->skc_family == AF_INET6 ? ends->skc_v6_daddr.in6_u.u6_addr32[3]
						: ends->skc_daddr;
	key.peer_port = bpf_ntohs(ends->skc_dport);
	key.local_port = ends->skc_num;
	early_take(sk, &key, tcp->rcv_nxt, server ? *server : key.cgroup_id);
}

/* Whatever way a connection ends (reset, time-out, its process killed), this is the last of it, and
 * the first of the next one on the same socket. Kernels from 5.11; before, only FIN and RST give
 * requests back. Of two of these programs, while one takes the other's place, the second finds
 * nothing. */
SEC("tp_btf/inet_sock_set_state")
int BPF_PROG(http_close, struct sock *sk, int old_state, int new_state)
{
	struct http_socket *c;

	if (sk->sk_protocol != IPPROTO_TCP)
		return 0;
	if (new_state == TCP_ESTABLISHED && old_state == TCP_SYN_RECV && early_seen)
		http_open(sk);
	if (new_state != TCP_CLOSE)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c || c->early)
		return 0;
	if (c->class == HTTP_SPOKEN)
		protocol_close(sk, c);
	http_follow_add(c->born_in, -(s64)c->kb);
	bpf_sk_storage_delete(&http_sockets, sk);
	bpf_sk_storage_delete(&http2_sockets, sk);
	return 0;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
