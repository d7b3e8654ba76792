// SPDX-License-Identifier: Apache-2.0
// What the verifier walked to accept each program, against its limit: a program that comes near it
// here is refused by another kernel's verifier.
#include <bpf/bpf.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <filesystem>
#include <string>

#include "core/base/unique_fd.h"
#include "live.h"

namespace ballast::testing {
namespace {

constexpr std::uint32_t kLimit = 1'000'000;  // BPF_COMPLEXITY_LIMIT_INSNS of the kernel
constexpr std::uint32_t kOurLimit = kLimit / 10 * 8;

/// The parameter is span_every: what an option leaves out, the verifier does not walk.
class Verifier : public LiveTest, public ::testing::WithParamInterface<std::uint32_t> {
 protected:
  Verifier() { span_every_ = GetParam(); }

  // The program behind a pinned link; zeros when it is no link.
  static bpf_prog_info program(const std::filesystem::path& pin) {
    bpf_prog_info info{};
    std::uint32_t size = sizeof info;
    bpf_link_info link{};
    std::uint32_t link_size = sizeof link;
    const UniqueFd held(::bpf_obj_get(pin.c_str()));
    if (!held || ::bpf_obj_get_info_by_fd(held.get(), &link, &link_size) != 0) {
      return {};
    }
    const UniqueFd fd(::bpf_prog_get_fd_by_id(link.prog_id));
    return fd && ::bpf_obj_get_info_by_fd(fd.get(), &info, &size) == 0 ? info : bpf_prog_info{};
  }
};

TEST_P(Verifier, EveryProgramKeepsItsDistance) {
  int programs = 0;
  std::printf("%-20s %16s %12s %10s\n", "program", "verified_insns", "of limit", "jited");
  for (const auto& entry : std::filesystem::directory_iterator(bpffs_)) {
    const std::string name = entry.path().filename().string();
    if (!name.ends_with("_link")) {
      continue;
    }
    const auto info = program(entry.path());
    ASSERT_NE(info.id, 0U) << name;
    if (info.verified_insns == 0) {
      GTEST_SKIP() << "this kernel does not tell verified_insns (before 5.16)";
    }
    std::printf("%-20s %16u %11.1f%% %10u\n", name.substr(0, name.size() - 5).c_str(), info.verified_insns,
                100.0 * info.verified_insns / kLimit, info.jited_prog_len);
    EXPECT_LE(info.verified_insns, kOurLimit) << name;
    ++programs;
  }
  EXPECT_GE(programs, 7);
}

INSTANTIATE_TEST_SUITE_P(Spans, Verifier, ::testing::Values(0U, 64U),
                         [](const auto& parameter) { return parameter.param == 0 ? "Off" : "On"; });

}  // namespace
}  // namespace ballast::testing
