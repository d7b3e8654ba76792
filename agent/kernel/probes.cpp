// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/probes.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <initializer_list>
#include <utility>

#include "agent/kernel/folder.h"
#include "agent/kernel/object.h"
#include "agent/kernel/privilege.h"
#include "bpf/wire/wire.h"
#include "core/base/cgroup_root.h"
#include "core/base/clock.h"
#include "core/base/log.h"
#include "cpu.skel.h"
#include "http.skel.h"
#include "tcp.skel.h"
#include "unix.skel.h"

namespace ballast::kernel {

namespace {

constexpr OwnMap kMetaMap{BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t), sizeof(ballast_meta),
                          1};
constexpr OwnMap kControlMap{BALLAST_MAP_CONTROL, BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t),
                             sizeof(ballast_control_value), 1};
constexpr OwnMap kIdentityMap{BALLAST_MAP_IDENTITY, BPF_MAP_TYPE_HASH, sizeof(std::uint64_t),
                              sizeof(ballast_identity_value), BALLAST_MAX_CGROUPS};
constexpr OwnMap kFeatureMap{BALLAST_MAP_FEATURES, BPF_MAP_TYPE_ARRAY, sizeof(std::uint32_t),
                             sizeof(ballast_feature_value), BALLAST_MAX_FEATURES};
constexpr OwnMap kDecisionMap{BALLAST_MAP_DECISIONS, BPF_MAP_TYPE_HASH, sizeof(ballast_decision_key),
                              sizeof(ballast_decision_value), BALLAST_MAX_DECISIONS};

/// BPF_CGROUP_UNIX_CONNECT of Linux 6.7; the headers that we are built with may be older.
constexpr auto kUnixConnect = static_cast<bpf_attach_type>(49);

template <typename Value>
Value first_value(const UniqueFd& map) {
  const std::uint32_t key = 0;
  Value value{};
  ::bpf_map_lookup_elem(map.get(), &key, &value);  // an array's first element is always there
  return value;
}

template <typename Value>
Status put_first(const UniqueFd& map, const Value& value, const char* name) {
  const std::uint32_t key = 0;
  if (::bpf_map_update_elem(map.get(), &key, &value, BPF_ANY) != 0) {
    return bpf_failure(std::string("writing map '") + name + "'", errno);
  }
  return ok();
}

template <typename Skeleton>
void fit_machine(Skeleton&) {}

template <>
void fit_machine(cpu_bpf& skeleton) {
  const auto cpus = static_cast<std::uint32_t>(std::max(1, ::libbpf_num_possible_cpus()));
  ::bpf_map__set_max_entries(skeleton.maps.running, cpus);
  ::bpf_map__set_max_entries(skeleton.maps.cpu_share,
                             std::min<std::uint32_t>(BALLAST_MAX_CPU_SHARES, cpus * BALLAST_MAX_CGROUPS));
}

template <typename Skeleton>
Result<SkeletonPtr<Skeleton>> open_skeleton(const char* name, const std::filesystem::path& folder) {
  SkeletonPtr<Skeleton> skeleton(Skeleton::open(nullptr));
  if (skeleton == nullptr) {
    return bpf_failure(std::string("opening the ") + name + " probe", errno);
  }
  fit_machine(*skeleton);
  if (Status shared = share_maps(skeleton->obj, folder); !shared) {
    return shared.error();
  }
  return skeleton;
}

// ok() when the maps pinned in `folder` are what this skeleton's programs would make.
template <typename Skeleton>
Status check_shapes(const char* name, const std::filesystem::path& folder) {
  auto skeleton = open_skeleton<Skeleton>(name, folder);
  return skeleton ? check_map_shapes((*skeleton)->obj) : Status(skeleton.error());
}

// One try at a skeleton: `choose` says which of its programs are wanted before they are loaded.
template <typename Skeleton, typename Choose>
Result<SkeletonPtr<Skeleton>> try_load(const char* name, const std::filesystem::path& folder,
                                       Choose&& choose) {
  auto opened = open_skeleton<Skeleton>(name, folder);
  if (!opened) {
    return opened.error();
  }
  SkeletonPtr<Skeleton> skeleton = std::move(*opened);
  choose(*skeleton);
  if (const int error = Skeleton::load(skeleton.get()); error != 0) {
    return bpf_failure(std::string("loading the ") + name + " probe", -error);
  }
  return skeleton;
}

}  // namespace

struct Probes::State {
  explicit State(PinFolder held) : folder(std::move(held)) {}

