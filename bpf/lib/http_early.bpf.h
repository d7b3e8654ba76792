/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_EARLY_BPF_H
#define BALLAST_HTTP_EARLY_BPF_H

/* Requests that come before their socket is made: with the handshake's last segment (deferred
 * accept) or with the SYN (Fast Open). The packet's way sees them on the listener and never again.
 * So they are parsed with state of the listener's own, of which nothing is counted, for the segment
 * may be refused and come again; what was found is kept by the connection's ends until its socket
 * is met. */

#include "bpf/lib/claim.bpf.h"
#include "bpf/lib/core.bpf.h"
#include "bpf/lib/http_follow.bpf.h"
#include "bpf/lib/protocols.bpf.h"

/* One CPU at a time has a listener's state. */
struct early_listener {
	u32 claims;
	u32 released;
};

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct early_listener);
} early_listeners SEC(".maps");

/* Of an IPv6 address the last 4 bytes: a v4-mapped one's are the v4 address. That it is the same
 * connection the sequence number tells. */
struct early_key {
	u64 cgroup_id;
	u32 peer;
	u16 peer_port;
	u16 local_port;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BALLAST_MAX_EARLY);
	__type(key, struct early_key);
	__type(value, struct http_socket);
} http_early SEC(".maps");

/* struct http2_socket without its lock, which may not be copied. */
#define EARLY_WORDS ((sizeof(struct http2_socket) - 8) / 8)
struct http2_early {
	u64 words[EARLY_WORDS];
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, BALLAST_MAX_EARLY);
	__type(key, struct early_key);
	__type(value, struct http2_early);
} http2_early SEC(".maps");

/* Whether there ever was one: until then no connection is looked up. */
unsigned int early_seen = 0; /* no typedef: the skeleton repeats the type */

/* In both: the peer's address and port, our port, as this packet has them. */
static __always_inline bool early_packet_key(struct __sk_buff *skb, struct early_key *key,
					     bool ingress)
{
	bool v4 = skb->protocol == bpf_htons(ETH_P_IP);
	u32 at = v4 ? (ingress ? 12 : 16) : (ingress ? 20 : 36);
	u8 ports[4];
	u32 ip_len;

	ip_len = ip_header_len(skb, (const u8 *)(unsigned long)skb->data,
			       (const u8 *)(unsigned long)skb->data_end);
	if (!ip_len || bpf_skb_load_bytes(skb, ip_len, ports, sizeof(ports)) < 0 ||
	    bpf_skb_load_bytes(skb, at, &key->peer, sizeof(key->peer)) < 0)
		return false;
	key->cgroup_id = bpf_skb_cgroup_id(skb);
	if (ingress) {
		key->peer_port = (u16)(ports[0] << 8 | ports[1]);
		key->local_port = (u16)(ports[2] << 8 | ports[3]);
	} else {
		key->local_port = (u16)(ports[0] << 8 | ports[1]);
		key->peer_port = (u16)(ports[2] << 8 | ports[3]);
	}
	return true;
}

/* Data for a listener. 1: it is to be parsed, early_keep() follows. */
__noinline int early_begin(struct __sk_buff *skb, u32 len)
{
	struct early_listener *listener;
	struct bpf_sock *sk = skb->sk;
	struct http_socket *c;
	struct segment seg;

	if (!sk || !segment_read(skb, &seg))
		return 0;
	sk = bpf_sk_fullsock(sk);
	if (!sk)
		return 0;
	listener = bpf_sk_storage_get(&early_listeners, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!listener)
		listener = bpf_sk_storage_get(&early_listeners, sk, NULL, 0);
	if (!listener || !claim(&listener->claims, &listener->released)) {
		count_loss(BALLAST_LOSS_GAP, 1, len);
		return 0;
	}
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (!c) {
		release(&listener->released);
		count_loss(BALLAST_LOSS_NO_STORAGE, 1, len);
		return 0;
	}
	early_seen = 1;
	c->early = 1;
	c->early_syn = !!(seg.flags & TCP_SYN);
	c->early_seq = seg.seq;
	c->rx.next_seq = seg.seq;
	c->rx.has_seq = 1;
	return 1;
}

/* What was found in the listener's packet goes to the connection, and the listener's state. */
__noinline int early_keep(struct __sk_buff *skb)
{
	struct early_listener *listener;
	struct bpf_sock *sk = skb->sk;
	struct http_socket *before;
	struct early_key key = {};
	struct http2_socket *h;
	struct http_socket *c;

	if (!sk)
		return 0;
	c = bpf_sk_storage_get(&http_sockets, sk, NULL, 0);
	if (!c)
		return 0;
	listener = bpf_sk_storage_get(&early_listeners, sk, NULL, 0);
	h = bpf_sk_storage_get(&http2_sockets, sk, NULL, 0);
	if (early_packet_key(skb, &key, true)) {
		before = bpf_map_lookup_elem(&http_early, &key);
		/* Sent again: from when it came first, if no more came with it. */
		if (!before || before->early_seq != c->early_seq ||
		    (s32)(c->rx.next_seq - before->rx.next_seq) > 0) {
			bpf_map_update_elem(&http_early, &key, c, BPF_ANY);
			if (h)
				bpf_map_update_elem(&http2_early, &key, (u8 *)h + 8, BPF_ANY);
		}
	}
	bpf_sk_storage_delete(&http_sockets, sk);
	if (h)
		bpf_sk_storage_delete(&http2_sockets, sk);
	if (listener)
		release(&listener->released);
	return 0;
}

