// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/host_features.h"

#include <algorithm>
#include <iterator>
#include <sstream>
#include <string>

#include "core/base/file.h"

namespace ballast::sample {

namespace {

namespace fs = std::filesystem;

Feature controller(const CgroupRoots& roots, const char* name, const fs::path& v1, const std::string& what) {
  const std::string feature = std::string("cgroup v2 ") + name + " controller";
  if (!v1.empty()) {
    return {feature, false, what + " from cgroup v1, " + v1.string()};
  }
  const auto text = read_file(roots.v2 / "cgroup.controllers");
  std::istringstream names(text ? *text : "");
  if (std::find(std::istream_iterator<std::string>(names), {}, name) ==
      std::istream_iterator<std::string>()) {
    return {feature, false, what + " not known: no " + name + " controller on v1 either"};
  }
  return {feature, true, ""};
}

Feature socket_table(const Result<SocketTable>& sockets) {
  const char* name = "socket table (sock_diag)";
  const std::string instead = "open connections by our own count alone; ";
  if (!sockets) {
    return {name, false, instead + sockets.error().message};
  }
  if (sockets->cgroups.empty() && sockets->without_cgroup > 0) {
    return {name, false, instead + "the kernel does not tell a socket's cgroup"};
  }
  return {name, true, ""};
}

}  // namespace

std::vector<Feature> host_features(const CgroupRoots& roots, const Result<SocketTable>& sockets,
                                   const fs::path& pressure) {
  std::error_code ignored;
  const bool pressed = fs::exists(pressure / "cpu", ignored);
  return {
      controller(roots, "cpu", roots.v1_cpu, "quotas and throttling"),
      controller(roots, "memory", roots.v1_memory, "memory"), socket_table(sockets),
      Feature{"pressure (PSI)", pressed, pressed ? "" : "not reported; psi=1 on the kernel's command line"}};
}

Result<SocketTable> read_sockets() {
  auto door = SockDiag::open();
  return door ? door->read() : Result<SocketTable>(door.error());
}

}  // namespace ballast::sample
