// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/maps.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/magic.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <numeric>
#include <string>
#include <unordered_set>

#include "agent/sample/record_file.h"

namespace ballast::sample {

namespace {

constexpr std::uint32_t kBatch = 256;

Error map_error(const char* what, const char* map, int error) {
  return Error::failed(std::string(what) + " map '" + map + "': " + std::strerror(error));
}

struct MapSpec {
  const char* name;
  std::uint32_t type;
  std::uint32_t key_size;
  std::uint32_t value_size;
};

std::string shape(std::uint32_t type, std::uint32_t key, std::uint32_t value) {
  return "type " + std::to_string(type) + ", key " + std::to_string(key) + " B, value " +
         std::to_string(value) + " B";
}

Result<UniqueFd> open_map(const std::filesystem::path& bpffs, const MapSpec& spec) {
  const auto path = bpffs / spec.name;
  UniqueFd fd(::bpf_obj_get(path.c_str()));
  if (!fd) {
    const int error = errno;
    if (error == EPERM || error == EACCES) {
      return Error::privilege("opening " + path.string() + ": " + std::strerror(error) +
                              " (needs CAP_BPF and access to the folder)");
    }
    return Error::failed("opening " + path.string() + ": " + std::strerror(error) +
                         (error == ENOENT ? " (has ballastd run with this --bpffs?)" : ""));
  }
  bpf_map_info info{};
  std::uint32_t size = sizeof info;
  if (::bpf_obj_get_info_by_fd(fd.get(), &info, &size) != 0) {
    return Error::failed("reading the shape of " + path.string() + ": " + std::strerror(errno));
  }
  if (info.type != spec.type || info.key_size != spec.key_size || info.value_size != spec.value_size) {
    return Error::failed(path.string() + " has another layout (" +
                         shape(info.type, info.key_size, info.value_size) + ") than this binary expects (" +
                         shape(spec.type, spec.key_size, spec.value_size) +
                         "): use binaries of one version, or restart ballastd to replace the maps");
  }
  return fd;
}

// All pairs of a map. The batch call sees a bucket at a time, so a key is given at most once; the
// call by key (kernels whose map lacks batches) may repeat a key that moved, and is then harmless
// because both copies are totals and the last one wins in every caller that keys them.
template <typename Key, typename Value, typename Sink>
Status for_each(int fd, const char* name, Sink&& sink) {
  if (fd < 0) {
    return ok();  // files in the place of maps: there is none of this name
  }
  const auto keys = std::make_unique_for_overwrite<Key[]>(kBatch);
  const auto values = std::make_unique_for_overwrite<Value[]>(kBatch);
  std::uint64_t cursor = 0;
  bool first = true;
  while (true) {
    std::uint32_t count = kBatch;
    const int status = ::bpf_map_lookup_batch(fd, first ? nullptr : &cursor, &cursor, keys.get(),
                                              values.get(), &count, nullptr);
    const int error = errno;
    if (status != 0 && error != ENOENT) {
      if (first && (error == EINVAL || error == EOPNOTSUPP || error == 524 /* kernel's ENOTSUPP */)) {
        break;
      }
      return map_error("reading", name, error);
    }
    for (std::uint32_t i = 0; i < count; ++i) {
      sink(keys[i], values[i]);
    }
    if (status != 0) {
      return ok();
    }
    first = false;
  }
  Key key{};
  const Key* previous = nullptr;
  Key next{};
  while (::bpf_map_get_next_key(fd, previous, &next) == 0) {
    key = next;
    previous = &key;
    if (::bpf_map_lookup_elem(fd, &key, &values[0]) == 0) {
      sink(key, values[0]);
    }
  }
  return errno == ENOENT ? ok() : Status(map_error("reading", name, errno));
}

template <typename Value>
Result<std::vector<std::pair<CgroupId, Value>>> by_cgroup(int fd, const char* name) {
  std::vector<std::pair<CgroupId, Value>> rows;
  const Status read = for_each<CgroupId, Value>(
      fd, name, [&](const CgroupId& id, const Value& value) { rows.emplace_back(id, value); });
  if (!read) {
    return read.error();
  }
  return rows;
}

template <typename Key, typename Value>
Status put(int fd, const char* name, const Key& key, const Value& value) {
  if (::bpf_map_update_elem(fd, &key, &value, BPF_ANY) != 0) {
    return map_error("writing", name, errno);
  }
  return ok();
}

std::uint64_t sum(const auto& counters) {
  return std::accumulate(std::begin(counters), std::end(counters), std::uint64_t{0});
}

// What the programs leave to the reader, because it follows from the rest: see wire.h.
void complete(ballast_latency& latency) {
  latency.count = sum(latency.buckets);
}

void complete(ballast_request_value& value) {
  complete(value.first_byte);
  complete(value.last_byte);
  value.responses = sum(value.status);
  value.requests -= value.moved;
  value.in_flight += static_cast<std::int64_t>(value.requests - value.responses);
}

// Erasing what is not there is done.
template <typename Key>
Status erase(int fd, const char* name, const Key& key) {
  if (::bpf_map_delete_elem(fd, &key) != 0 && errno != ENOENT) {
    return map_error("erasing from", name, errno);
  }
  return ok();
}

bool is_bpffs(const std::filesystem::path& folder) {
  struct statfs info {};
  return ::statfs(folder.c_str(), &info) == 0 && static_cast<std::uint32_t>(info.f_type) == BPF_FS_MAGIC;
}

Status check_version(const ballast_meta& meta, const std::filesystem::path& bpffs) {
  if (meta.magic == BALLAST_WIRE_MAGIC && meta.wire_version == BALLAST_WIRE_VERSION) {
    return ok();
  }
  return Error::failed("the maps in " + bpffs.string() + " have wire version " +
                       std::to_string(meta.wire_version) + ", this binary reads version " +
                       std::to_string(BALLAST_WIRE_VERSION) +
                       ": use binaries of one version, or restart ballastd to replace the maps");
}

template <typename T>
std::string_view bytes_of(const T& value) {
  return {reinterpret_cast<const char*>(&value), sizeof value};
}

}  // namespace

// Out of line: inlined into callers, g++ 12 takes the variant in Result for freed twice.
PinnedMaps::PinnedMaps() = default;
PinnedMaps::PinnedMaps(PinnedMaps&&) noexcept = default;
PinnedMaps& PinnedMaps::operator=(PinnedMaps&&) noexcept = default;
PinnedMaps::~PinnedMaps() = default;

Result<PinnedMaps> PinnedMaps::create_files(const std::filesystem::path& folder) {
  constexpr std::size_t kMostEndpoints = 65'536;
  PinnedMaps maps;
  auto meta = RecordFile::create(folder / BALLAST_MAP_META, 4, sizeof(ballast_meta), 1);
  auto decisions = RecordFile::create(folder / BALLAST_MAP_DECISIONS, sizeof(ballast_decision_key),
                                      sizeof(ballast_decision_value), kMostEndpoints);
  if (!meta || !decisions) {
    return meta ? decisions.error() : meta.error();
  }
  maps.meta_file_ = std::make_shared<RecordFile>(std::move(*meta));
  maps.decision_file_ = std::make_shared<RecordFile>(std::move(*decisions));
  ballast_meta first{};
  first.magic = BALLAST_WIRE_MAGIC;
  first.wire_version = BALLAST_WIRE_VERSION;
  first.pid = static_cast<std::uint32_t>(::getpid());
  if (Status written = maps.put_meta(first); !written) {
    return written.error();
  }
  return maps;
}

Result<PinnedMaps> PinnedMaps::open(const std::filesystem::path& bpffs) {
  PinnedMaps maps;
  std::error_code absent;
  if (std::filesystem::is_regular_file(bpffs / BALLAST_MAP_META, absent) && !is_bpffs(bpffs)) {
    auto meta = RecordFile::open(bpffs / BALLAST_MAP_META, 4, sizeof(ballast_meta));
    auto decisions = RecordFile::open(bpffs / BALLAST_MAP_DECISIONS, sizeof(ballast_decision_key),
                                      sizeof(ballast_decision_value));
    if (!meta || !decisions) {
      return meta ? decisions.error() : meta.error();
    }
    maps.meta_file_ = std::make_shared<RecordFile>(std::move(*meta));
    maps.decision_file_ = std::make_shared<RecordFile>(std::move(*decisions));
    const auto read = maps.meta();
    if (!read) {
      return read.error();
    }
    if (Status fits = check_version(*read, bpffs); !fits) {
      return fits.error();
    }
    return maps;
  }
  const std::pair<UniqueFd*, MapSpec> wanted[] = {
      {&maps.meta_, {BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_meta)}},
      {&maps.requests_,
       {BALLAST_MAP_REQUESTS, BPF_MAP_TYPE_HASH, sizeof(ballast_request_key), sizeof(ballast_request_value)}},
      {&maps.connections_, {BALLAST_MAP_CONNECTIONS, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_connection_value)}},
      {&maps.cpu_, {BALLAST_MAP_CPU, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_cpu_value)}},
      {&maps.running_, {BALLAST_MAP_RUNNING, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_running_value)}},
      {&maps.loss_, {BALLAST_MAP_LOSS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_loss_value)}},
      {&maps.identity_, {BALLAST_MAP_IDENTITY, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_identity_value)}},
      {&maps.decisions_,
       {BALLAST_MAP_DECISIONS, BPF_MAP_TYPE_HASH, sizeof(ballast_decision_key),
        sizeof(ballast_decision_value)}},
      {&maps.calls_,
       {BALLAST_MAP_CALLS, BPF_MAP_TYPE_HASH, sizeof(ballast_call_key), sizeof(ballast_call_value)}},
      {&maps.coverage_,
       {BALLAST_MAP_COVERAGE, BPF_MAP_TYPE_HASH, sizeof(ballast_coverage_key),
        sizeof(ballast_coverage_value)}},
      {&maps.spans_, {BALLAST_MAP_SPANS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_span_value)}},
  };
  for (const auto& [fd, spec] : wanted) {
    auto opened = open_map(bpffs, spec);
    if (!opened) {
      return opened.error();
    }
    *fd = std::move(*opened);
    if (fd == &maps.meta_) {  // before the rest: "another version" says more than "another size"
      const auto meta = maps.meta();
      if (!meta) {
        return meta.error().in(bpffs.string());
      }
      if (Status fits = check_version(*meta, bpffs); !fits) {
        return fits.error();
      }
    }
  }
  const MapSpec features{BALLAST_MAP_FEATURES, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_feature_value)};
  if (std::error_code ignored; std::filesystem::exists(bpffs / features.name, ignored)) {
    auto opened = open_map(bpffs, features);
    if (!opened) {
      return opened.error();
    }
    maps.features_ = std::move(*opened);
  }
  // The programs' own, and not needed.
  maps.cpu_share_.reset(::bpf_obj_get((bpffs / BALLAST_MAP_CPU_SHARE).c_str()));
  return maps;
}

