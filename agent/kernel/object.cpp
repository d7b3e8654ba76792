// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/object.h"

#include <bpf/bpf.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string_view>

#include "bpf/wire/wire.h"

namespace ballast::kernel {

namespace {

// Every other map is an object's own: scratch space and constants.
constexpr std::string_view kShared[] = {
    BALLAST_MAP_REQUESTS,    BALLAST_MAP_CONNECTIONS,  BALLAST_MAP_CPU,          BALLAST_MAP_RUNNING,
    BALLAST_MAP_LOSS,        BALLAST_MAP_CONTROL,      BALLAST_MAP_HTTP_SOCKETS, BALLAST_MAP_TCP_SOCKETS,
    BALLAST_MAP_TASKS,       BALLAST_MAP_CPU_SHARE,    BALLAST_MAP_CALLS,        BALLAST_MAP_HTTP2_SOCKETS,
    BALLAST_MAP_SPANS,       BALLAST_MAP_SPAN_SOCKETS, BALLAST_MAP_SPAN_COUNT,   BALLAST_MAP_COVERAGE,
    BALLAST_MAP_SERVERS,     BALLAST_MAP_FOLLOWED,     BALLAST_MAP_HTTP_STREAMS, BALLAST_MAP_HTTP_EARLY,
    BALLAST_MAP_HTTP2_EARLY,
};

struct LinkDeleter {
  void operator()(bpf_link* link) const { ::bpf_link__destroy(link); }
};
using LinkPtr = std::unique_ptr<bpf_link, LinkDeleter>;

// A bpffs takes no dots in names.
std::filesystem::path fresh(const std::filesystem::path& pin) {
  return pin.string() + "_new";
}

// The cgroup that a pinned link hangs on; 0 when it is gone (a removed cgroup detaches its links).
std::uint64_t link_cgroup(const bpf_link* link) {
  bpf_link_info info{};
  std::uint32_t size = sizeof info;
  if (::bpf_obj_get_info_by_fd(::bpf_link__fd(link), &info, &size) != 0) {
    return 0;
  }
  return info.type == BPF_LINK_TYPE_CGROUP ? info.cgroup.cgroup_id : 0;
}

}  // namespace

Error bpf_failure(const std::string& what, int error) {
  const std::string message = what + ": " + std::strerror(error);
  if (error == EPERM || error == EACCES) {
    return Error::privilege(message + " (refused by the kernel; --log debug shows its reason)");
  }
  return Error::failed(message);
}

Status share_maps(bpf_object* object, const std::filesystem::path& folder) {
  bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const std::string_view name = ::bpf_map__name(map);
    for (const auto shared : kShared) {
      if (name == shared && ::bpf_map__set_pin_path(map, (folder / name).c_str()) != 0) {
        return bpf_failure("naming the pin of map '" + std::string(name) + "'", errno);
      }
    }
  }
  return ok();
}

Status check_map_shapes(const bpf_object* object) {
  const bpf_map* map = nullptr;
  bpf_object__for_each_map(map, object) {
    const char* pin = ::bpf_map__pin_path(map);
    if (pin == nullptr) {
      continue;
    }
    const UniqueFd held(::bpf_obj_get(pin));
    bpf_map_info info{};
    std::uint32_t size = sizeof info;
    if (!held || ::bpf_obj_get_info_by_fd(held.get(), &info, &size) != 0) {
      return Error::failed(std::string(pin) + " is gone or no map");
    }
    if (info.type != static_cast<std::uint32_t>(::bpf_map__type(map)) ||
        info.key_size != ::bpf_map__key_size(map) || info.value_size != ::bpf_map__value_size(map) ||
        info.max_entries != ::bpf_map__max_entries(map) || info.map_flags != ::bpf_map__map_flags(map)) {
      return Error::failed(std::string(pin) + " was made with another layout");
    }
  }
  return ok();
}

bool has_shape(int fd, const OwnMap& map) {
  bpf_map_info info{};
  std::uint32_t size = sizeof info;
  return ::bpf_obj_get_info_by_fd(fd, &info, &size) == 0 &&
         info.type == static_cast<std::uint32_t>(map.type) && info.key_size == map.key_size &&
         info.value_size == map.value_size && info.max_entries == map.max_entries;
}

Status check_map_shape(const std::filesystem::path& folder, const OwnMap& map) {
  const auto pin = folder / map.name;
  const UniqueFd fd(::bpf_obj_get(pin.c_str()));
  if (!fd) {
    return Error::failed(pin.string() + " is gone");
  }
  return has_shape(fd.get(), map) ? ok() : Error::failed(pin.string() + " was made with another layout");
}

Result<UniqueFd> pinned_map(const std::filesystem::path& folder, const OwnMap& map) {
  const auto pin = folder / map.name;
  UniqueFd fd(::bpf_obj_get(pin.c_str()));
  if (fd) {
    return has_shape(fd.get(), map) ? Result<UniqueFd>(std::move(fd))
                                    : Error::failed(pin.string() + " was made with another layout");
  }
  if (errno != ENOENT) {
    return bpf_failure("opening " + pin.string(), errno);
  }
  fd.reset(::bpf_map_create(map.type, map.name, map.key_size, map.value_size, map.max_entries, nullptr));
  if (!fd) {
    return bpf_failure(std::string("creating map '") + map.name + "'", errno);
  }
  if (::bpf_obj_pin(fd.get(), pin.c_str()) != 0) {
    return bpf_failure("pinning " + pin.string(), errno);
  }
  return fd;
}

Status attach_cgroup(bpf_program* program, int cgroup_fd, const std::filesystem::path& pin) {
  struct stat cgroup {};
  if (::fstat(cgroup_fd, &cgroup) != 0) {
    return bpf_failure("reading the cgroup to attach to", errno);
  }
  if (const LinkPtr held(::bpf_link__open(pin.c_str())); held != nullptr) {
    if (link_cgroup(held.get()) == cgroup.st_ino && ::bpf_link__update_program(held.get(), program) == 0) {
      return ok();
    }
    drop_pin(pin);
  }
  LinkPtr link(::bpf_program__attach_cgroup(program, cgroup_fd));
  if (link == nullptr) {
    return bpf_failure("attaching " + std::string(::bpf_program__name(program)) + " to the cgroup root",
                       errno);
  }
  if (::bpf_link__pin(link.get(), pin.c_str()) != 0) {
    return bpf_failure("pinning " + pin.string(), errno);
  }
  return ok();
}

Status attach_tracing(bpf_program* program, const std::filesystem::path& pin) {
  LinkPtr link(::bpf_program__attach(program));
  if (link == nullptr) {
    return bpf_failure("attaching " + std::string(::bpf_program__name(program)), errno);
  }
  drop_pin(fresh(pin));  // left by a ballastd that was killed between two steps
  if (::bpf_link__pin(link.get(), fresh(pin).c_str()) != 0) {
    return bpf_failure("pinning " + fresh(pin).string(), errno);
  }
  return ok();
}

Status promote_link(const std::filesystem::path& pin) {
  drop_pin(pin);
  if (std::rename(fresh(pin).c_str(), pin.c_str()) != 0) {
    return bpf_failure("renaming " + fresh(pin).string(), errno);
  }
  return ok();
}

void drop_pin(const std::filesystem::path& pin) {
  ::unlink(pin.c_str());
}

void drop_fresh(const std::filesystem::path& pin) {
  drop_pin(fresh(pin));
}

}  // namespace ballast::kernel
