/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_COVERAGE_BPF_H
#define BALLAST_COVERAGE_BPF_H

/* What is not measured, by cgroup: told by its first bytes, so that it is a known gap and no
 * silence. */

#include "bpf/lib/maps.bpf.h"
#include "bpf/lib/packet.bpf.h"

#define IPPROTO_UDP 17
#define UDP_HEADER  8

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, BALLAST_MAX_COVERAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct ballast_coverage_key);
	__type(value, struct ballast_coverage_value);
} coverage SEC(".maps");

static __always_inline void coverage_add(u64 cgroup_id, u8 kind)
{
	struct ballast_coverage_key key = {.cgroup_id = cgroup_id, .kind = kind};
	struct ballast_coverage_value *value = map_row(&coverage, &key);

	if (!value)
		return;
	counter_add(value->events, 1);
	value->last_seen_ns = bpf_ktime_get_ns();
}

/* Whether these six bytes begin a TLS record (RFC 8446, 5.1) of a length that one may have. */
static __always_inline bool tls_record(const u8 *p)
{
	u32 length = (u32)p[3] << 8 | p[4];

	return p[0] >= 0x14 && p[0] <= 0x17 && p[1] == 3 && p[2] <= 4 && length &&
	       length <= (1 << 14) + 256;
}

/* A packet that is not TCP: whether it opens a QUIC connection (RFC 9000, 17.2.2; RFC 9369, 3.2).
 */
__noinline int coverage_datagram(struct __sk_buff *skb)
{
	const u8 *ip = (const u8 *)(unsigned long)skb->data;
	const u8 *end = (const u8 *)(unsigned long)skb->data_end;
	u32 len = 40;
	u8 head[5];

	if (ip + 20 > end)
		return 0;
	if (skb->protocol == bpf_htons(ETH_P_IP)) {
		if (ip[9] != IPPROTO_UDP)
			return 0;
		len = (ip[0] & 0xf) * 4;
	} else if (skb->protocol != bpf_htons(ETH_P_IPV6) || ip[6] != IPPROTO_UDP) {
		return 0;
	}
	if (bpf_skb_load_bytes(skb, len + UDP_HEADER, head, sizeof(head)) < 0)
		return 0;
	if (((head[0] & 0xf0) == 0xc0 && !head[1] && !head[2] && !head[3] && head[4] == 1) ||
	    ((head[0] & 0xf0) == 0xd0 && head[1] == 0x6b && head[2] == 0x33 && head[3] == 0x43 &&
	     head[4] == 0xcf))
		coverage_add(bpf_skb_cgroup_id(skb), BALLAST_COVERAGE_QUIC);
	return 0;
}

#endif