Result<ballast_meta> PinnedMaps::meta() const {
  const std::uint32_t key = 0;
  ballast_meta value{};
  if (meta_file_ != nullptr) {
    const Status read =
        meta_file_->each([&](const char*, const char* bytes) { std::memcpy(&value, bytes, sizeof value); });
    return read ? Result<ballast_meta>(value) : read.error();
  }
  if (::bpf_map_lookup_elem(meta_.get(), &key, &value) != 0) {
    return map_error("reading", BALLAST_MAP_META, errno);
  }
  return value;
}

Result<std::vector<RequestRow>> PinnedMaps::requests() const {
  std::vector<RequestRow> rows;
  const Status read = for_each<ballast_request_key, ballast_request_value>(
      requests_.get(), BALLAST_MAP_REQUESTS,
      [&](const ballast_request_key& key, const ballast_request_value& value) {
        complete(rows.emplace_back(RequestRow{key, value}).value);
      });
  if (!read) {
    return read.error();
  }
  return rows;
}

Result<std::vector<std::pair<CgroupId, ballast_connection_value>>> PinnedMaps::connections() const {
  return by_cgroup<ballast_connection_value>(connections_.get(), BALLAST_MAP_CONNECTIONS);
}

Result<std::vector<std::pair<CgroupId, ballast_cpu_value>>> PinnedMaps::cpu() const {
  return by_cgroup<ballast_cpu_value>(cpu_.get(), BALLAST_MAP_CPU);
}

