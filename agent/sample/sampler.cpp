// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/sampler.h"

#include <algorithm>
#include <optional>
#include <unordered_map>
#include <utility>

namespace ballast::sample {

namespace {

/// Limits are changed by people and autoscalers, not by the millisecond. A container's own quota, which says
/// at once what it can still do, is looked at in every tick: when it changes, all limits are read again.
constexpr MonotonicNs kLimitsEveryNs = 1'000'000'000;

/// One cgroup's totals, as the maps have them, over all protocols of the server role.
struct Counters {
  std::uint64_t requests = 0;  ///< that began, whosever they turned out to be
  std::uint64_t moved = 0;     ///< of those that are not its own
  std::uint64_t responses = 0;
  std::uint64_t errors = 0;
  std::uint64_t unanswered = 0;
  std::uint64_t unknown = 0;
  std::array<std::uint64_t, BALLAST_STATUS_CLASSES> answers{};
  std::int64_t in_flight = 0;
  std::int64_t connections = 0;
  spec::Latency first_byte;
  spec::Latency last_byte;
  spec::Latency grpc_last_byte;
  std::uint64_t on_cpu_ns = 0;
  std::uint64_t running_ns = 0;  ///< turns on a CPU that are not over
  std::uint64_t wait_ns = 0;
  std::uint64_t self_wait_ns = 0;
};

void add(spec::Latency& to, const ballast_latency& from) {
  to.count += from.count;
  to.sum_ns += from.sum_ns;
  for (std::size_t i = 0; i < to.buckets.size(); ++i) {
    to.buckets[i] += from.buckets[i];
  }
}

std::uint64_t grown(std::uint64_t now, std::uint64_t before) {
  return now >= before ? now - before : now;
}

spec::Latency grown(const spec::Latency& now, const spec::Latency& before) {
  if (now.count < before.count || now.sum_ns < before.sum_ns) {
    return now;
  }
  spec::Latency delta;
  if (now.count == before.count && now.sum_ns == before.sum_ns) {
    return delta;
  }
  delta.count = now.count - before.count;
  delta.sum_ns = now.sum_ns - before.sum_ns;
  for (std::size_t i = 0; i < delta.buckets.size(); ++i) {
    delta.buckets[i] = grown(now.buckets[i], before.buckets[i]);
  }
  return delta;
}

void add(CgroupSample& to, const CgroupSample& below) {
  to.requests += below.requests;
  to.responses += below.responses;
  to.in_flight += below.in_flight;
  to.errors += below.errors;
  to.unanswered += below.unanswered;
  to.unknown += below.unknown;
  for (std::size_t i = 0; i < to.answers.size(); ++i) {
    to.answers[i] += below.answers[i];
  }
  to.first_byte.add(below.first_byte);
  to.last_byte.add(below.last_byte);
  to.grpc_last_byte.add(below.grpc_last_byte);
  to.connections += below.connections;
  to.on_cpu_ns += below.on_cpu_ns;
  to.wait_ns += below.wait_ns;
  to.self_wait_ns += below.self_wait_ns;
}

}  // namespace

Result<Totals> read_totals(const PinnedMaps& maps, const Clock& clock) {
  Totals totals;
  const auto take = [](auto& into, auto read) -> Status {
    if (!read) {
      return read.error();
    }
    into = std::move(*read);
    return ok();
  };
  Status read = take(totals.requests, maps.requests());
  read = read ? take(totals.connections, maps.connections()) : read;
  // Counters before turns: a turn that ends between the two is then missed for one tick, and not
  // seen twice.
  read = read ? take(totals.cpu, maps.cpu()) : read;
  read = read ? take(totals.running, maps.running()) : read;
  read = read ? take(totals.loss, maps.loss()) : read;
  if (!read) {
    return read.error();
  }
  totals.taken = clock.now();
  return totals;
}

struct Sampler::State {
  State(Source from, CgroupRoots roots, CpuSource cpu)
      : source(std::move(from)), files(std::move(roots)), cpu_source(cpu) {}

  struct Cgroup {
    Counters now;
    Counters before;
    std::uint64_t on_cpu_given = 0;  ///< on-CPU time up to which deltas were handed out
    std::optional<std::uint64_t> throttled_ns;
    std::optional<std::uint64_t> file_cpu_ns;
    CgroupLimits limits;
    std::string quota;
    Pressures pressures;
    MonotonicNs limits_read = 0;
    std::string path;
    std::uint64_t tick = 0;  ///< last tick in which it was seen
  };

