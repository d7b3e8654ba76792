// SPDX-License-Identifier: Apache-2.0
#include "agent/sample/cgroup_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <sstream>
#include <string_view>

#include "core/base/cgroup_root.h"
#include "core/base/file.h"

namespace ballast::sample {

namespace {

namespace fs = std::filesystem;

constexpr double kUnlimited = std::numeric_limits<double>::infinity();
/// cgroup v1 says "no limit" with the largest multiple of a page; nothing real comes near.
constexpr std::uint64_t kV1NoMemoryLimit = 1ULL << 62;

std::optional<std::uint64_t> parse_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
  return parsed.ec == std::errc{} ? std::optional(value) : std::nullopt;
}

/// The number after `key` in "key value" lines.
std::optional<std::uint64_t> field(std::string_view text, std::string_view key) {
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    const std::string_view line = text.substr(at, end - at);
    if (line.size() > key.size() && line.substr(0, key.size()) == key && line[key.size()] == ' ') {
      return parse_number(line.substr(key.size() + 1));
    }
    at = end + 1;
  }
  return std::nullopt;
}

std::optional<std::uint64_t> in_ns(std::optional<std::uint64_t> us) {
  return us ? std::optional(*us * 1000) : std::nullopt;
}

/// A kernel file from its start, through `fd`, which is opened (again) when it has to be.
std::string_view read_kept(UniqueFd& fd, const fs::path& path, char* buffer, std::size_t size) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (!fd) {
      fd.reset(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
      if (!fd) {
        return {};
      }
    }
    const ssize_t n = ::pread(fd.get(), buffer, size, 0);
    if (n >= 0) {
      return {buffer, static_cast<std::size_t>(n)};
    }
    fd.reset();  // ENODEV: the cgroup was removed, and perhaps made anew
  }
  return {};
}

fs::path below(const fs::path& root, const std::string& path) {
  return fs::path(root.string() + path);
}

/// Calls `visit` with the path and with each of its ancestors, the root last (as "").
template <typename Visit>
void upwards(std::string path, Visit&& visit) {
  while (!path.empty() && path.back() == '/') {
    path.pop_back();
  }
  while (true) {
    visit(path);
    if (path.empty()) {
      return;
    }
    path.erase(path.rfind('/') == std::string::npos ? 0 : path.rfind('/'));
  }
}

}  // namespace

double count_cpu_list(const std::string& list) {
  double cpus = 0;
  std::istringstream ranges(list);
  for (std::string range; std::getline(ranges, range, ',');) {
    const auto first = parse_number(range);
    if (!first) {
      return 0;
    }
    const std::size_t dash = range.find('-');
    const auto last =
        dash == std::string::npos ? first : parse_number(std::string_view(range).substr(dash + 1));
    if (!last || *last < *first) {
      return 0;
    }
    cpus += static_cast<double>(*last - *first + 1);
  }
  return cpus;
}

Result<CgroupRoots> CgroupRoots::discover(const fs::path& given, const fs::path& mountinfo) {
  auto v2 = given.empty() ? find_cgroup_root(mountinfo) : Result<fs::path>(given);
  if (!v2) {
    return v2.error();
  }
  CgroupRoots roots;
  roots.v2 = std::move(*v2);
  roots.online_cpus = static_cast<double>(std::max(1L, ::sysconf(_SC_NPROCESSORS_ONLN)));
  const auto text = read_file(mountinfo);
  if (!text) {
    return text.error();
  }
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t dash = line.find(" - cgroup ");
    if (dash == std::string::npos) {
      continue;
    }
    std::istringstream head(line.substr(0, dash));
    std::string skip;
    std::string target;
    head >> skip >> skip >> skip >> skip >> target;
    const std::string options = "," + line.substr(line.rfind(' ') + 1) + ",";
    const auto take = [&](const char* controller, fs::path& root) {
      const bool beside = fs::path(target).parent_path() == roots.v2.parent_path();
      if ((root.empty() || beside) &&
          options.find(std::string(",") + controller + ",") != std::string::npos) {
        root = target;
      }
    };
    take("cpu", roots.v1_cpu);
    take("cpuset", roots.v1_cpuset);
    take("memory", roots.v1_memory);
  }
  return roots;
}

