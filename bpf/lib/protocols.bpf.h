/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_PROTOCOLS_BPF_H
#define BALLAST_PROTOCOLS_BPF_H

/* The protocols and where their packets go. A protocol P is a header of its own and a line in
 * HTTP_PROTOCOLS, after those whose bytes may turn into its own in mid-packet. It has:
 *
 *   u32 P_payload(skb, c, ingress, offset)  the packet from `offset` on, in order and not seen
 *                                           before; gives the offset from which on it is another
 *                                           protocol's, or the packet's end
 *   bool P_gap_harmless(skb, c, ingress, n) whether so many bytes need not be seen
 *   void P_gap(skb, c, ingress, n)          they never will be
 *   void P_finish(skb, c, ingress, flags)   FIN or RST in the direction of the answers
 *   void P_close(sk, c)                     the last of a socket, whatever way it ended
 *
 * The last two are asked of all, as a connection may have had several.
 */
#include "bpf/lib/http1.bpf.h"
#include "bpf/lib/http2.bpf.h"

#define HTTP_PROTOCOLS(X)                                                                          \
	X(HTTP_MODE_1, http1)                                                                      \
	X(HTTP_MODE_2, http2)

static __always_inline void protocol_payload(struct __sk_buff *skb, struct http_socket *c,
					     bool ingress, u32 offset)
{
#define PAYLOAD(is, protocol)                                                                      \
	if (c->mode == is)                                                                         \
		offset = protocol##_payload(skb, c, ingress, offset);
	HTTP_PROTOCOLS(PAYLOAD)
}

static __always_inline bool protocol_gap_harmless(struct __sk_buff *skb, struct http_socket *c,
						  bool ingress, u32 gap)
{
#define GAP_HARMLESS(is, protocol)                                                                 \
	if (c->mode == is)                                                                         \
		return protocol##_gap_harmless(skb, c, ingress, gap);
	HTTP_PROTOCOLS(GAP_HARMLESS)
	return false;
}

static __always_inline void protocol_gap(struct __sk_buff *skb, struct http_socket *c, bool ingress,
					 u32 gap)
{
#define GAP(is, protocol)                                                                          \
	if (c->mode == is) {                                                                       \
		protocol##_gap(skb, c, ingress, gap);                                              \
		return;                                                                            \
	}
	HTTP_PROTOCOLS(GAP)
}

static __always_inline void protocol_finish(struct __sk_buff *skb, struct http_socket *c,
					    bool ingress, u32 flags)
{
#define FINISH(is, protocol) protocol##_finish(skb, c, ingress, flags);
	HTTP_PROTOCOLS(FINISH)
}

static __always_inline void protocol_close(struct sock *sk, struct http_socket *c)
{
#define CLOSE(is, protocol) protocol##_close(sk, c);
	HTTP_PROTOCOLS(CLOSE)
}

#endif
