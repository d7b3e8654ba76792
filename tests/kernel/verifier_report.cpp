// SPDX-License-Identifier: Apache-2.0
// ballast_verifier_report FOLDER: what the kernel's verifier walked to accept each of our programs, one line
// each: "PROGRAM INSTRUCTIONS". For those attached from the bpffs folder the kernel says so itself (5.16 and
// later); the others are loaded once more, alone, for the verifier's closing line. "PROGRAM 0" is one that
// the kernel refuses; the end of the verifier's reasons goes to stderr.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/unique_fd.h"
#include "cpu.skel.h"
#include "http.skel.h"
#include "tcp.skel.h"

namespace {

using ballast::UniqueFd;

constexpr std::uint32_t kLogReasons = 1;     // BPF_LOG_LEVEL1 of the kernel
constexpr std::uint32_t kLogStatistics = 4;  // BPF_LOG_STATS
constexpr std::size_t kExplained = 6000;     // bytes

struct ObjectDeleter {
  void operator()(bpf_object* object) const { ::bpf_object__close(object); }
};
using ObjectPtr = std::unique_ptr<bpf_object, ObjectDeleter>;

// The program behind a pinned link; zeros when it is no link.
bpf_prog_info program_of(const std::filesystem::path& pin) {
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

// "processed N insns (limit ...": N; 0 when the log does not say.
unsigned long processed(const char* log) {
  const char* line = std::strstr(log, "processed ");
  unsigned long count = 0;
  return line != nullptr && std::sscanf(line, "processed %lu insns", &count) == 1 ? count : 0;
}

// Loads one program of an object alone, with the verifier's log at `level` in `log`.
bool load_alone(const void* bytes, std::size_t size, const std::string& wanted, std::uint32_t level,
                std::vector<char>& log) {
  const ObjectPtr object(::bpf_object__open_mem(bytes, size, nullptr));
  if (object == nullptr) {
    return false;
  }
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object.get()) {
    const bool ours = wanted == ::bpf_program__name(program);
    ::bpf_program__set_autoload(program, ours);
    if (ours) {
      ::bpf_program__set_log_level(program, level);
      ::bpf_program__set_log_buf(program, log.data(), log.size());
    }
  }
  return ::bpf_object__load(object.get()) == 0;
}

void explain(const std::string& name, const std::vector<char>& log) {
  const std::string_view text(log.data(), ::strnlen(log.data(), log.size()));
  std::fprintf(stderr, "%s is refused:\n%s\n", name.c_str(),
               std::string(text.substr(text.size() - std::min(text.size(), kExplained))).c_str());
}

void report(const void* bytes, std::size_t size, const std::map<std::string, unsigned long>& told) {
  const ObjectPtr object(::bpf_object__open_mem(bytes, size, nullptr));
  bpf_program* program = nullptr;
  bpf_object__for_each_program(program, object.get()) {
    const std::string name = ::bpf_program__name(program);
    if (const auto known = told.find(name); known != told.end()) {
      std::printf("%s %lu\n", name.c_str(), known->second);
      continue;
    }
    std::vector<char> log(1U << 16);
    if (load_alone(bytes, size, name, kLogStatistics, log)) {
      std::printf("%s %lu\n", name.c_str(), processed(log.data()));
      continue;
    }
    std::printf("%s 0\n", name.c_str());
    log.assign(1U << 24, '\0');
    load_alone(bytes, size, name, kLogReasons, log);
    explain(name, log);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: ballast_verifier_report FOLDER\n");
    return 2;
  }
  ::libbpf_set_print([](libbpf_print_level, const char*, va_list) { return 0; });
  std::map<std::string, unsigned long> told;
  std::error_code none;  // a folder that is not there tells nothing
  for (const auto& entry : std::filesystem::directory_iterator(argv[1], none)) {
    const std::string pin = entry.path().filename().string();
    if (const auto info = program_of(entry.path()); pin.ends_with("_link") && info.verified_insns != 0) {
      told[pin.substr(0, pin.size() - 5)] = info.verified_insns;
    }
  }
  std::size_t size = 0;
  const void* http = http_bpf::elf_bytes(&size);
  report(http, size, told);
  const void* tcp = tcp_bpf::elf_bytes(&size);
  report(tcp, size, told);
  const void* cpu = cpu_bpf::elf_bytes(&size);
  report(cpu, size, told);
  return 0;
}
