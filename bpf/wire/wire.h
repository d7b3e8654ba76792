/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#ifndef BALLAST_WIRE_H
#define BALLAST_WIRE_H

/* What the kernel side and the user side agree on: map names, keys, values, limits, loss reasons.
 * C, fixed width, no implicit padding. BALLAST_WIRE_VERSION rises with every change of a layout;
 * pinned maps of another version are not adopted.
 *
 * Times are CLOCK_MONOTONIC (bpf_ktime_get_ns). Counters only grow while a map lives.
 */

#ifndef __bpf__
#include <assert.h>
#include <stdint.h>
typedef uint8_t __ballast_u8;
typedef uint16_t __ballast_u16;
typedef uint32_t __ballast_u32;
typedef uint64_t __ballast_u64;
typedef int64_t __ballast_s64;
#else
typedef unsigned char __ballast_u8;
typedef unsigned short __ballast_u16;
typedef unsigned int __ballast_u32;
typedef unsigned long long __ballast_u64;
typedef long long __ballast_s64;
#endif

#ifdef __cplusplus
#define BALLAST_ASSERT(cond, why) static_assert(cond, why)
#else
#define BALLAST_ASSERT(cond, why) _Static_assert(cond, why)
#endif

#include "bpf/wire/histogram.h"

#define BALLAST_WIRE_VERSION 7u
#define BALLAST_WIRE_MAGIC   0x42414c4cu /* "BALL" */

/* Map names = pin names under the bpffs folder. The kernel keeps 15 characters. */
#define BALLAST_MAP_META     "meta"     /* ARRAY[1]: ballast_meta */
#define BALLAST_MAP_REQUESTS "requests" /* HASH: ballast_request_key -> ballast_request_value */
#define BALLAST_MAP_CONNECTIONS                                                                    \
	"connections"                 /* HASH: cgroup id (u64) -> ballast_connection_value */
#define BALLAST_MAP_CPU     "cpu"     /* HASH: cgroup id (u64) -> ballast_cpu_value */
#define BALLAST_MAP_RUNNING "running" /* ARRAY[CPUs]: ballast_running_value */
#define BALLAST_MAP_LOSS    "loss"    /* PERCPU_ARRAY[BALLAST_LOSS_REASONS]: ballast_loss_value */
#define BALLAST_MAP_IDENTITY                                                                       \
	"identity" /* HASH: cgroup id (u64) -> ballast_identity_value, user writes */
#define BALLAST_MAP_DECISIONS                                                                      \
	"decisions" /* HASH: ballast_decision_key -> ballast_decision_value, user writes */
#define BALLAST_MAP_CALLS    "calls"    /* HASH: ballast_call_key -> ballast_call_value */
#define BALLAST_MAP_COVERAGE "coverage" /* HASH: ballast_coverage_key -> ballast_coverage_value */
#define BALLAST_MAP_SPANS    "spans"    /* PERCPU_ARRAY[BALLAST_SPAN_SLOTS]: ballast_span_value */
#define BALLAST_MAP_FEATURES                                                                       \
	"features" /* ARRAY[BALLAST_MAX_FEATURES]: ballast_feature_value, user writes */

/* Pinned beside them, for the programs alone: what has to survive a restart of ballastd. */
#define BALLAST_MAP_CONTROL      "control"      /* ARRAY[1]: ballast_control_value */
#define BALLAST_MAP_HTTP_SOCKETS "http_sockets" /* SK_STORAGE: parser state of one connection */
#define BALLAST_MAP_HTTP2_SOCKETS                                                                  \
	"http2_sockets" /* SK_STORAGE: frames and streams of one HTTP/2 connection */
#define BALLAST_MAP_TCP_SOCKETS                                                                    \
	"tcp_sockets" /* SK_STORAGE: connections that were counted as open */
#define BALLAST_MAP_HTTP_EARLY   "http_early"   /* LRU_HASH: first segments before their sockets */
#define BALLAST_MAP_HTTP2_EARLY  "http2_early"  /* LRU_HASH: the same, of HTTP/2 */
#define BALLAST_MAP_HTTP_STREAMS "http_streams" /* LRU_HASH: streams beyond a socket's table */
#define BALLAST_MAP_SERVERS      "servers"      /* LRU_HASH: who serves sockets made elsewhere */
#define BALLAST_MAP_FOLLOWED     "followed"     /* ARRAY[1]: ballast_followed_value */
#define BALLAST_MAP_SPAN_SOCKETS "span_sockets" /* SK_STORAGE: the sampled request of one */
#define BALLAST_MAP_SPAN_COUNT   "span_count"   /* PERCPU_ARRAY[1]: spans published so far */
#define BALLAST_MAP_TASKS        "tasks"     /* HASH: thread id -> since when it waits for a CPU */
#define BALLAST_MAP_CPU_SHARE    "cpu_share" /* HASH: (cgroup, CPU) -> time the one had the other */