/* Counts what waits. */
static __always_inline void early_count(struct http_socket *c, u8 protocol, u32 waiting, u64 now)
{
	struct ballast_request_value *row;

	opaque(waiting);
	if (!waiting)
		return;
	row = request_row(c->cgroup_id, c->role, protocol);
	if (!row)
		return;
	counter_add(row->requests, waiting);
	row->last_seen_ns = now;
}

/* What overtook the connection's first bytes was parsed as what it is not. TCP has it, and the
 * packet's way never sees it again: to the connection it is a segment ahead of a hole, and not
 * kept.
 */
static __always_inline void early_hole(struct http_socket *kept, u32 rcv_nxt)
{
	struct http_direction *d = &kept->rx;
	u32 seq = kept->early_seq;
	u32 end = d->next_seq;
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < sizeof(*kept) / 8; i++)
		((u64 *)kept)[i] = 0;
	kept->early = 1;
	d->next_seq = rcv_nxt;
	d->has_seq = 1;
	d->holed = 1;
	d->unkept = 1;
	d->hole_end = seq;
	d->ahead_seq = end;
}

/* No more may come before the window's scale holds. */
#define EARLY_WINDOW 65535

/* Whether what is kept is this socket's, which has had all up to `rcv_nxt`, and tells something.
 * Data of a SYN may have been refused, and comes again then. */
static __always_inline bool early_fits(struct http_socket *kept, u32 rcv_nxt)
{
	s32 had = (s32)(rcv_nxt - kept->early_seq);

	if (!kept->early_syn && had < 0 && had >= -EARLY_WINDOW) {
		early_hole(kept, rcv_nxt);
		return true;
	}
	if (kept->class != HTTP_SPOKEN && kept->mode != HTTP_MODE_2 &&
	    (kept->class != HTTP_NEW || kept->rx.stream.state == HTTP1_START))
		return false;
	return kept->early_syn ? had > 0 : had >= 0 && had < 1 << 30;
}

static __always_inline void early_copy(struct http2_socket *h, const struct http2_early *from)
{
	u64 *to = (u64 *)((u8 *)h + 8);
	u32 i;

#pragma clang loop unroll(disable)
	for (i = 0; i < EARLY_WORDS; i++)
		to[i] = from->words[i];
}

static __always_inline void early_give(struct http_socket *c, struct http2_socket *h)
{
	u64 now = bpf_ktime_get_ns();

	c->early = 0;
	early_count(c, BALLAST_PROTOCOL_HTTP1, http1_waiting(&c->pipeline), now);
	if (h) {
		early_count(c, BALLAST_PROTOCOL_HTTP2, h->open[BALLAST_PROTOCOL_HTTP2], now);
		early_count(c, BALLAST_PROTOCOL_GRPC, h->open[BALLAST_PROTOCOL_GRPC], now);
	}
}

/* The connection's socket is met: gives it what was kept. sk: of either kind of program. NULL:
 * there is nothing. */
#define early_take(sk, key, rcv_nxt, cgroup)                                                       \
	({                                                                                         \
		struct http_socket *kept_ = bpf_map_lookup_elem(&http_early, key), *c_ = NULL;     \
		struct http2_early *kept2_;                                                        \
		struct http2_socket *h_;                                                           \
                                                                                                   \
		if (kept_ && early_fits(kept_, rcv_nxt))                                           \
			c_ = bpf_sk_storage_get(&http_sockets, sk, kept_,                          \
						BPF_SK_STORAGE_GET_F_CREATE);                      \
		if (c_ && c_->early) {                                                             \
			c_->cgroup_id = cgroup;                                                    \
			c_->born_in = (key)->cgroup_id;                                            \
			c_->unseen = 1;                                                            \
			c_->kb = BALLAST_HTTP_KB;                                                  \
			kept2_ = bpf_map_lookup_elem(&http2_early, key);                           \
			h_ = c_->mode == HTTP_MODE_2 && kept2_                                     \
				     ? bpf_sk_storage_get(&http2_sockets, sk, NULL,                \
							  BPF_SK_STORAGE_GET_F_CREATE)             \
				     : NULL;                                                       \
			if (h_) {                                                                  \
				c_->kb += BALLAST_HTTP2_KB;                                        \
				early_copy(h_, kept2_);                                            \
			}                                                                          \
			http_follow_add(c_->born_in, c_->kb);                                      \
			early_give(c_, h_);                                                        \
		}                                                                                  \
		if (kept_)                                                                         \
			bpf_map_delete_elem(&http_early, key);                                     \
		c_;                                                                                \
	})

#endif