Result<std::vector<ballast_running_value>> PinnedMaps::running() const {
  std::vector<ballast_running_value> rows;
  const Status read = for_each<std::uint32_t, ballast_running_value>(
      running_.get(), BALLAST_MAP_RUNNING,
      [&](const std::uint32_t&, const ballast_running_value& value) { rows.push_back(value); });
  if (!read) {
    return read.error();
  }
  return rows;
}

Result<std::array<ballast_loss_value, BALLAST_LOSS_REASONS>> PinnedMaps::loss() const {
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus <= 0) {
    return Error::failed("counting the machine's CPUs: " + std::string(std::strerror(-cpus)));
  }
  std::array<ballast_loss_value, BALLAST_LOSS_REASONS> sums{};
  if (!loss_) {
    return sums;
  }
  std::vector<ballast_loss_value> each(static_cast<std::size_t>(cpus));
  for (std::uint32_t reason = 0; reason < BALLAST_LOSS_REASONS; ++reason) {
    if (::bpf_map_lookup_elem(loss_.get(), &reason, each.data()) != 0) {
      return map_error("reading", BALLAST_MAP_LOSS, errno);
    }
    for (const auto& value : each) {
      sums[reason].events += value.events;
      sums[reason].bytes += value.bytes;
    }
  }
  return sums;
}