  Status adopt();
  Status prepare_maps();
  Status load_tcp();
  Status load_http();
  Status load_cpu();
  Status load_unix();
  Status attach();
  Status attach_cgroup_programs();
  bool trace(const char* signal, std::initializer_list<bpf_program*> programs,
             std::vector<std::filesystem::path>& fresh) const;
  void name_features();
  Status publish_meta();
  std::filesystem::path pin(const std::string& program) const { return folder.path() / (program + "_link"); }

  PinFolder folder;
  std::filesystem::path cgroup_root;
  std::uint32_t span_every = 0;
  UniqueFd meta_map;
  UniqueFd control_map;
  ballast_meta meta{};
  std::uint32_t generation = 0;
  bool adopted = false;
  bool tcp_traced = false;
  bool tcp_marks = false;
  bool close_traced = false;
  bool parse_in_place = true;  ///< asked for; after load_http() what the verifier took
  bool cpu_traced = false;
  bool unix_seen = false;
  std::uint32_t flags = 0;
  std::vector<Feature> features;
  SkeletonPtr<http_bpf> http;
  SkeletonPtr<tcp_bpf> tcp;
  SkeletonPtr<cpu_bpf> cpu;
  SkeletonPtr<unix_bpf> af_unix;
};

// Finds what an earlier run left. Maps of another version or shape, or a part of them, are taken out with the
// programs that write them: their figures would be read wrongly.
Status Probes::State::adopt() {
  const auto& path = folder.path();
  std::error_code ignored;
  if (std::filesystem::is_empty(path, ignored)) {
    return ok();
  }
  const UniqueFd before(::bpf_obj_get((path / BALLAST_MAP_META).c_str()));
  std::string reason;
  ballast_meta earlier{};
  if (has_shape(before.get(), kMetaMap)) {
    earlier = first_value<ballast_meta>(before);
  }
  if (!before) {
    reason = (path / BALLAST_MAP_META).string() + " is gone";
  } else if (earlier.magic != BALLAST_WIRE_MAGIC || earlier.wire_version != BALLAST_WIRE_VERSION) {
    reason = "wire version " + std::to_string(earlier.wire_version) + ", ours is " +
             std::to_string(BALLAST_WIRE_VERSION);
  } else {
    for (const Status& shape : {check_shapes<http_bpf>("http", path), check_shapes<tcp_bpf>("tcp", path),
                                check_shapes<cpu_bpf>("cpu", path), check_shapes<unix_bpf>("unix", path),
                                check_map_shape(path, kControlMap), check_map_shape(path, kIdentityMap),
                                check_map_shape(path, kFeatureMap), check_map_shape(path, kDecisionMap)}) {
      if (!shape) {
        reason = shape.error().message;
      }
    }
  }
  if (reason.empty()) {
    adopted = true;
    meta = earlier;
    return ok();
  }
  spdlog::warn("maps replaced path={} reason=\"{}\": counters begin at zero", path.string(), reason);
  return folder.clear();
}

// Opens or makes the maps that no program makes.
Status Probes::State::prepare_maps() {
  for (const auto& [map, keep] : {std::pair{kMetaMap, &meta_map}, std::pair{kControlMap, &control_map},
                                  std::pair<OwnMap, UniqueFd*>{kIdentityMap, nullptr},
                                  std::pair<OwnMap, UniqueFd*>{kFeatureMap, nullptr},
                                  std::pair<OwnMap, UniqueFd*>{kDecisionMap, nullptr}}) {
    auto fd = pinned_map(folder.path(), map);
    if (!fd) {
      return fd.error();
    }
    if (keep != nullptr) {
      *keep = std::move(*fd);
    }
  }
  generation = first_value<ballast_control_value>(control_map).generation + 1;
  meta.magic = BALLAST_WIRE_MAGIC;
  meta.wire_version = BALLAST_WIRE_VERSION;
  meta.pid = static_cast<std::uint32_t>(::getpid());
  if (!adopted) {
    meta.loaded_ns = SystemClock().now();
  }
  return put_first(meta_map, meta, BALLAST_MAP_META);
}

// What a kernel refuses is left out and named; see features(). Maps are made all the same: readers need them.
Status Probes::State::load_tcp() {
  const auto with = [this](bool traced, bool marked) {
    return try_load<tcp_bpf>("tcp", folder.path(), [=, this](tcp_bpf& skeleton) {
      skeleton.rodata->generation = generation;
      ::bpf_program__set_autoload(skeleton.progs.tcp_state, traced && marked);
      ::bpf_program__set_autoload(skeleton.progs.tcp_state_unmarked, traced && !marked);
      ::bpf_program__set_autoload(skeleton.progs.tcp_retransmit, traced);
    });
  };
  auto loaded = with(true, true);
  tcp_marks = loaded.ok();
  if (!loaded) {
    loaded = with(true, false);
  }
  tcp_traced = loaded.ok();
  if (!loaded) {
    spdlog::warn("connections not traced reason=\"{}\"", loaded.error().message);
    loaded = with(false, false);
  }
  if (!loaded) {
    return loaded.error();
  }
  tcp = std::move(*loaded);
  return ok();
}

