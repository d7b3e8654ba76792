// SPDX-License-Identifier: Apache-2.0
// What the compiled programs may not hold: instructions that the oldest kernel of the README refuses.
// Compilers make them of innocent source (an atomic addition of 0 becomes an atomic OR), and a newer kernel
// never tells.
#include <gtest/gtest.h>
#include <libelf.h>
#include <linux/bpf.h>

#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include "cpu.skel.h"
#include "http.skel.h"
#include "tcp.skel.h"

namespace ballast::testing {
namespace {

struct Object {
  const char* name;
  const void* bytes;
  std::size_t size;
};

std::vector<Object> objects() {
  std::vector<Object> all;
  std::size_t size = 0;
  const void* bytes = http_bpf::elf_bytes(&size);
  all.push_back({"http", bytes, size});
  bytes = tcp_bpf::elf_bytes(&size);
  all.push_back({"tcp", bytes, size});
  bytes = cpu_bpf::elf_bytes(&size);
  all.push_back({"cpu", bytes, size});
  return all;
}

// Of every executable section.
std::vector<bpf_insn> instructions(const Object& object) {
  std::vector<bpf_insn> all;
  std::vector<char> copy(static_cast<const char*>(object.bytes),
                         static_cast<const char*>(object.bytes) + object.size);
  ::elf_version(EV_CURRENT);
  Elf* elf = ::elf_memory(copy.data(), copy.size());
  for (Elf_Scn* section = ::elf_nextscn(elf, nullptr); section != nullptr;
       section = ::elf_nextscn(elf, section)) {
    const Elf64_Shdr* header = ::elf64_getshdr(section);
    const Elf_Data* data = ::elf_rawdata(section, nullptr);
    if (header == nullptr || data == nullptr || (header->sh_flags & SHF_EXECINSTR) == 0) {
      continue;
    }
    const std::size_t count = data->d_size / sizeof(bpf_insn);
    const std::size_t before = all.size();
    all.resize(before + count);
    std::memcpy(all.data() + before, data->d_buf, count * sizeof(bpf_insn));
  }
  ::elf_end(elf);
  return all;
}

// Linux 5.10 knows one atomic operation, the addition that gives nothing back.
TEST(Instructions, TheOnlyAtomicOperationIsTheAddition) {
  for (const Object& object : objects()) {
    const auto code = instructions(object);
    ASSERT_GT(code.size(), 20U) << object.name;
    int additions = 0;
    for (std::size_t i = 0; i < code.size(); ++i) {
      if (BPF_CLASS(code[i].code) != BPF_STX || (code[i].code & 0xe0) != BPF_ATOMIC) {
        continue;
      }
      EXPECT_EQ(code[i].imm, BPF_ADD)
          << object.name << ", instruction " << i << " of its executable sections";
      ++additions;
    }
    EXPECT_GT(additions, 0) << object.name;
  }
}

}  // namespace
}  // namespace ballast::testing