  Cgroup& seen(CgroupId id);
  void gather(const Totals& totals);
  CgroupSample deltas(CgroupId id, Cgroup& cgroup) const;
  std::uint64_t on_cpu_delta(Cgroup& cgroup) const;
  void read_files(CgroupSample& sample, Cgroup& cgroup, const std::string& path, MonotonicNs taken);
  void forget_unseen();

  Source source;
  CgroupFiles files;
  CpuSource cpu_source;
  std::unordered_map<CgroupId, Cgroup> cgroups;
  MonotonicNs last_taken = 0;
  std::uint64_t tick = 0;
};

Sampler::State::Cgroup& Sampler::State::seen(CgroupId id) {
  Cgroup& cgroup = cgroups[id];
  if (cgroup.tick != tick) {
    cgroup.tick = tick;
    std::swap(cgroup.before, cgroup.now);
    cgroup.now = Counters{};
  }
  return cgroup;
}

void Sampler::State::gather(const Totals& totals) {
  for (const auto& row : totals.requests) {
    if (row.key.role != BALLAST_ROLE_SERVER) {
      continue;
    }
    Counters& now = seen(row.key.cgroup_id).now;
    const Outcomes outcomes = outcomes_of(row);
    now.requests += row.value.requests + row.value.moved;  // what only grows
    now.moved += row.value.moved;
    now.responses += row.value.responses;
    now.in_flight += row.value.in_flight;
    now.errors += outcomes.failed + outcomes.abandoned + outcomes.no_answer;
    now.unanswered += outcomes.abandoned + outcomes.no_answer;
    now.unknown += outcomes.unknown;
    for (std::size_t i = 0; i < now.answers.size(); ++i) {
      now.answers[i] += row.value.status[i];
    }
    add(now.first_byte, row.value.first_byte);
    add(now.last_byte, row.value.last_byte);
    if (row.key.protocol == BALLAST_PROTOCOL_GRPC) {
      add(now.grpc_last_byte, row.value.last_byte);
    }
  }
  for (const auto& [id, value] : totals.connections) {
    seen(id).now.connections = value.open;
  }
  for (const auto& [id, value] : totals.cpu) {
    Counters& now = seen(id).now;
    now.on_cpu_ns = value.on_cpu_ns;
    now.wait_ns = value.wait_ns;
    now.self_wait_ns = value.self_wait_ns;
  }
  for (const auto& turn : totals.running) {
    if (turn.cgroup_id != 0 && turn.since_ns != 0 && totals.taken > turn.since_ns) {
      seen(turn.cgroup_id).now.running_ns += totals.taken - turn.since_ns;
    }
  }
}

// A turn's end may fall between the reads of its two halves, so the sum of both may step back by a
// turn; what was handed out is never taken back, and the next tick gives only what is above it.
std::uint64_t Sampler::State::on_cpu_delta(Cgroup& cgroup) const {
  const std::uint64_t total = cgroup.now.on_cpu_ns + cgroup.now.running_ns;
  if (cgroup.now.on_cpu_ns < cgroup.before.on_cpu_ns) {
    cgroup.on_cpu_given = 0;
  }
  const std::uint64_t delta = total > cgroup.on_cpu_given ? total - cgroup.on_cpu_given : 0;
  cgroup.on_cpu_given = std::max(cgroup.on_cpu_given, total);
  return delta;
}

CgroupSample Sampler::State::deltas(CgroupId id, Cgroup& cgroup) const {
  CgroupSample sample;
  sample.id = id;
  const Counters& now = cgroup.now;
  sample.in_flight = std::max<std::int64_t>(0, now.in_flight);
  sample.connections = std::max<std::int64_t>(0, now.connections);
  const std::uint64_t on_cpu = on_cpu_delta(cgroup);
  if (last_taken == 0) {
    return sample;
  }
  const Counters& before = cgroup.before;
  sample.requests = grown(now.requests, before.requests);
  sample.requests -= std::min(sample.requests, grown(now.moved, before.moved));
  sample.responses = grown(now.responses, before.responses);
  sample.errors = grown(now.errors, before.errors);
  sample.unanswered = grown(now.unanswered, before.unanswered);
  sample.unknown = grown(now.unknown, before.unknown);
  for (std::size_t i = 0; i < sample.answers.size(); ++i) {
    sample.answers[i] = grown(now.answers[i], before.answers[i]);
  }
  sample.first_byte = grown(now.first_byte, before.first_byte);
  sample.last_byte = grown(now.last_byte, before.last_byte);
  sample.grpc_last_byte = grown(now.grpc_last_byte, before.grpc_last_byte);
  sample.on_cpu_ns = on_cpu;
  sample.wait_ns = grown(now.wait_ns, before.wait_ns);
  sample.self_wait_ns = std::min(sample.wait_ns, grown(now.self_wait_ns, before.self_wait_ns));
  return sample;
}

void Sampler::State::read_files(CgroupSample& sample, Cgroup& cgroup, const std::string& path,
                                MonotonicNs taken) {
  const CgroupUsage usage = files.usage(path);
  if (usage.throttled_ns && cgroup.throttled_ns) {
    sample.throttled_ns = grown(*usage.throttled_ns, *cgroup.throttled_ns);
  }
  cgroup.throttled_ns = usage.throttled_ns;
  if (cpu_source == CpuSource::kCgroupFiles) {
    sample.on_cpu_ns = usage.cpu_ns && cgroup.file_cpu_ns ? grown(*usage.cpu_ns, *cgroup.file_cpu_ns) : 0;
    sample.wait_ns = sample.throttled_ns;
    sample.self_wait_ns = 0;
    cgroup.file_cpu_ns = usage.cpu_ns;
  }
  sample.memory_bytes = usage.memory_bytes;
  if (cgroup.path != path || cgroup.quota != usage.quota || taken - cgroup.limits_read >= kLimitsEveryNs) {
    cgroup.quota = usage.quota;
    cgroup.limits = files.limits(path);
    cgroup.pressures = files.pressures(path);
    cgroup.limits_read = taken;
    cgroup.path = path;
  }
  sample.cpu_limit_cores = cgroup.limits.cpu_cores;
  sample.memory_limit_bytes = cgroup.limits.memory_bytes;
  sample.pressures = cgroup.pressures;
}

void Sampler::State::forget_unseen() {
  std::erase_if(cgroups, [this](const auto& entry) {
    if (entry.second.tick == tick) {
      return false;
    }
    files.forget(entry.second.path);
    return true;
  });
}

Sampler::Sampler(Source source, CgroupRoots roots, CpuSource cpu)
    : state_(std::make_unique<State>(std::move(source), std::move(roots), cpu)) {}
Sampler::Sampler(Sampler&&) noexcept = default;
Sampler& Sampler::operator=(Sampler&&) noexcept = default;
Sampler::~Sampler() = default;

Result<Sample> Sampler::sample(const std::vector<CgroupRef>& wanted) {
  auto totals = state_->source();
  if (!totals) {
    return totals.error();
  }
  State& state = *state_;
  ++state.tick;
  state.gather(*totals);
  for (const auto& ref : wanted) {
    if (ref.id != 0) {
      state.seen(ref.id);
    }
  }
  state.forget_unseen();

  Sample sample;
  sample.taken = totals->taken;
  sample.interval_ns = state.last_taken == 0 ? 0 : totals->taken - state.last_taken;
  sample.loss = totals->loss;
  sample.cgroups.reserve(state.cgroups.size());
  std::unordered_map<CgroupId, std::size_t> places;
  for (auto& [id, cgroup] : state.cgroups) {
    places.emplace(id, sample.cgroups.size());
    sample.cgroups.push_back(state.deltas(id, cgroup));
  }
  for (const auto& ref : wanted) {
    for (const CgroupId below : ref.nested) {
      if (const auto place = places.find(below); ref.id != 0 && place != places.end()) {
        add(sample.cgroups[places[ref.id]], sample.cgroups[place->second]);
      }
    }
    if (ref.id != 0) {
      state.read_files(sample.cgroups[places[ref.id]], state.cgroups[ref.id], ref.path, totals->taken);
    }
  }
  state.last_taken = totals->taken;
  return sample;
}

}  // namespace ballast::sample