Status Probes::State::load_http() {
  const auto with = [this](bool closing, bool in_place) {
    return try_load<http_bpf>("http", folder.path(), [=, this](http_bpf& skeleton) {
      skeleton.rodata->tcp_marks_sockets = tcp_marks;
      skeleton.rodata->span_every = span_every;
      skeleton.rodata->parse_in_place = in_place;
      skeleton.rodata->follow_bounded = closing;
      ::bpf_program__set_autoload(skeleton.progs.http_close, closing);
    });
  };
  Status refused = ok();
  for (const bool in_place : {true, false}) {
    for (const bool closing : {true, false}) {
      if (in_place && !parse_in_place) {
        continue;
      }
      auto loaded = with(closing, in_place);
      if (loaded) {
        parse_in_place = in_place;
        close_traced = closing;
        http = std::move(*loaded);
        return ok();
      }
      refused = loaded.error();
    }
  }
  return refused;
}

Status Probes::State::load_cpu() {
  const auto with = [this](bool traced) {
    return try_load<cpu_bpf>("cpu", folder.path(), [=, this](cpu_bpf& skeleton) {
      skeleton.rodata->generation = generation;
      for (bpf_program* program :
           {skeleton.progs.cpu_switch, skeleton.progs.cpu_wakeup, skeleton.progs.cpu_wakeup_new}) {
        ::bpf_program__set_autoload(program, traced);
      }
    });
  };
  auto loaded = with(true);
  cpu_traced = loaded.ok();
  if (!loaded) {
    spdlog::warn("scheduler not traced reason=\"{}\"", loaded.error().message);
    loaded = with(false);
  }
  if (!loaded) {
    return loaded.error();
  }
  cpu = std::move(*loaded);
  return ok();
}

Status Probes::State::load_unix() {
  auto loaded = try_load<unix_bpf>("unix", folder.path(), [](unix_bpf& skeleton) {
    ::bpf_program__set_expected_attach_type(skeleton.progs.unix_connect, kUnixConnect);
  });
  unix_seen = loaded.ok();
  if (!loaded) {
    spdlog::debug("AF_UNIX not seen reason=\"{}\"", loaded.error().message);
    return ok();
  }
  af_unix = std::move(*loaded);
  return ok();
}

// Attaches the tracing programs of one signal beside those in force, or none of them when one is refused.
bool Probes::State::trace(const char* signal, std::initializer_list<bpf_program*> programs,
                          std::vector<std::filesystem::path>& fresh) const {
  std::vector<std::filesystem::path> attached;
  for (bpf_program* program : programs) {
    if (!::bpf_program__autoload(program)) {
      continue;
    }
    const auto link = pin(::bpf_program__name(program));
    if (Status done = attach_tracing(program, link); !done) {
      spdlog::warn("{} not traced reason=\"{}\"", signal, done.error().message);
      for (const auto& each : attached) {
        drop_fresh(each);
      }
      return false;
    }
    attached.push_back(link);
  }
  fresh.insert(fresh.end(), attached.begin(), attached.end());
  return true;
}

Status Probes::State::attach() {
  const auto connection_programs = {tcp->progs.tcp_state, tcp->progs.tcp_state_unmarked,
                                    tcp->progs.tcp_retransmit};
  const auto close_programs = {http->progs.http_close};
  const auto cpu_programs = {cpu->progs.cpu_switch, cpu->progs.cpu_wakeup, cpu->progs.cpu_wakeup_new};
  std::vector<std::filesystem::path> fresh;
  tcp_traced = tcp_traced && trace("connections", connection_programs, fresh);
  close_traced = close_traced && trace("closing", close_programs, fresh);
  cpu_traced = cpu_traced && trace("scheduler", cpu_programs, fresh);
  // One store: from here on the new programs count and the old ones do not.
  if (Status flipped = put_first(control_map, ballast_control_value{generation, 0}, BALLAST_MAP_CONTROL);
      !flipped) {
    return flipped;
  }
  for (const auto& programs :
       {std::vector(connection_programs), std::vector(close_programs), std::vector(cpu_programs)}) {
    for (bpf_program* program : programs) {
      const auto link = pin(::bpf_program__name(program));
      const bool taken = std::find(fresh.begin(), fresh.end(), link) != fresh.end();
      if (!taken) {
        drop_pin(link);  // an earlier run's, on another kernel's terms
      } else if (Status promoted = promote_link(link); !promoted) {
        return promoted;
      }
    }
  }
  return attach_cgroup_programs();
}