/* Bounds. A full map is counted under BALLAST_LOSS_MAP_FULL; what is in it stays right. */
#define BALLAST_MAX_REQUEST_KEYS 4096 /* 500 cgroups x 2 roles x 3 protocols, and room */
#define BALLAST_MAX_CGROUPS      4096
#define BALLAST_MAX_TASKS        32768 /* threads alive that were scheduled at least once */
#define BALLAST_MAX_CPU_SHARES   65536 /* cgroups x CPUs; fewer on small machines */
#define BALLAST_MAX_DECISIONS    4096
#define BALLAST_MAX_CALLS        8192 /* (caller, peer, protocol); 1.8 KB each, made when called */
#define BALLAST_MAX_COVERAGE     8192 /* (cgroup, kind), made when seen */
#define BALLAST_SPAN_SLOTS       128  /* a CPU; a power of two; the oldest is overwritten */
#define BALLAST_SPAN_HEAD        256  /* bytes of a sampled request's head; a power of two */
#define BALLAST_MAX_FEATURES     16
#define BALLAST_MAX_EARLY        1024  /* connections whose first segment came with the handshake */
#define BALLAST_MAX_STREAMS      32768 /* HTTP/2 streams of sockets that have very many */
#define BALLAST_MAX_SERVERS      1024

/* Socket storage is charged to whoever made the maps, not to the pods whose sockets they are. So
 * it is bounded, in KB as the kernel allocates them: of all connections, and of one cgroup's. A
 * connection beyond is not followed, and counted as refused. */
#define BALLAST_HTTP_KB         1
#define BALLAST_HTTP2_KB        4
#define BALLAST_FOLLOWED_KB     49152
#define BALLAST_FOLLOWED_KB_ONE 24576

enum ballast_role {
	BALLAST_ROLE_SERVER = 0, /* the socket on which requests arrive */
	BALLAST_ROLE_CLIENT = 1, /* the socket on which requests leave */
};
#define BALLAST_ROLE_SELF 2 /* a server's, of requests that its own cgroup made: nobody's work */
/* Every protocol that has counters of its own: its number is its place, its name is for people. */
#define BALLAST_PROTOCOL_LIST(X)                                                                   \
	X(BALLAST_PROTOCOL_HTTP1, "http1")                                                         \
	X(BALLAST_PROTOCOL_HTTP2, "http2")                                                         \
	X(BALLAST_PROTOCOL_GRPC, "grpc")

enum ballast_protocol {
#define BALLAST_PROTOCOL_NUMBER(protocol, name) protocol,
	BALLAST_PROTOCOL_LIST(BALLAST_PROTOCOL_NUMBER)
#undef BALLAST_PROTOCOL_NUMBER
		BALLAST_PROTOCOLS
};

/* Why bytes or events were not measured. Never renumber: dashboards keep the names. */
enum ballast_loss_reason {
	BALLAST_LOSS_NOT_HTTP =
		0,            /* bytes of connections that speak no protocol we parse (coverage) */
	BALLAST_LOSS_GAP = 1, /* sequence numbers jumped: bytes never seen by us */
	BALLAST_LOSS_PARSE =
		2, /* bytes where a message or frame should start or go on, but did not */
	BALLAST_LOSS_PIPELINE_OVERFLOW = 3,  /* more requests outstanding on one connection than we
						remember: counted all the  same, without a latency */
	BALLAST_LOSS_UNMATCHED_RESPONSE = 4, /* a response without a request (adopted connection) */
	BALLAST_LOSS_ABANDONED = 5,          /* a socket closed with requests outstanding */
	BALLAST_LOSS_MAP_FULL = 6,           /* no room for a new cgroup, task or connection */
	BALLAST_LOSS_TRUNCATED = 7,     /* a packet with more messages than one run may parse */
	BALLAST_LOSS_TUNNEL = 8,        /* bytes after CONNECT or Upgrade */
	BALLAST_LOSS_NO_STORAGE = 9,    /* socket storage could not be had (optmem_max) */
	BALLAST_LOSS_STREAM_RESET = 10, /* HTTP/2 requests given up by RST_STREAM */
	BALLAST_LOSS_IN_DOUBT = 11,     /* requests after a gap over what may have been heads:
					   counted, without a latency until request and answer are
					   surely each other's again */
	BALLAST_LOSS_REASONS = 12,
};