Result<std::vector<std::pair<CgroupId, ballast_identity_value>>> PinnedMaps::identity() const {
  return by_cgroup<ballast_identity_value>(identity_.get(), BALLAST_MAP_IDENTITY);
}

Result<std::vector<DecisionRow>> PinnedMaps::decisions() const {
  std::vector<DecisionRow> rows;
  if (decision_file_ != nullptr) {
    const Status read = decision_file_->each([&](const char* key, const char* value) {
      DecisionRow& row = rows.emplace_back();
      std::memcpy(&row.key, key, sizeof row.key);
      std::memcpy(&row.value, value, sizeof row.value);
    });
    return read ? Result<std::vector<DecisionRow>>(std::move(rows)) : read.error();
  }
  const Status read = for_each<ballast_decision_key, ballast_decision_value>(
      decisions_.get(), BALLAST_MAP_DECISIONS,
      [&](const ballast_decision_key& key, const ballast_decision_value& value) {
        rows.push_back({key, value});
      });
  if (!read) {
    return read.error();
  }
  return rows;
}

Result<std::vector<CallRow>> PinnedMaps::calls() const {
  std::vector<CallRow> rows;
  const Status read = for_each<ballast_call_key, ballast_call_value>(
      calls_.get(), BALLAST_MAP_CALLS, [&](const ballast_call_key& key, const ballast_call_value& value) {
        ballast_call_value& completed = rows.emplace_back(CallRow{key, value}).value;
        complete(completed.first_byte);
        completed.responses += completed.first_byte.count;
      });
  if (!read) {
    return read.error();
  }
  return rows;
}

Result<std::vector<CoverageRow>> PinnedMaps::coverage() const {
  std::vector<CoverageRow> rows;
  const Status read = for_each<ballast_coverage_key, ballast_coverage_value>(
      coverage_.get(), BALLAST_MAP_COVERAGE,
      [&](const ballast_coverage_key& key, const ballast_coverage_value& value) {
        rows.push_back({key, value});
      });
  if (!read) {
    return read.error();
  }
  return rows;
}

Result<std::vector<PodAddress>> PinnedMaps::addresses() const {
  const auto rows = decisions();
  if (!rows) {
    return rows.error();
  }
  const auto text = [](const auto& bytes) { return std::string(bytes, ::strnlen(bytes, sizeof bytes)); };
  std::vector<PodAddress> addresses;
  for (const DecisionRow& row : *rows) {
    addresses.push_back(
        {text(row.value.address), text(row.key.ns), text(row.key.service), text(row.key.pod)});
  }
  return addresses;
}

Result<std::vector<SpanRow>> PinnedMaps::spans() const {
  const int cpus = ::libbpf_num_possible_cpus();
  if (cpus <= 0) {
    return Error::failed("counting the machine's CPUs: " + std::string(std::strerror(-cpus)));
  }
  std::vector<SpanRow> found;
  if (!spans_) {
    return found;
  }
  std::vector<ballast_span_value> each(static_cast<std::size_t>(cpus));
  for (std::uint32_t slot = 0; slot < BALLAST_SPAN_SLOTS; ++slot) {
    if (::bpf_map_lookup_elem(spans_.get(), &slot, each.data()) != 0) {
      return map_error("reading", BALLAST_MAP_SPANS, errno);
    }
    for (std::uint32_t cpu = 0; cpu < each.size(); ++cpu) {
      if (each[cpu].sequence != 0) {
        found.push_back({cpu, each[cpu]});
      }
    }
  }
  return found;
}

