/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* The newest kernel's types, read in place. */
#define bpf_core_field_exists(field) ((void)sizeof(field), FIELD_EXISTS)
#define FIELD_EXISTS 0
#define READ_1(a, b) ((a)->b)
#define READ_2(a, b, c) ((a)->b->c)
#define READ_4(a, b, c, d, e) ((a)->b->c->d->e)
#define READ_N(a, b, c, d, e, n, ...) n
#define BPF_CORE_READ(...) READ_N(__VA_ARGS__, READ_4, READ_3, READ_2, READ_1, none)(__VA_ARGS__)
