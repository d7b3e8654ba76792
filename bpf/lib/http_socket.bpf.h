/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_HTTP_SOCKET_BPF_H
#define BALLAST_HTTP_SOCKET_BPF_H

/* What the http probe keeps with a TCP socket. */

#include "bpf/lib/http1_again.h"
#include "bpf/lib/http1_pipeline.h"
#include "bpf/lib/packet.bpf.h"
#include "bpf/lib/requests.bpf.h"

enum http_class {
	HTTP_NEW = 0, /* since its first byte */
	HTTP_ADOPTED, /* met in mid-life: any packet may begin a message */
	HTTP_OTHER,   /* began as something else, and may become HTTP yet */
	HTTP_SPOKEN,  /* a message was seen: role holds */
	HTTP_NOT,     /* bytes are counted, not looked at */
};

/* Whose the bytes are: see protocols.bpf.h. */
enum http_mode {
	HTTP_MODE_1 = 0,
	HTTP_MODE_2,
};

enum http1_upgrade {
	HTTP1_NOT_UPGRADED = 0,
	HTTP1_UPGRADED, /* after a 101: HTTP/2 or a tunnel, as the next bytes say */
	HTTP1_TUNNELS,  /* not HTTP any more */
};

/* Packets of an adopted connection that may pass before we take it for something else. Large,
 * because it may be in the middle of a long body. */
#define HTTP_ADOPTED_PATIENCE 4096
#define HTTP_OTHER_PATIENCE   64

/* What every packet needs comes first, so that it lies in few cache lines. */
struct http_direction {
	struct http1_stream stream;
	u32 next_seq;
	u32 claims;   /* CPUs that wanted this direction, less those that gave up */
	u32 released; /* those that had it and are done: its owner alone writes this */
	u8 has_seq;
	u8 holed;
	u8 finished; /* FIN or RST was seen */
	u8 unkept;   /* of those that came ahead not all are in http_kept */
	struct http1_again again;
	u64 answered_ns; /* first byte of an answer that is not in a histogram yet; 0: none */
	/* Segments that came ahead of one that is still to come: the first byte of the first, the
	 * end of the last. HTTP/2's are kept; of others nothing is done with them until the hole
	 * before them is filled, which may tell that they are the inside of a body. */
	u32 hole_end;
	u32 ahead_seq;
};

/* Both ends of a connection, as its packets tell them, and what of it is sampled. */
struct call_socket {
	u8 local[16];
	u8 peer[16];
	u16 local_port;
	u16 peer_port;
	u8 known;
	u8 pad[3];
	u32 sampled;  /* the request in `span_sockets`, by its place on the connection; 0: none */
	u32 inserted; /* HTTP/2: what the indices of the last request's head count from */
};

struct http_socket {
	u64 cgroup_id; /* whose requests these are */
	u64 born_in;   /* the socket's own cgroup, in which it was made */
	u32 patience;
	u8 class;   /* enum http_class */
	u8 role;    /* enum ballast_role; holds once class is HTTP_SPOKEN */
	u8 mode;    /* enum http_mode */
	u8 upgrade; /* enum http1_upgrade */
	u8 early;   /* a listener's: what it holds is not counted yet, see http_early.bpf.h */
	u8 unseen;  /* who serves it is not known: see http_server.bpf.h */
	u8 kb;      /* that `followed` counts for it */
	u8 early_syn;
	u32 early_seq;
	u8 self; /* BALLAST_ROLE_SELF: the socket at the other end is the same cgroup's; or 0 */
	u8 pad[3];
	struct http_direction rx;
	struct http_direction tx;
	struct http1_pipeline pipeline;
	struct call_socket call;
	struct http1_window
		tx_window; /* a softirq may interrupt a process in mid-parse: not per CPU */
};
/* The kernel keeps 72 bytes with it, and allocates by powers of two. */
BALLAST_ASSERT(sizeof(struct http_socket) + 72 <= BALLAST_HTTP_KB * 1024, "what `followed` counts");

struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct http_socket);
} http_sockets SEC(".maps");

struct http_piece {
	struct http1_window window;
	u64 came_ns; /* of what was kept */
};

/* Ingress runs in softirq, which does not nest on one CPU. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct http_piece);
} rx_window SEC(".maps");

/* Segments that came ahead of others, piece by piece: 0.8 MB. What nobody reads is the first to be
 * overwritten. */
