/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_FUZZ_KERNEL_H
#define BALLAST_FUZZ_KERNEL_H

/* A kernel of one socket, in which the http probe runs. */

#ifdef __cplusplus
extern "C" {
#endif

struct kernel_map {
  void* map;
  const char* name;
  unsigned int key_size;
  unsigned int value_size;
};
extern const struct kernel_map kernel_maps[];

/* `bytes` lie below 4 GB: see kernel_memory(). */
int kernel_packet(const unsigned char* bytes, unsigned int len, int ingress);
/* What TCP knows of the connection before the packet that comes next. */
void kernel_tcp(unsigned int received, unsigned int acked, unsigned int rcv_nxt);
void kernel_close(void);

#ifdef __cplusplus
}

#include <cstddef>
#include <cstdint>

/* Everything anew. */
void kernel_reset();
/* The clock of the packets that follow. */
void kernel_time(std::uint64_t now_ns);
/* A value, or nullptr. */
void* kernel_value(const char* map, const void* key);
/* Room for one packet where the programs' 32-bit pointers reach. */
unsigned char* kernel_memory(std::size_t size);
#endif

#endif
