// SPDX-License-Identifier: Apache-2.0
#include "tools/bench/telemetry/empty_pair.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/base/unique_fd.h"

namespace ballast::bench {

namespace {

Error refused(const std::string& what) {
  return Error::privilege(what + ": " + std::strerror(errno) + " (needs CAP_BPF and CAP_NET_ADMIN)");
}

Result<UniqueFd> attach_pass(int cgroup, bpf_attach_type type) {
  const std::array<bpf_insn, 2> pass = {{
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  }};
  bpf_prog_load_opts options{};
  options.sz = sizeof options;
  options.expected_attach_type = type;
  const UniqueFd program(
      ::bpf_prog_load(BPF_PROG_TYPE_CGROUP_SKB, "ballast_pass", "GPL", pass.data(), pass.size(), &options));
  if (!program) {
    return refused("loading the empty program");
  }
  UniqueFd link(::bpf_link_create(program.get(), cgroup, type, nullptr));
  if (!link) {
    return refused("attaching the empty program");
  }
  return link;
}

}  // namespace

Status hold_empty_pair(const std::string& cgroup_root) {
  const UniqueFd cgroup(::open(cgroup_root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!cgroup) {
    return Error::usage("opening " + cgroup_root + ": " + std::strerror(errno));
  }
  const auto ingress = attach_pass(cgroup.get(), BPF_CGROUP_INET_INGRESS);
  if (!ingress) {
    return ingress.error();
  }
  const auto egress = attach_pass(cgroup.get(), BPF_CGROUP_INET_EGRESS);
  if (!egress) {
    return egress.error();
  }
  std::puts("ready");
  std::fflush(stdout);
  char byte = 0;
  while (::read(STDIN_FILENO, &byte, 1) > 0) {
  }
  return ok();
}

}  // namespace ballast::bench