#define HTTP_MAX_KEPT 2048
struct http_piece_key {
	u64 socket; /* its cookie */
	u32 seq;    /* of the first byte */
	u32 pad;
};

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, HTTP_MAX_KEPT);
	__type(key, struct http_piece_key);
	__type(value, struct http_piece);
} http_kept SEC(".maps");

/* In the place of an offset in the packet: in what is in rx_window, which was kept of a packet
 * before.
 */
#define HTTP_KEPT (1U << 30)

/* That piece; NULL: `offset` is in the packet. */
static __always_inline struct http_piece *http_piece_at(bool ingress, u32 offset)
{
	u32 zero = 0;

	return ingress && offset >= HTTP_KEPT ? bpf_map_lookup_elem(&rx_window, &zero) : NULL;
}

/* Behind the last byte that can be looked at, where `offset` is one of them. */
static __always_inline u32 http_end(struct __sk_buff *skb, bool ingress, u32 offset)
{
	struct http_piece *kept = http_piece_at(ingress, offset);

	return kept ? HTTP_KEPT + kept->window.end : skb->len;
}

/* What is rare lies in global functions, which are given the packet alone and look the socket's
 * state up: the verifier checks each once, and not in every state that the packet's way may be in.
 */
static __always_inline struct http_socket *http_socket_of(struct __sk_buff *skb)
{
	struct bpf_sock *sk = skb->sk;

	return sk ? bpf_sk_storage_get(&http_sockets, sk, NULL, 0) : NULL;
}

static __always_inline struct ballast_request_value *http_row(struct http_socket *c, u8 protocol)
{
	return c->early ? NULL : request_row(c->cgroup_id, c->role | c->self, protocol);
}

static __always_inline bool http_carries_requests(const struct http_socket *c, bool ingress)
{
	return ingress == (c->role == BALLAST_ROLE_SERVER);
}

/* The first message tells who asks whom. */
static __always_inline void http_speaks(struct http_socket *c, bool requests, bool ingress)
{
	if (c->class == HTTP_SPOKEN)
		return;
	c->role = ingress == requests ? BALLAST_ROLE_SERVER : BALLAST_ROLE_CLIENT;
	c->class = HTTP_SPOKEN;
}

static __always_inline struct http_direction *http_requests_of(struct http_socket *c)
{
	return http_carries_requests(c, true) ? &c->rx : &c->tx;
}

/* Bytes that begin or go on as no message can. */
static __always_inline void http_lost(struct http_socket *c, u32 bytes)
{
	if (c->class == HTTP_SPOKEN) {
		http1_doubt(&c->pipeline);
		count_loss(BALLAST_LOSS_PARSE, 1, bytes);
		return;
	}
	count_loss(BALLAST_LOSS_NOT_HTTP, 1, bytes);
	if (c->class == HTTP_NEW) {
		c->class = HTTP_OTHER;
		c->patience = HTTP_OTHER_PATIENCE;
	} else if (c->patience <= 1) {
		c->class = HTTP_NOT;
	} else {
		c->patience--;
	}
}

/* When this packet came or goes. A packet that leaves carries the time at which TCP sent it, on the
 * same clock. */
static __always_inline u64 http_now(struct __sk_buff *skb, bool ingress)
{
	u64 sent_ns = ingress ? 0 : skb->tstamp;

	return sent_ns ? sent_ns : bpf_ktime_get_ns();
}

/* Fills the window with the packet's bytes from `offset`, of which there are `left` >= 1. */
static __always_inline bool http_load_window(struct __sk_buff *skb, struct http1_window *w,
					     u32 offset, u32 left)
{
	u32 n = left < HTTP1_WINDOW ? left : HTTP1_WINDOW;

	/* The verifier learns that 1 <= n <= HTTP1_WINDOW. */
	n -= 1;
	opaque(n);
	n &= HTTP1_WINDOW - 1;
	n += 1;
	if (bpf_skb_load_bytes(skb, offset, w->bytes, n) < 0)
		return false;
	w->pos = 0;
	w->end = n;
	return true;
}

/* The window that begins at `offset`, or what was kept and is in it already, with `left` set. What
 * it is goes through memory, so that the verifier looks at what follows once. */
static __always_inline bool http_window(struct __sk_buff *skb, struct http1_window *w, bool ingress,
					u32 offset)
{
	u32 left = skb->len - offset;

	if (ingress && offset >= HTTP_KEPT) {
		w->pos = offset - HTTP_KEPT;
		w->left = w->end;
	} else {
		if (!http_load_window(skb, w, offset, left))
			return false;
		w->left = left;
	}
	http1_forget();
	return true;
}

#endif
