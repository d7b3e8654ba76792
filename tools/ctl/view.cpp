// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/view.h"

#include <sys/stat.h>

#include <array>
#include <cerrno>

#include "core/base/cgroup_root.h"

namespace ballast::ctl {

Result<View> open_view(const std::filesystem::path& bpffs) {
  struct stat info {};
  if (::stat(bpffs.c_str(), &info) != 0) {
    if (errno == EACCES) {
      return Error::privilege(
          bpffs.string() + " may not be read: run as root, or as the user that runs ballastd with CAP_BPF");
    }
    return Error::failed("there is no folder " + bpffs.string() +
                         ": start ballastd, or name its folder with --bpffs");
  }
  auto maps = sample::PinnedMaps::open(bpffs);
  if (!maps) {
    return maps.error();
  }
  auto identity = maps->identity();
  if (!identity) {
    return identity.error();
  }
  // Without a cgroup v2 mount nothing but the identity map can name a cgroup.
  auto root = find_cgroup_root();
  return View{bpffs, std::move(*maps), Names(std::move(*identity), root ? *root : std::filesystem::path()),
              SystemClock().now()};
}

Json name_json(sample::CgroupId id, const Name& name) {
  return {{"cgroup_id", id},      {"cgroup", name.cgroup},       {"pod", name.pod},
          {"namespace", name.ns}, {"container", name.container}, {"service", name.service}};
}

std::string label(const Name& name) {
  return name.pod.empty() ? name.cgroup : name.container.empty() ? name.pod : name.pod + "/" + name.container;
}

std::string service_label(const Name& name) {
  return name.service.empty() ? "-" : name.ns + "/" + name.service;
}

const char* role_name(std::uint8_t role) {
  return role == BALLAST_ROLE_CLIENT ? "client" : role == BALLAST_ROLE_SELF ? "self" : "server";
}

const char* protocol_name(std::uint8_t protocol) {
#define BALLAST_PROTOCOL_NAME(protocol, name) name,
  static constexpr std::array kNames = {BALLAST_PROTOCOL_LIST(BALLAST_PROTOCOL_NAME)};
#undef BALLAST_PROTOCOL_NAME
  return protocol < kNames.size() ? kNames[protocol] : "unknown";
}

const char* mode_name(std::uint32_t mode) {
  switch (mode) {
    case 1:
      return "shadow";
    case 2:
      return "active";
    default:
      return "off";
  }
}

}  // namespace ballast::ctl