/* A request waits for `first byte of the response` and for `last byte of the response`. What
 * follows from other counters the programs leave out, for each costs an atomic add: PinnedMaps
 * completes it. */
struct ballast_latency {
	__ballast_u64 count; /* in the map 0: the sum of buckets[] */
	__ballast_u64 sum_ns;
	__ballast_u64 max_ns;
	__ballast_u64 buckets[BALLAST_HIST_BUCKETS];
};

struct ballast_request_key {
	__ballast_u64 cgroup_id;
	__ballast_u8 role;     /* enum ballast_role */
	__ballast_u8 protocol; /* enum ballast_protocol */
	__ballast_u8 pad[6];   /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_request_key) == 16, "key layout");

#define BALLAST_STATUS_CLASSES 6  /* [0] unknown, [1] 1xx (final 101 only) .. [5] 5xx */
#define BALLAST_GRPC_STATUSES  18 /* 0..16, [17] unknown */

struct ballast_request_value {
	__ballast_u64 requests;
	__ballast_u64 responses; /* in the map 0: the sum of status[] */
	__ballast_s64 in_flight; /* in the map those given back: add requests, less responses */
	__ballast_u64 status[BALLAST_STATUS_CLASSES];
	__ballast_u64 grpc_status[BALLAST_GRPC_STATUSES];
	/* Requests that ended without an answer: the end that asked gave up before one began, or
	 * the end that was asked closed or reset the connection or the stream. */
	__ballast_u64 abandoned;
	__ballast_u64 no_answer;
	__ballast_u64 moved; /* of `requests`: turned out to be another cgroup's */
	__ballast_u64 last_seen_ns;
	struct ballast_latency first_byte;
	struct ballast_latency last_byte;
};
/* The largest value of a row that a program makes. */
#define BALLAST_MAX_ROW 4096
BALLAST_ASSERT(sizeof(struct ballast_request_value) <= BALLAST_MAX_ROW, "rows begin as zeros");
BALLAST_ASSERT(sizeof(struct ballast_latency) == 8 * (3 + BALLAST_HIST_BUCKETS), "latency layout");
BALLAST_ASSERT(sizeof(struct ballast_request_value) ==
		       8 * (3 + BALLAST_STATUS_CLASSES + BALLAST_GRPC_STATUSES + 4) +
			       2 * sizeof(struct ballast_latency),
	       "request layout");

/* A caller's requests to one peer, by the caller's sockets. Addresses are IPv6, v4 ones mapped. */
struct ballast_call_key {
	__ballast_u64 cgroup_id; /* of the caller */
	__ballast_u8 peer[16];
	__ballast_u16 port;    /* the peer's */
	__ballast_u8 protocol; /* enum ballast_protocol */
	__ballast_u8 pad[5];   /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_call_key) == 32, "call key layout");

struct ballast_call_value {
	__ballast_u64 responses; /* in the map those that were not timed: add first_byte.count */
	__ballast_u64 errors;    /* 5xx; what trailers say is in `requests` alone */
	__ballast_u64 last_seen_ns;
	struct ballast_latency first_byte; /* as the caller saw it */
};
BALLAST_ASSERT(sizeof(struct ballast_call_value) == 24 + sizeof(struct ballast_latency),
	       "call layout");

/* Why traffic of a cgroup's sockets is not measured. Never renumber. */
enum ballast_coverage_kind {
	BALLAST_COVERAGE_OTHER = 0, /* TCP connections that speak nothing we parse */
	BALLAST_COVERAGE_TLS = 1,   /* TCP connections that are encrypted inside the application */
	BALLAST_COVERAGE_QUIC = 2,  /* packets that open QUIC connections */
	BALLAST_COVERAGE_UNIX = 3,  /* AF_UNIX connections that the cgroup's processes open */
	BALLAST_COVERAGE_REFUSED = 4, /* connections for whose state there is no room:
					 see BALLAST_FOLLOWED_KB */
	BALLAST_COVERAGE_CALLS = 5,   /* edges of the call graph that the agent let go, as
					 the cgroup's alone filled the map */
	BALLAST_COVERAGE_KINDS = 6,
};

struct ballast_coverage_key {
	__ballast_u64 cgroup_id;
	__ballast_u8 kind;   /* enum ballast_coverage_kind */
	__ballast_u8 pad[7]; /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_coverage_key) == 16, "coverage key layout");

struct ballast_coverage_value {
	__ballast_u64 events; /* connections, for QUIC packets that open one */
	__ballast_u64 last_seen_ns;
};
BALLAST_ASSERT(sizeof(struct ballast_coverage_value) == 16, "coverage layout");

