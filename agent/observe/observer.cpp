// SPDX-License-Identifier: Apache-2.0
#include "agent/observe/observer.h"

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "agent/observe/window.h"

namespace ballast::observe {
namespace {

constexpr double kNanosecondsPerSecond = 1e9;
// The kernel takes no quota below 1 ms a second; less than a tenth of it was misread.
constexpr double kLeastLimitCores = 1e-4;

double seconds(std::uint64_t ns) {
  return static_cast<double>(ns) / kNanosecondsPerSecond;
}
double ratio(double a, double b) {
  return b > 0 ? a / b : 0;
}

double machine_cores(double wanted) {
  if (std::isfinite(wanted) && wanted > 0) {
    return wanted;
  }
  return static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
}

using SamplesById = std::vector<const sample::CgroupSample*>;

const sample::CgroupSample* find(const SamplesById& by_id, sample::CgroupId id) {
  const auto found =
      std::lower_bound(by_id.begin(), by_id.end(), id,
                       [](const auto* cgroup, sample::CgroupId wanted) { return cgroup->id < wanted; });
  return found != by_id.end() && (*found)->id == id ? *found : nullptr;
}

// The weight that is left to an endpoint of which nothing goes well; 0 would read as unknown.
constexpr double kLeastSuccess = 0.02;
// A success is believed to be worse than the service's beyond so many standard errors.
constexpr double kSuccessErrors = 3;

// How long the most CPUs that a pod was seen to want are remembered.
constexpr double kPeakS = 300;

// CPU limits a service whose requests spend their time running or ready to run, or that uses up what its
// pods may use. Requests that wait behind a single thread do not run, so neither is asked for in full:
// a FIFO server at load u that has nothing but CPU work shows 1 - u and u.
constexpr double kLeastRunning = 0.4;
constexpr double kFullRunning = 0.7;
constexpr double kLeastUsed = 0.25;
constexpr double kFullUsed = 0.45;

double between(double value, double low, double high) {
  return std::clamp((value - low) / (high - low), 0.0, 1.0);
}

// CPU time is charged when a task leaves its CPU, so that a tick may show what ran for seconds before it.
constexpr double kCpuAtOnceS = 5;
constexpr double kCpuSlack = 1.05;
// Answers of one tick beyond twice its requests and those that were in flight: no reading of counters one
// after the other explains it.
constexpr double kAnswersPerRequest = 2;
constexpr double kAnswersSlack = 16;

double went_well(const TickCounts& counts) {
  const std::uint64_t failed = counts.errors - std::min(counts.unanswered, counts.errors);
  return static_cast<double>(counts.responses - std::min(failed, counts.responses));
}

// What a tick is known again by. Nothing that runs spends the same nanoseconds twice.
struct TickPrint {
  std::uint64_t on_cpu_ns = 0;
  std::uint64_t wait_ns = 0;
  std::uint64_t latency_sum_ns = 0;
  bool operator==(const TickPrint&) const = default;
};

// One container of an endpoint; several when the container has cgroups below its own.
struct Container {
  std::string name;
  bool sidecar = false;
  bool declared = true;  // as its specification says
  bool served = false;   // answered a request since it came
  std::vector<sample::CgroupId> cgroups;
};

// What one container did in a tick. Memory, quota and throttling are the cgroup's with all below
// it, so nested cgroups do not add up; CPU time is charged to the one that holds the task.
struct ContainerTick {
  TickCounts counts;
  bool sampled = false;
  std::vector<const spec::Latency*> first_byte;
  std::vector<const spec::Latency*> last_byte;
  double limit_cores = 0;
  double memory_bytes = 0;
  double memory_limit_bytes = 0;
  double in_flight = 0;
};

// Nearly always there is one; `merged` holds several added up.
const spec::Latency* together(const std::vector<const spec::Latency*>& parts, spec::Latency& merged) {
  if (parts.size() == 1) {
    return parts.front();
  }
  for (const auto* part : parts) {
    merged.add(*part);
  }
  return &merged;
}

// The pod's containers added up: memory of all, the rest of those that serve.
struct PodTick : ContainerTick {
  bool all_limited = true;
};

}  // namespace

struct Observer::ServiceDemand {
  double cpu_ns = 0;  // in the window, over the service's endpoints here
  double responses = 0;
  double pooled_ns = 0;  // CPU per request, the last that was known; 0: never known
  double success = 1;    // mean over the endpoints here
  double ready_ns = 0;   // in the window, as the next three
  double latency_ns = 0;
  double used_cores = 0;
  double allowed_cores = 0;
  double endpoints = 0;
};

struct Observer::Endpoint {
  explicit Endpoint(std::uint64_t window_ns) : window(window_ns), callers(window_ns) {}

