/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The http probe, and what kernel.cpp has to know of its maps and types. */
#include "bpf/probes/http.bpf.c"
#include "kernel.h"

#define MAP(name) \
  { &name, #name, sizeof(*name.key), sizeof(*name.value) }
const struct kernel_map kernel_maps[] = {
    MAP(loss),      MAP(connections),  MAP(tcp_sockets),   MAP(requests),        MAP(http_sockets),
    MAP(rx_window), MAP(span_sockets), MAP(spans),         MAP(span_count),      MAP(calls),
    MAP(coverage),  MAP(followed),     MAP(http2_sockets), MAP(http_streams),    MAP(servers),
    MAP(http_kept), MAP(http_early),   MAP(http2_early),   MAP(early_listeners), {NULL, "", 0, 0},
};

struct socket {
  struct bpf_sock sk;
  struct bpf_tcp_sock tcp;
  struct tcp_sock kernel;
};
static struct socket one;
static struct sock traced = {.sk_protocol = IPPROTO_TCP};

int kernel_packet(const unsigned char* bytes, unsigned int len, int ingress) {
  struct __sk_buff skb = {
      .len = len,
      .protocol = bpf_htons(ETH_P_IP),
      .data = (u32)(unsigned long)bytes,
      .data_end = (u32)(unsigned long)bytes + len,
      .sk = &one.sk,
  };

  return ingress ? http_ingress(&skb) : http_egress(&skb);
}

void kernel_tcp(unsigned int received, unsigned int acked, unsigned int rcv_nxt) {
  one.sk.state = TCP_ESTABLISHED;
  one.tcp.bytes_received = received;
  one.tcp.bytes_acked = acked;
  one.tcp.rcv_nxt = rcv_nxt;
}

void kernel_close(void) {
  http_close(&traced, TCP_ESTABLISHED, TCP_CLOSE);
}

struct bpf_sock* bpf_sk_fullsock(struct bpf_sock* sk) {
  return sk;
}

struct bpf_tcp_sock* bpf_tcp_sock(struct bpf_sock* sk) {
  return &one.tcp;
}

struct tcp_sock* bpf_skc_to_tcp_sock(void* sk) {
  return NULL; /* who serves is not asked here */
}

long bpf_skb_load_bytes(const void* skb, __u32 offset, void* to, __u32 len) {
  const struct __sk_buff* packet = skb;

  if ((u64)offset + len > packet->len) return -1;
  __builtin_memcpy(to, (const u8*)(unsigned long)packet->data + offset, len);
  return 0;
}