/* One end's view of one request. */
struct ballast_span_value {
	__ballast_u64 sequence; /* on its CPU, from 1; 0: never written */
	__ballast_u64 cgroup_id;
	__ballast_u64 start_ns;      /* first byte of the request */
	__ballast_u64 first_byte_ns; /* of the answer */
	__ballast_u64 end_ns;
	__ballast_u8 local[16]; /* IPv6, v4 ones mapped */
	__ballast_u8 peer[16];
	__ballast_u16 local_port;
	__ballast_u16 peer_port;
	__ballast_u32
		seq; /* TCP sequence number of the request's first byte: the same at both ends */
	__ballast_u16 status;
	__ballast_u8 role;
	__ballast_u8 protocol;
	__ballast_u16 head_len;
	__ballast_u16 grpc_status; /* 17: unknown */
	/* HTTP/2: entries that the peer's HPACK table had taken in before this head, as counted
	 * since the connection was met. */
	__ballast_u32 inserted;
	__ballast_u32 pad; /* zero */
	/* The request's first bytes, as they came; of HTTP/2 its HEADERS frame. None: it did not
	 * begin in the packet in which it was complete. */
	__ballast_u8 head[BALLAST_SPAN_HEAD];
};
BALLAST_ASSERT(sizeof(struct ballast_span_value) == 96 + BALLAST_SPAN_HEAD, "span layout");

struct ballast_connection_value {
	__ballast_s64 open; /* connections of the cgroup's sockets that we have seen and that are
			       not closed */
	__ballast_u64 accepted;  /* passive opens */
	__ballast_u64 connected; /* active opens */
	__ballast_u64 closed;
	__ballast_u64 adopted; /* were open before the programs were attached */
	__ballast_u64 retransmits;
	__ballast_u64 srtt_us_sum; /* smoothed RTT at close, summed over `closed` */
	__ballast_s64 followed_kb; /* storage of those whose HTTP is followed */
};
BALLAST_ASSERT(sizeof(struct ballast_connection_value) == 64, "connection layout");

/* Of `followed`. */
struct ballast_followed_value {
	__ballast_s64 kb;
};

/* All times in ns, summed over the cgroup's tasks. Only the cgroup that holds the task itself is
 * charged (not its ancestors). */
struct ballast_cpu_value {
	__ballast_u64 on_cpu_ns; /* running */
	__ballast_u64 wait_ns;   /* runnable but not running, throttled time included */
	__ballast_u64
		self_wait_ns;   /* the part of wait_ns in which the same cgroup ran on that CPU */
	__ballast_u64 switches; /* times a task was switched in */
};
BALLAST_ASSERT(sizeof(struct ballast_cpu_value) == 32, "cpu layout");

/* Of `cpu_share`: what a cgroup has had of one CPU. */
struct ballast_cpu_share_key {
	__ballast_u64 cgroup_id;
	__ballast_u32 cpu;
	__ballast_u32 pad; /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_cpu_share_key) == 16, "cpu share key layout");

/* Who has a CPU now. The counters of ballast_cpu_value grow only when a task is switched out, so a
 * reader adds `now - since_ns` for the running cgroup. One cache line a CPU. */
struct ballast_running_value {
	__ballast_u64 since_ns;
	__ballast_u64 cgroup_id; /* 0: the CPU is idle */
	__ballast_u64 pad[6];    /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_running_value) == 64, "running layout");

/* Tracing programs cannot be replaced in place. Each carries the generation that it was loaded
 * as and only counts while that is the one in force: a restart attaches the new programs, moves
 * the generation on (one store: none counts twice, none is missed), then drops the old ones. */
struct ballast_control_value {
	__ballast_u32 generation;
	__ballast_u32 pad; /* zero */
};
BALLAST_ASSERT(sizeof(struct ballast_control_value) == 8, "control layout");

struct ballast_loss_value {
	__ballast_u64 events;
	__ballast_u64 bytes;
};
BALLAST_ASSERT(sizeof(struct ballast_loss_value) == 16, "loss layout");

/* Written by ballastd so that ballastctl can name things while ballastd is dead. Strings are
 * NUL-terminated and cut at their size. */
struct ballast_identity_value {
	char cgroup[256]; /* path relative to the cgroup v2 root */
	char pod[256];
	char ns[64]; /* Kubernetes namespace */
	char container[64];
	char service[64];
};
BALLAST_ASSERT(sizeof(struct ballast_identity_value) == 704, "identity layout");