Status Probes::State::attach_cgroup_programs() {
  const UniqueFd cgroup(::open(cgroup_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) {
    return bpf_failure("opening the cgroup v2 root " + cgroup_root.string(), errno);
  }
  for (bpf_program* program : {http->progs.http_ingress, http->progs.http_egress}) {
    if (Status attached = attach_cgroup(program, cgroup.get(), pin(::bpf_program__name(program)));
        !attached) {
      return attached;
    }
  }
  const auto link = pin("unix_connect");
  unix_seen = unix_seen && attach_cgroup(af_unix->progs.unix_connect, cgroup.get(), link).ok();
  if (!unix_seen) {
    drop_pin(link);
  }
  return ok();
}

void Probes::State::name_features() {
  const auto tell = [this](const char* name, bool available, const char* fallback) {
    features.push_back({name, available, available ? "" : fallback});
  };
  tell("http requests", true, "");
  tell("close tracking", close_traced, "requests of a dead connection are given back at FIN and RST only");
  tell("parsing in place", parse_in_place, "the verifier has no patience for it: some 60 ns more a packet");
  tell("connection tracking", tcp_traced, "connections are not counted");
  tell("socket storage in tracepoints", tcp_traced && tcp_marks,
       tcp_traced ? "kernel before 5.11: connections opened before ballastd are not adopted"
                  : "no tracepoints to have it in");
  tell("scheduler tracepoints", cpu_traced,
       "on-CPU time of pods from their cgroups' files; waiting for a CPU is not known");
  tell("AF_UNIX connections", unix_seen, "kernel before 6.7: that pods talk over AF_UNIX is not known");
  flags = BALLAST_META_HTTP | (tcp_traced ? BALLAST_META_TCP : 0U) | (cpu_traced ? BALLAST_META_CPU : 0U);
}

Status Probes::State::publish_meta() {
  name_features();
  meta.attached_ns = SystemClock().now();
  meta.flags = flags;
  return put_first(meta_map, meta, BALLAST_MAP_META);
}

Result<Probes> Probes::load(const ProbeOptions& options) {
  if (Status version = check_version(); !version) {
    return version.error();
  }
  if (Status held = check_capabilities(); !held) {
    return held.error();
  }
  if (Status types = check_btf(); !types) {
    return types.error();
  }
  route_libbpf_log();
  auto root =
      options.cgroup_root.empty() ? find_cgroup_root() : Result<std::filesystem::path>(options.cgroup_root);
  if (!root) {
    return root.error();
  }
  if (Status v2 = check_cgroup_root(*root); !v2) {
    return v2.error();
  }
  auto folder = PinFolder::acquire(options.bpffs);
  if (!folder) {
    return folder.error();
  }
  auto state = std::make_unique<State>(std::move(*folder));
  state->cgroup_root = std::move(*root);
  state->span_every = options.span_every;
  state->parse_in_place = options.parse_in_place;
  for (const auto step : {&State::adopt, &State::prepare_maps, &State::load_tcp, &State::load_http,
                          &State::load_cpu, &State::load_unix, &State::attach, &State::publish_meta}) {
    if (Status done = (state.get()->*step)(); !done) {
      return done.error();
    }
  }
  spdlog::info("probes attached path={} cgroup_root={} adopted={}", options.bpffs.string(),
               state->cgroup_root.string(), state->adopted);
  return Probes(std::move(state));
}

Status Probes::unload(const std::filesystem::path& bpffs) {
  auto folder = PinFolder::open_existing(bpffs);
  if (!folder) {
    return folder.error();
  }
  return folder->remove_all();
}

Probes::Probes(std::unique_ptr<State> state) : state_(std::move(state)) {}
Probes::Probes(Probes&&) noexcept = default;
Probes& Probes::operator=(Probes&&) noexcept = default;
Probes::~Probes() = default;

std::uint32_t Probes::flags() const {
  return state_->flags;
}
const std::vector<Feature>& Probes::features() const {
  return state_->features;
}
bool Probes::adopted() const {
  return state_->adopted;
}
const std::filesystem::path& Probes::cgroup_root() const {
  return state_->cgroup_root;
}

}  // namespace ballast::kernel