CgroupUsage CgroupFiles::usage(const std::string& path) {
  char buffer[4096];
  CgroupUsage usage;
  Open& open = open_[path];
  // On v2 every cgroup has this file, wherever the CPU controller is; only the quota's part is the
  // controller's.
  auto stat = read_kept(open.usage_cpu, below(roots_.v2, path) / "cpu.stat", buffer, sizeof buffer);
  usage.cpu_ns = in_ns(field(stat, "usage_usec"));
  if (roots_.v1_cpu.empty()) {
    usage.throttled_ns = in_ns(field(stat, "throttled_usec"));
  } else {
    stat = read_kept(open.usage_cpu_v1, below(roots_.v1_cpu, path) / "cpu.stat", buffer, sizeof buffer);
    usage.throttled_ns = field(stat, "throttled_time");
  }
  const bool memory_v1 = !roots_.v1_memory.empty();
  const auto memory = memory_v1 ? below(roots_.v1_memory, path) / "memory.usage_in_bytes"
                                : below(roots_.v2, path) / "memory.current";
  usage.memory_bytes = parse_number(read_kept(open.usage_memory, memory, buffer, sizeof buffer)).value_or(0);
  const auto quota = roots_.v1_cpu.empty() ? below(roots_.v2, path) / "cpu.max"
                                           : below(roots_.v1_cpu, path) / "cpu.cfs_quota_us";
  usage.quota = read_kept(open.quota, quota, buffer, sizeof buffer);
  return usage;
}

// A level without the file (the root, or a controller that is not switched on) limits nothing.
double CgroupFiles::quota_cores(const std::string& path) const {
  if (!roots_.v1_cpu.empty()) {
    const auto quota = read_file(below(roots_.v1_cpu, path) / "cpu.cfs_quota_us");
    const auto period = read_number(below(roots_.v1_cpu, path) / "cpu.cfs_period_us");
    const auto us = quota ? parse_number(*quota) : std::nullopt;  // "-1": none
    return us && period.value_or(0) > 0 ? static_cast<double>(*us) / static_cast<double>(*period)
                                        : kUnlimited;
  }
  const auto text = read_file(below(roots_.v2, path) / "cpu.max");
  if (!text) {
    return kUnlimited;
  }
  const std::size_t space = text->find(' ');
  const auto us = parse_number(*text);  // "max": none
  const auto period =
      space == std::string::npos ? std::nullopt : parse_number(std::string_view(*text).substr(space + 1));
  return us && period.value_or(0) > 0 ? static_cast<double>(*us) / static_cast<double>(*period) : kUnlimited;
}

double CgroupFiles::cpuset_cores(const std::string& path) const {
  const auto list = roots_.v1_cpuset.empty()
                        ? read_file(below(roots_.v2, path) / "cpuset.cpus.effective")
                        : read_file(below(roots_.v1_cpuset, path) / "cpuset.effective_cpus");
  const double cpus = list ? count_cpu_list(*list) : 0;
  return cpus > 0 ? cpus : kUnlimited;
}

std::uint64_t CgroupFiles::memory_limit(const std::string& path) const {
  const auto limit = roots_.v1_memory.empty()
                         ? read_number(below(roots_.v2, path) / "memory.max")
                         : read_number(below(roots_.v1_memory, path) / "memory.limit_in_bytes");
  return limit && *limit < kV1NoMemoryLimit ? *limit : 0;
}

CgroupLimits CgroupFiles::limits(const std::string& path) {
  CgroupLimits limits;
  std::error_code ignored;
  // On v1 a cgroup that has no folder in the cpu hierarchy is limited by a place we do not know.
  if (fs::is_directory(below(roots_.v1_cpu.empty() ? roots_.v2 : roots_.v1_cpu, path), ignored)) {
    limits.cpu_cores = std::min(roots_.online_cpus, cpuset_cores(path));
    upwards(path, [&](const std::string& level) {
      limits.cpu_cores = std::min(limits.cpu_cores, quota_cores(level));
    });
  }
  upwards(path, [&](const std::string& level) {
    const std::uint64_t limit = memory_limit(level);
    if (limit != 0 && (limits.memory_bytes == 0 || limit < limits.memory_bytes)) {
      limits.memory_bytes = limit;
    }
  });
  return limits;
}

Pressures CgroupFiles::pressures(const std::string& path) const {
  return read_pressures(below(roots_.v2, path));
}

void CgroupFiles::forget(const std::string& path) {
  open_.erase(path);
}

}  // namespace ballast::sample
