// SPDX-License-Identifier: Apache-2.0
// What the compiled programs may not hold: instructions that the oldest kernel of the README refuses.
// Compilers make them of innocent source (an atomic addition of 0 becomes an atomic OR), and a newer kernel
// never tells.
#include <gtest/gtest.h>
#include <libelf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <set>
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

struct Function {
  std::size_t section = 0;
  std::uint64_t begin = 0;
  std::uint64_t end = 0;
  int stack = 0;
  std::set<std::string> calls;
};

// The lowest byte of the frame that an instruction touches or points at; 0 when it does neither.
int frame_use(const bpf_insn& one, const bpf_insn* before) {
  const auto kind = BPF_CLASS(one.code);
  const bool stores = (kind == BPF_ST || kind == BPF_STX) && one.dst_reg == BPF_REG_10;
  if (stores || (kind == BPF_LDX && one.src_reg == BPF_REG_10)) {
    return -one.off;
  }
  const bool points = before != nullptr && before->code == (BPF_ALU64 | BPF_MOV | BPF_X) &&
                      before->src_reg == BPF_REG_10 && before->dst_reg == one.dst_reg;
  return points && one.code == (BPF_ALU64 | BPF_ADD | BPF_K) && one.imm < 0 ? -one.imm : 0;
}

// Every function of an object by name, with what it calls.
std::map<std::string, Function> functions(const Object& object) {
  std::map<std::string, Function> all;
  std::vector<char> copy(static_cast<const char*>(object.bytes),
                         static_cast<const char*>(object.bytes) + object.size);
  ::elf_version(EV_CURRENT);
  Elf* elf = ::elf_memory(copy.data(), copy.size());
  std::vector<Elf64_Sym> symbols;
  std::vector<std::string> names;
  const auto each = [elf](auto&& visit) {
    for (Elf_Scn* section = ::elf_nextscn(elf, nullptr); section != nullptr;
         section = ::elf_nextscn(elf, section)) {
      visit(section, ::elf64_getshdr(section), ::elf_rawdata(section, nullptr));
    }
  };
  each([&](Elf_Scn*, const Elf64_Shdr* header, const Elf_Data* data) {
    if (header->sh_type != SHT_SYMTAB) {
      return;
    }
    symbols.resize(data->d_size / sizeof(Elf64_Sym));
    std::memcpy(symbols.data(), data->d_buf, symbols.size() * sizeof(Elf64_Sym));
    for (const Elf64_Sym& symbol : symbols) {
      names.emplace_back(::elf_strptr(elf, header->sh_link, symbol.st_name));
      if (ELF64_ST_TYPE(symbol.st_info) == STT_FUNC) {
        all[names.back()] = {symbol.st_shndx, symbol.st_value, symbol.st_value + symbol.st_size, 0, {}};
      }
    }
  });
  each([&](Elf_Scn* section, const Elf64_Shdr* header, const Elf_Data* data) {
    if ((header->sh_flags & SHF_EXECINSTR) == 0) {
      return;
    }
    std::vector<bpf_insn> code(data->d_size / sizeof(bpf_insn));
    std::memcpy(code.data(), data->d_buf, code.size() * sizeof(bpf_insn));
    for (auto& [name, function] : all) {
      for (std::size_t i = function.begin / sizeof(bpf_insn);
           function.section == ::elf_ndxscn(section) && i < function.end / sizeof(bpf_insn); ++i) {
        function.stack = std::max(function.stack, frame_use(code[i], i > 0 ? &code[i - 1] : nullptr));
      }
    }
  });
  each([&](Elf_Scn*, const Elf64_Shdr* header, const Elf_Data* data) {
    if (header->sh_type != SHT_REL) {
      return;
    }
    std::vector<Elf64_Rel> relocations(data->d_size / sizeof(Elf64_Rel));
    std::memcpy(relocations.data(), data->d_buf, relocations.size() * sizeof(Elf64_Rel));
    for (const Elf64_Rel& one : relocations) {
      for (auto& [name, function] : all) {
        if (function.section == header->sh_info && one.r_offset >= function.begin &&
            one.r_offset < function.end && all.contains(names[ELF64_R_SYM(one.r_info)])) {
          function.calls.insert(names[ELF64_R_SYM(one.r_info)]);
        }
      }
    }
  });
  ::elf_end(elf);
  return all;
}

struct Chain {
  int stack = 0;
  int frames = 0;
  std::string names;
};

Chain longest(const std::map<std::string, Function>& all, const std::string& name) {
  constexpr int kRound = 32;  // as kernels before 6.12 do
  Chain below;
  for (const std::string& callee : all.at(name).calls) {
    const Chain chain = longest(all, callee);
    below = chain.stack > below.stack ? chain : below;
  }
  return {(std::max(all.at(name).stack, 1) + kRound - 1) / kRound * kRound + below.stack, below.frames + 1,
          name + " " + below.names};
}

// The kernel of this machine may count less: see check_max_stack_depth() of its verifier.
TEST(Instructions, TheLongestChainOfCallsFitsTheStack) {
  for (const Object& object : objects()) {
    const auto all = functions(object);
    ASSERT_FALSE(all.empty()) << object.name;
    for (const auto& [name, function] : all) {
      const Chain chain = longest(all, name);
      EXPECT_LE(chain.stack, 512) << chain.names;
      EXPECT_LE(chain.frames, 8) << chain.names;
    }
  }
  EXPECT_GT(longest(functions(objects().front()), "http_ingress").frames, 3) << "calls are found";
}

}  // namespace
}  // namespace ballast::testing