Result<std::vector<Feature>> PinnedMaps::features() const {
  std::vector<Feature> features;
  for (std::uint32_t i = 0; features_ && i < BALLAST_MAX_FEATURES; ++i) {
    ballast_feature_value row{};
    if (::bpf_map_lookup_elem(features_.get(), &i, &row) != 0) {
      return map_error("reading", BALLAST_MAP_FEATURES, errno);
    }
    if (row.name[0] != '\0') {
      features.push_back({{row.name, ::strnlen(row.name, sizeof row.name)},
                          row.available != 0,
                          {row.fallback, ::strnlen(row.fallback, sizeof row.fallback)}});
    }
  }
  return features;
}

Status PinnedMaps::put_features(const std::vector<Feature>& features) const {
  if (!features_) {
    return ok();
  }
  for (std::uint32_t i = 0; i < BALLAST_MAX_FEATURES; ++i) {
    ballast_feature_value row{};
    if (i < features.size()) {
      row.available = features[i].available ? 1 : 0;
      features[i].name.copy(row.name, sizeof row.name - 1);
      features[i].fallback.copy(row.fallback, sizeof row.fallback - 1);
    }
    if (Status written = put(features_.get(), BALLAST_MAP_FEATURES, i, row); !written) {
      return written;
    }
  }
  return ok();
}

Status PinnedMaps::put_meta(const ballast_meta& meta) const {
  const std::uint32_t key = 0;
  return meta_file_ != nullptr ? meta_file_->put(bytes_of(key), bytes_of(meta))
                               : put(meta_.get(), BALLAST_MAP_META, key, meta);
}

Status PinnedMaps::put_identity(CgroupId id, const ballast_identity_value& value) const {
  return put(identity_.get(), BALLAST_MAP_IDENTITY, id, value);
}

Status PinnedMaps::erase_identity(CgroupId id) const {
  return erase(identity_.get(), BALLAST_MAP_IDENTITY, id);
}

Status PinnedMaps::put_decision(const DecisionRow& row) const {
  return decision_file_ != nullptr ? decision_file_->put(bytes_of(row.key), bytes_of(row.value))
                                   : put(decisions_.get(), BALLAST_MAP_DECISIONS, row.key, row.value);
}

Status PinnedMaps::erase_decision(const ballast_decision_key& key) const {
  return decision_file_ != nullptr ? decision_file_->erase(bytes_of(key))
                                   : erase(decisions_.get(), BALLAST_MAP_DECISIONS, key);
}

template <typename Stale>
Status PinnedMaps::forget_calls(Stale stale) const {
  const auto rows = calls();
  if (!rows) {
    return rows.error();
  }
  for (const CallRow& row : *rows) {
    if (stale(row)) {
      if (Status erased = erase(calls_.get(), BALLAST_MAP_CALLS, row.key); !erased) {
        return erased;
      }
    }
  }
  return ok();
}

Status PinnedMaps::forget_calls_before(MonotonicNs then) const {
  return forget_calls([&](const CallRow& row) { return row.value.last_seen_ns < then; });
}

Status PinnedMaps::crowd_out_calls(const std::vector<ballast_call_key>& keys, MonotonicNs now) const {
  std::map<CgroupId, std::uint64_t> gone;
  for (const ballast_call_key& key : keys) {
    if (Status erased = erase(calls_.get(), BALLAST_MAP_CALLS, key); !erased) {
      return erased;
    }
    ++gone[key.cgroup_id];
  }
  for (const auto& [id, edges] : gone) {
    ballast_coverage_key key{};
    key.cgroup_id = id;
    key.kind = BALLAST_COVERAGE_CALLS;
    ballast_coverage_value value{};
    ::bpf_map_lookup_elem(coverage_.get(), &key, &value);  // the first time it is not there
    value.events += edges;
    value.last_seen_ns = now;
    if (Status written = put(coverage_.get(), BALLAST_MAP_COVERAGE, key, value); !written) {
      return written;
    }
  }
  return ok();
}

Status PinnedMaps::forget_cgroups(const std::vector<CgroupId>& gone) const {
  if (gone.empty()) {
    return ok();
  }
  const std::unordered_set<CgroupId> ids(gone.begin(), gone.end());
  Status first = forget_calls([&](const CallRow& row) { return ids.contains(row.key.cgroup_id); });
  for (const CgroupId id : gone) {
    const Status forgotten = forget_cgroup(id);
    first = first ? forgotten : first;
  }
  return first;
}