struct ballast_decision_key {
	char ns[64];
	char service[64];
	char pod[256];
};
BALLAST_ASSERT(sizeof(struct ballast_decision_key) == 384, "decision key layout");

#define BALLAST_DECISION_FEATURES 48

/* The record of one endpoint's last decision, for `weights` and `explain`. Fixed point: x1e6. */
struct ballast_decision_value {
	__ballast_u64 decided_ns;
	__ballast_u32 weight;        /* as decided; whether it is in force, `outcome` says */
	__ballast_u32 in_force;      /* weight that proxies have by us; 0: none */
	__ballast_u32 outcome;       /* Outcome of agent/guard/guard.h */
	__ballast_u32 mode;          /* in force for this service: 0 off, 1 shadow, 2 active */
	__ballast_u32 neutral;       /* 1 while the service is in the neutral state */
	__ballast_u32 asked_neutral; /* 1: the policy itself asked for equal weights */
	__ballast_u32 guard_reasons; /* bit set, GuardReason of agent/guard/guard.h */
	__ballast_u32 pad;           /* zero */
	__ballast_s64 log_prior_e6;
	__ballast_s64 offset_e6;   /* what the policy added */
	__ballast_s64 proposed_e6; /* share proposed by the policy, x1e6 of the service */
	__ballast_s64 guarded_e6;  /* share by `weight` */
	__ballast_s64 shadow_e6;   /* share that mode active would go towards */
	__ballast_s64 blend_e6;    /* of the guard, 0 to 1 */
	__ballast_s64 features_e6[BALLAST_DECISION_FEATURES];
	__ballast_u32 feature_count;
	__ballast_u32 action; /* index into core/spec's action table */
	__ballast_u64 policy_epoch;
	__ballast_u64 policy_version;
	char policy[32];    /* neutral, prior, learned */
	char why[160];      /* one sentence for people */
	char forecast[128]; /* of the service, how far its forecast is from what came; empty: none
			       is told */
	char twin[128]; /* of the service, what its twin foresaw and what came; empty: none is told
			 */
	char outcome_detail[160];
	char address[64]; /* ip:port */
	double raw[12];   /* measured quantities, see BALLAST_RAW_* */
};
#define BALLAST_RAW_QPS             0
#define BALLAST_RAW_P50_NS          1
#define BALLAST_RAW_P99_NS          2
#define BALLAST_RAW_IN_FLIGHT       3
#define BALLAST_RAW_CPU_CORES       4
#define BALLAST_RAW_CPU_LIMIT_CORES 5
#define BALLAST_RAW_SPEED           6
#define BALLAST_RAW_CAPACITY_QPS    7
#define BALLAST_RAW_MEMORY_BYTES    8
#define BALLAST_RAW_ERROR_RATE      9
#define BALLAST_RAW_AGE_S           10
#define BALLAST_RAW_UTILISATION     11

/* What the kernel and the host offer, and what is done where they do not. Written once at load.
 * Rows without a name are empty; strings as in ballast_identity_value. */
struct ballast_feature_value {
	__ballast_u32 available; /* 0 or 1 */
	__ballast_u32 pad;       /* zero */
	char name[56];
	char fallback[192];
};
BALLAST_ASSERT(sizeof(struct ballast_feature_value) == 256, "feature layout");

/* Written once at load; ballastctl status reads it. */
struct ballast_meta {
	__ballast_u32 magic;
	__ballast_u32 wire_version;
	__ballast_u64 loaded_ns;    /* when the maps were made */
	__ballast_u64 attached_ns;  /* when the programs in force were attached */
	__ballast_u64 heartbeat_ns; /* last tick of ballastd */
	__ballast_u32 pid;          /* of the ballastd that holds or held the folder */
	__ballast_u32 flags;        /* BALLAST_META_* : which probes are attached */
	__ballast_u64 policy_epoch;
	__ballast_u64 policy_version;
	__ballast_u32 policy_crc32; /* of the parameters file in force, its bytes as received */
	__ballast_u32 tick_ms;
	__ballast_u32 mode;        /* 0 off, 1 shadow, 2 active */
	__ballast_u32 subscribers; /* EDS streams that are open */
	char build[64];
	char policy[32];
	char sink[64];
	char loop[64]; /* profile of the loop through the sink, as measured; empty: none is known */
	char leader[64];   /* who writes, where one of many does; empty where there is no choice */
	char trouble[256]; /* what is in the way now: the API server's own words; empty: nothing */
};
#define BALLAST_META_HTTP 1u
#define BALLAST_META_TCP  2u
#define BALLAST_META_CPU  4u
BALLAST_ASSERT(sizeof(struct ballast_meta) == 616, "meta layout");

#endif
