/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_PACKET_BPF_H
#define BALLAST_PACKET_BPF_H

/* The TCP segment of a cgroup_skb program's packet, whose data begins at the IP header. */

#include "bpf/lib/kernel.bpf.h"

#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#define TCP_FIN 1
#define TCP_SYN 2
#define TCP_RST 4

struct segment {
	u32 seq;    /* of the first payload byte */
	u32 offset; /* of the first payload byte in the packet */
	u32 len;    /* payload; more than 64 KB is possible (GSO) */
	u8 flags;
};

/* Length of the IP header up to TCP, or 0 when the packet is not TCP. IPv6: a hop-by-hop header
 * is what BIG TCP adds; other extension headers are not followed. */
static __always_inline u32 ip_header_len(struct __sk_buff *skb, const u8 *ip, const u8 *end)
{
	u32 len;

	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (ip + 20 > end || ip[9] != IPPROTO_TCP)
			return 0;
		len = (ip[0] & 0xf) * 4;
		return len >= 20 ? len : 0;
	}
	if (skb->protocol != bpf_htons(ETH_P_IPV6) || ip + 48 > end)
		return 0;
	if (ip[6] == IPPROTO_TCP)
		return 40;
	return ip[6] == IPPROTO_HOPOPTS && ip[40] == IPPROTO_TCP && ip[41] == 0 ? 48 : 0;
}

/* false: nothing in it for us: an acknowledgement alone, which most packets are, or (offset 0) not
 * TCP. */
static __always_inline bool segment_read(struct __sk_buff *skb, struct segment *out)
{
	const u8 *ip = (const u8 *)(unsigned long)skb->data;
	const u8 *end = (const u8 *)(unsigned long)skb->data_end;
	u32 ip_len = ip_header_len(skb, ip, end);
	const u8 *tcp = ip + ip_len;

	out->offset = ip_len;
	if (!ip_len || tcp + 20 > end)
		return false;
	out->flags = tcp[13] & (TCP_FIN | TCP_SYN | TCP_RST);
	out->offset = ip_len + (tcp[12] >> 4) * 4;
	out->len = skb->len > out->offset ? skb->len - out->offset : 0;
	out->seq = (u32)tcp[4] << 24 | (u32)tcp[5] << 16 | (u32)tcp[6] << 8 | tcp[7];
	if (out->flags & TCP_SYN) /* which has a number of its own; data with it is Fast Open's */
		out->seq++;
	return out->len || (out->flags & (TCP_FIN | TCP_RST));
}

#endif