Status PinnedMaps::forget_cgroup(CgroupId id) const {
  for (std::uint8_t role = 0; role <= BALLAST_ROLE_SELF; ++role) {
    for (std::uint8_t protocol = 0; protocol < BALLAST_PROTOCOLS; ++protocol) {
      ballast_request_key key{};
      key.cgroup_id = id;
      key.role = role;
      key.protocol = protocol;
      if (Status erased = erase(requests_.get(), BALLAST_MAP_REQUESTS, key); !erased) {
        return erased;
      }
    }
  }
  for (std::uint8_t kind = 0; kind < BALLAST_COVERAGE_KINDS; ++kind) {
    ballast_coverage_key key{};
    key.cgroup_id = id;
    key.kind = kind;
    if (Status erased = erase(coverage_.get(), BALLAST_MAP_COVERAGE, key); !erased) {
      return erased;
    }
  }
  if (Status erased = erase(connections_.get(), BALLAST_MAP_CONNECTIONS, id); !erased) {
    return erased;
  }
  const int cpus = ::libbpf_num_possible_cpus();
  for (int cpu = 0; cpu_share_ && cpu < cpus; ++cpu) {
    ballast_cpu_share_key key{};
    key.cgroup_id = id;
    key.cpu = static_cast<std::uint32_t>(cpu);
    if (Status erased = erase(cpu_share_.get(), BALLAST_MAP_CPU_SHARE, key); !erased) {
      return erased;
    }
  }
  return erase(cpu_.get(), BALLAST_MAP_CPU, id);
}

Outcomes outcomes_of(const RequestRow& row) {
  const auto& value = row.value;
  Outcomes outcomes;
  outcomes.abandoned = value.abandoned;
  outcomes.no_answer = value.no_answer;
  outcomes.failed = value.status[5];
  if (row.key.protocol != BALLAST_PROTOCOL_GRPC) {
    outcomes.unknown = value.status[0];
    return outcomes;
  }
  // UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED, INTERNAL, UNAVAILABLE and DATA_LOSS: a server's own failures
  // by OpenTelemetry's semantic conventions (rpc.grpc.status_code). The others are the caller's.
  for (const int code : {2, 4, 12, 13, 14, 15}) {
    outcomes.failed += value.grpc_status[code];
  }
  // An answer of HTTP's 5xx carries no other status.
  const std::uint64_t untold = value.grpc_status[BALLAST_GRPC_STATUSES - 1];
  outcomes.unknown = untold - std::min(untold, value.status[5]);
  outcomes.failed = std::min(outcomes.failed, value.responses);
  return outcomes;
}

const char* loss_reason_name(ballast_loss_reason reason) {
  switch (reason) {
    case BALLAST_LOSS_NOT_HTTP:
      return "not_http";
    case BALLAST_LOSS_GAP:
      return "gap";
    case BALLAST_LOSS_PARSE:
      return "parse";
    case BALLAST_LOSS_PIPELINE_OVERFLOW:
      return "pipeline_overflow";
    case BALLAST_LOSS_UNMATCHED_RESPONSE:
      return "unmatched_response";
    case BALLAST_LOSS_ABANDONED:
      return "abandoned";
    case BALLAST_LOSS_MAP_FULL:
      return "map_full";
    case BALLAST_LOSS_TRUNCATED:
      return "truncated";
    case BALLAST_LOSS_TUNNEL:
      return "tunnel";
    case BALLAST_LOSS_NO_STORAGE:
      return "no_storage";
    case BALLAST_LOSS_STREAM_RESET:
      return "stream_reset";
    case BALLAST_LOSS_IN_DOUBT:
      return "in_doubt";
    case BALLAST_LOSS_REASONS:
      break;
  }
  return "unknown";
}

const char* coverage_name(ballast_coverage_kind kind) {
  switch (kind) {
    case BALLAST_COVERAGE_OTHER:
      return "other";
    case BALLAST_COVERAGE_TLS:
      return "tls";
    case BALLAST_COVERAGE_QUIC:
      return "quic";
    case BALLAST_COVERAGE_UNIX:
      return "unix";
    case BALLAST_COVERAGE_REFUSED:
      return "refused";
    case BALLAST_COVERAGE_CALLS:
      return "calls";
    case BALLAST_COVERAGE_KINDS:
      break;
  }
  return "unknown";
}

}  // namespace ballast::sample