  void update(const SamplesById& by_id, const sample::Sample& sample, const ObserverOptions& options,
              Disbelief& disbelief);
  void finish(const ServiceDemand& demand, const ObserverOptions& options);

  spec::EndpointTelemetry telemetry;
  std::vector<sample::CgroupId> ids;  // of all containers; another list is another pod
  std::vector<Container> containers;
  Window window;
  Window callers;             // of which nothing but the latency is used
  std::uint64_t answers = 0;  // since callers were looked at
  ServiceDemand* demand = nullptr;
  bool here = false;     // planned in this round
  bool present = false;  // a cgroup of it exists on this node

 private:
  PodTick read_pod(const SamplesById& by_id, Disbelief& disbelief);
  ContainerTick read(Container& container, const SamplesById& by_id, Disbelief& disbelief);
  bool possible(const sample::CgroupSample& sample, Disbelief& disbelief) const;
  bool serving(const Container& container) const;
  void measure(const TickCounts& tick, const ObserverOptions& options);
  void judge(const TickCounts& tick, const ObserverOptions& options);
  double relative_success(const ServiceDemand& demand, const ObserverOptions& options) const;

  TickPrint last_tick_;
  double cpu_left_ns_ = -1;  // of what the machine can have given to the pod; negative: not asked yet
  double peak_ready_ = 0;    // CPUs that it used or wanted in one tick, the most of the last minutes
};

bool Observer::Endpoint::possible(const sample::CgroupSample& s, Disbelief& disbelief) const {
  const auto no = [&](std::uint64_t& counter, const char* what) {
    ++counter;
    disbelief.last = telemetry.id.service.ns + "/" + telemetry.id.pod + ": " + what;
    return false;
  };
  if (static_cast<double>(s.on_cpu_ns) > cpu_left_ns_) {
    return no(disbelief.cpu, "more CPU time than the machine has");
  }
  if (static_cast<double>(s.responses) >
      kAnswersPerRequest * static_cast<double>(s.requests) + telemetry.in_flight + kAnswersSlack) {
    return no(disbelief.answers, "answers to requests that never came");
  }
  if (s.in_flight < 0) {
    no(disbelief.in_flight, "fewer than no requests in flight");
  }
  return true;
}

ContainerTick Observer::Endpoint::read(Container& container, const SamplesById& by_id, Disbelief& disbelief) {
  ContainerTick tick;
  for (const auto id : container.cgroups) {
    const sample::CgroupSample* found = find(by_id, id);
    if (found == nullptr || !possible(*found, disbelief)) {
      continue;
    }
    const sample::CgroupSample& s = *found;
    cpu_left_ns_ -= static_cast<double>(s.on_cpu_ns);
    tick.sampled = true;
    tick.first_byte.push_back(&s.first_byte);
    tick.last_byte.push_back(&s.last_byte);
    tick.counts.add({0, s.requests, s.responses, s.errors, s.on_cpu_ns, s.wait_ns, external_wait_ns(s),
                     s.unanswered, s.unknown, s.on_cpu_ns + s.wait_ns + s.quota_wait_ns});
    tick.in_flight += static_cast<double>(std::max<std::int64_t>(s.in_flight, 0));
    tick.memory_bytes = std::max(tick.memory_bytes, static_cast<double>(s.memory_bytes));
    tick.memory_limit_bytes = std::max(tick.memory_limit_bytes, static_cast<double>(s.memory_limit_bytes));
    if (std::isfinite(s.cpu_limit_cores)) {
      tick.limit_cores = std::max(tick.limit_cores, s.cpu_limit_cores);
    }
    container.served = container.served || (!container.sidecar && s.responses > 0);
  }
  return tick;
}

bool Observer::Endpoint::serving(const Container& container) const {
  const auto any = [this](auto such) { return std::any_of(containers.begin(), containers.end(), such); };
  if (any([](const Container& c) { return c.served && c.declared; })) {
    return container.served && container.declared;
  }
  if (any([](const Container& c) { return c.served; })) {
    return container.served;
  }
  return container.declared && !container.sidecar;
}

PodTick Observer::Endpoint::read_pod(const SamplesById& by_id, Disbelief& disbelief) {
  const auto count_served = [this] {
    return std::count_if(containers.begin(), containers.end(), [](const auto& c) { return c.served; });
  };
  const auto served_before = count_served();
  std::vector<ContainerTick> ticks;
  ticks.reserve(containers.size());
  for (auto& container : containers) {
    ticks.push_back(read(container, by_id, disbelief));
  }
  if (count_served() != served_before && containers.size() > 1) {
    window.clear();  // what was added up until now was another set of containers
  }
  PodTick pod;
  for (std::size_t i = 0; i < containers.size(); ++i) {
    const ContainerTick& tick = ticks[i];
    pod.memory_bytes += tick.memory_bytes;
    pod.memory_limit_bytes += tick.memory_limit_bytes;
    pod.all_limited = pod.all_limited && (!tick.sampled || tick.memory_limit_bytes > 0);
    if (!tick.sampled || !serving(containers[i])) {
      continue;
    }
    pod.sampled = true;
    pod.counts.add(tick.counts);
    pod.limit_cores += tick.limit_cores;
    pod.in_flight += tick.in_flight;
    pod.first_byte.insert(pod.first_byte.end(), tick.first_byte.begin(), tick.first_byte.end());
    pod.last_byte.insert(pod.last_byte.end(), tick.last_byte.begin(), tick.last_byte.end());
  }
  return pod;
}

void Observer::Endpoint::update(const SamplesById& by_id, const sample::Sample& sample,
                                const ObserverOptions& options, Disbelief& disbelief) {
  if (!present) {
    window.clear();
    return;
  }
  const double more = kCpuSlack * options.machine_cores * static_cast<double>(sample.interval_ns);
  const double most = more + options.machine_cores * kCpuAtOnceS * kNanosecondsPerSecond;
  cpu_left_ns_ = cpu_left_ns_ < 0 ? most : std::min(most, cpu_left_ns_ + more);
  PodTick tick = read_pod(by_id, disbelief);
  if (!tick.sampled || sample.interval_ns == 0) {
    return;
  }
  tick.counts.interval_ns = sample.interval_ns;
  answers += tick.counts.responses;
  spec::Latency merged[2];
  const spec::Latency* latency = together(tick.first_byte, merged[0]);
  window.push(tick.counts, *latency, *together(tick.last_byte, merged[1]));
  const TickPrint print{tick.counts.on_cpu_ns, tick.counts.wait_ns, latency->sum_ns};
  if (print.on_cpu_ns == 0 || print != last_tick_) {
    telemetry.taken = sample.taken;
  }
  last_tick_ = print;
  telemetry.in_flight = tick.in_flight;
  telemetry.memory_bytes = tick.memory_bytes;
  telemetry.memory_share = tick.all_limited ? ratio(tick.memory_bytes, tick.memory_limit_bytes) : 0;
  if (tick.limit_cores >= kLeastLimitCores) {  // an unreadable limit is still the one that was read before
    telemetry.cpu_limit_cores = std::min(tick.limit_cores, options.machine_cores);
  }
  telemetry.tick_p50_ns = latency->quantile_ns(0.5);
  measure(tick.counts, options);
}

void Observer::Endpoint::measure(const TickCounts& tick, const ObserverOptions& options) {
  const TickCounts& sum = window.sum();
  const double window_s = seconds(sum.interval_ns);
  telemetry.qps = ratio(static_cast<double>(sum.requests), window_s);
  telemetry.tick_requests = static_cast<double>(tick.requests);
  window.first_byte().store(telemetry.latency);
  telemetry.p50_ns = window.first_byte().quantile_ns(0.5);
  telemetry.p99_ns = window.first_byte().quantile_ns(0.99);
  const spec::Stretch stretch = spec::stretch_of(window.first_byte(), window.last_byte());
  telemetry.p50_stretch = stretch.p50;
  telemetry.mean_stretch = stretch.mean;
  telemetry.error_rate =
      std::min(1.0, ratio(static_cast<double>(sum.errors), static_cast<double>(sum.judged())));
  telemetry.cpu_cores = ratio(seconds(sum.on_cpu_ns), window_s);
  telemetry.wait_share = ratio(static_cast<double>(tick.wait_ns),
                               static_cast<double>(tick.on_cpu_ns) + static_cast<double>(tick.wait_ns));
  const auto evidence = [&](const TickCounts& counts) {
    return static_cast<double>(counts.on_cpu_ns) + static_cast<double>(counts.external_wait_ns) >=
           options.min_speed_evidence_ns;
  };
  const double limit = telemetry.cpu_limit_cores;
  telemetry.speed = evidence(tick) ? speed_of(tick, limit) : evidence(sum) ? speed_of(sum, limit) : 1;
  telemetry.utilisation = ratio(telemetry.cpu_cores, limit * telemetry.speed);
  const double latency_ns = static_cast<double>(window.first_byte().sum_ns);
  telemetry.running_share = std::min(1.0, ratio(static_cast<double>(sum.ready_ns), latency_ns));
  const double ready = ratio(static_cast<double>(tick.ready_ns), static_cast<double>(tick.interval_ns));
  peak_ready_ = std::max(ready, peak_ready_ * std::exp(-seconds(tick.interval_ns) / kPeakS));
  telemetry.usable_cores = std::max(1.0, peak_ready_);
  if (limit > 0) {
    telemetry.usable_cores = std::min(limit, telemetry.usable_cores);
  }
  judge(tick, options);
}

void Observer::Endpoint::judge(const TickCounts& tick, const ObserverOptions& options) {
  const TickCounts& sum = window.sum();
  double ended = static_cast<double>(tick.judged());
  double failed = std::min(static_cast<double>(tick.errors), ended);
  if (sum.responses + sum.unanswered == 0 && static_cast<double>(sum.requests) >= options.min_requests) {
    ended = failed = static_cast<double>(tick.requests);
  }
  if (ended > 0) {
    const double rate = 1 - std::exp(-ended / options.success_requests);
    telemetry.success += rate * ((ended - failed) / ended - telemetry.success);
  }
}

// 1 unless the endpoint does clearly worse than its service, whatever that does.
double Observer::Endpoint::relative_success(const ServiceDemand& pool, const ObserverOptions& options) const {
  const double own = telemetry.success;
  const double error = std::sqrt(std::max(0.0, own * (1 - own)) / (2 * options.success_requests));
  const double usual = std::max(pool.success, kLeastSuccess);
  return std::clamp((own + kSuccessErrors * error + kLeastSuccess) / usual, kLeastSuccess, 1.0);
}

void Observer::Endpoint::finish(const ServiceDemand& pool, const ObserverOptions& options) {
  telemetry.known = present && !window.empty() && pool.pooled_ns > 0;
  telemetry.cpu_evidence =
      std::max(between(ratio(pool.ready_ns, pool.latency_ns), kLeastRunning, kFullRunning),
               between(ratio(pool.used_cores, pool.allowed_cores), kLeastUsed, kFullUsed));
  telemetry.capacity_qps = 0;
  if (!telemetry.known) {
    return;
  }
  const double responses = went_well(window.sum());
  double per_request_ns = pool.pooled_ns;
  if (responses >= options.min_requests) {
    per_request_ns =
        (static_cast<double>(window.sum().on_cpu_ns) + options.shrink_requests * pool.pooled_ns) /
        (responses + options.shrink_requests);
  }
  telemetry.capacity_qps =
      ratio(telemetry.cpu_limit_cores * telemetry.speed * kNanosecondsPerSecond, per_request_ns) *
      relative_success(pool, options);
}

Observer::Observer(ObserverOptions options) : options_(std::move(options)) {
  options_.machine_cores = machine_cores(options_.machine_cores);
  options_.shrink_requests = std::max(options_.shrink_requests, 0.0);
  options_.min_requests = std::max(options_.min_requests, 1.0);
  options_.success_requests = std::max(options_.success_requests, 1.0);
}

Observer::~Observer() = default;
Observer::Observer(Observer&&) noexcept = default;
Observer& Observer::operator=(Observer&&) noexcept = default;

void Observer::plan(const std::vector<identity::Pod>& pods) {
  for (auto& [id, endpoint] : endpoints_) {
    endpoint->here = false;
  }
  std::map<Endpoint*, std::pair<std::vector<sample::CgroupId>, std::vector<Container>>> wanted;
  for (const auto& pod : pods) {
    if (pod.service.empty()) {
      continue;
    }
    spec::EndpointId id{{pod.ns, pod.service}, pod.pod};
    auto& slot = endpoints_[id];
    if (!slot) {
      slot =
          std::make_unique<Endpoint>(static_cast<std::uint64_t>(options_.window_s * kNanosecondsPerSecond));
      slot->telemetry.id = id;
      slot->demand = &demand_[id.service];
    }
    Endpoint& endpoint = *slot;
    endpoint.telemetry.address = pod.address;
    endpoint.telemetry.port = pod.port;
    if (!std::exchange(endpoint.here, true)) {
      endpoint.present = false;
    }
    auto& [ids, containers] = wanted[&endpoint];
    if (!pod.local || pod.cgroup_id == 0) {
      continue;
    }
    endpoint.present = true;
    ids.push_back(pod.cgroup_id);
    auto same = std::find_if(containers.begin(), containers.end(),
                             [&](const auto& c) { return c.name == pod.container; });
    if (same == containers.end()) {
      const auto& sidecars = options_.sidecars;
      const bool sidecar = std::find(sidecars.begin(), sidecars.end(), pod.container) != sidecars.end();
      same = containers.insert(containers.end(), Container{pod.container, sidecar, pod.declared, false, {}});
    }
    same->cgroups.push_back(pod.cgroup_id);
  }
  for (auto& [endpoint, now] : wanted) {
    if (endpoint->ids != now.first) {
      endpoint->ids = std::move(now.first);
      endpoint->containers = std::move(now.second);
      endpoint->window.clear();
      endpoint->callers.clear();
      const spec::EndpointTelemetry fresh{endpoint->telemetry.id, endpoint->telemetry.address,
                                          endpoint->telemetry.port};
      endpoint->telemetry = fresh;
    }
  }
  std::erase_if(endpoints_, [](const auto& entry) { return !entry.second->here; });
  std::erase_if(demand_, [&](const auto& entry) {
    const auto first = endpoints_.lower_bound(spec::EndpointId{entry.first, ""});
    return first == endpoints_.end() || first->first.service != entry.first;
  });
}

// Over every service: the CPU that a request costs, from the requests of all its endpoints here.
void Observer::pool_demand() {
  for (auto& [service, demand] : demand_) {
    demand.cpu_ns = 0;
    demand.responses = 0;
    demand.success = 0;
    demand.ready_ns = demand.latency_ns = demand.used_cores = demand.allowed_cores = 0;
    demand.endpoints = 0;
  }
  for (const auto& [id, endpoint] : endpoints_) {
    endpoint->demand->cpu_ns += static_cast<double>(endpoint->window.sum().on_cpu_ns);
    endpoint->demand->responses += went_well(endpoint->window.sum());
    endpoint->demand->success += endpoint->telemetry.success;
    endpoint->demand->endpoints += 1;
    endpoint->demand->ready_ns += static_cast<double>(endpoint->window.sum().ready_ns);
    endpoint->demand->latency_ns += static_cast<double>(endpoint->window.first_byte().sum_ns);
    if (endpoint->telemetry.cpu_limit_cores > 0) {
      endpoint->demand->used_cores += endpoint->telemetry.cpu_cores;
    }
    endpoint->demand->allowed_cores += endpoint->telemetry.cpu_limit_cores * endpoint->telemetry.speed;
  }
  for (auto& [service, demand] : demand_) {
    demand.success /= std::max(demand.endpoints, 1.0);
    if (demand.responses >= options_.min_requests && demand.cpu_ns > 0) {
      demand.pooled_ns = demand.cpu_ns / demand.responses;
    }
  }
}

// What callers saw against what the endpoints counted, of the same time.
void Observer::see(const sample::Sample& sample) {
  const std::uint64_t past_ns = seen_ != 0 && sample.taken > seen_ ? sample.taken - seen_ : 0;
  const auto callers = callers_.update(*sample.calls);
  for (auto& [id, endpoint] : endpoints_) {
    if (const auto found = callers.find(id); found != callers.end()) {
      endpoint->callers.push({.interval_ns = past_ns}, found->second.first_byte);
      endpoint->telemetry.seen_per_s = ratio(static_cast<double>(found->second.answers), seconds(past_ns));
      endpoint->telemetry.answers_per_s = ratio(static_cast<double>(endpoint->answers), seconds(past_ns));
      endpoint->telemetry.seen_p99_ns = endpoint->callers.first_byte().quantile_ns(0.99);
    }
    endpoint->answers = 0;
  }
  seen_ = sample.taken;
}

const std::vector<spec::EndpointTelemetry>& Observer::endpoints(const sample::Sample& sample,
                                                                const std::vector<identity::Pod>& pods) {
  if (pods != planned_) {
    plan(pods);
    callers_.plan(pods, options_.sidecars);
    planned_ = pods;
  }
  by_id_.clear();
  for (const auto& cgroup : sample.cgroups) {
    by_id_.push_back(&cgroup);
  }
  std::sort(by_id_.begin(), by_id_.end(), [](const auto* a, const auto* b) { return a->id < b->id; });
  disbelief_.last.clear();
  for (auto& [id, endpoint] : endpoints_) {
    endpoint->update(by_id_, sample, options_, disbelief_);
  }
  if (sample.calls) {
    see(sample);
  }
  pool_demand();
  telemetry_.resize(endpoints_.size());  // assigned in place: the strings keep their memory
  auto out = telemetry_.begin();
  for (auto& [id, endpoint] : endpoints_) {
    endpoint->finish(*endpoint->demand, options_);
    *out++ = endpoint->telemetry;
  }
  return telemetry_;
}

}  // namespace ballast::observe
