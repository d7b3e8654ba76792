// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <bpf/bpf.h>
#include <sys/mount.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "agent/sample/maps.h"
#include "core/base/clock.h"
#include "core/base/file.h"
#include "core/base/unique_fd.h"

namespace ballast::ctl {

template <std::size_t N>
void set(char (&out)[N], const std::string& text) {
  std::strncpy(out, text.c_str(), N - 1);
}

/// Real maps as ballastd pins them, on a bpffs of the test's own, without any program.
class PinnedFolder {
 public:
  /// nullptr with the reason when this process may not make maps or mount.
  static std::unique_ptr<PinnedFolder> create(std::string& reason) {
    auto dir = TempDir::create(std::filesystem::temp_directory_path(), "ballast-ctl-");
    if (!dir) {
      reason = dir.error().message;
      return nullptr;
    }
    if (::mount("bpf", dir->path().c_str(), "bpf", 0, nullptr) != 0) {
      reason = std::string("mounting a bpffs: ") + std::strerror(errno);
      return nullptr;
    }
    std::unique_ptr<PinnedFolder> folder(new PinnedFolder(std::move(*dir)));
    return folder->make(reason) ? std::move(folder) : nullptr;
  }
  ~PinnedFolder() { ::umount2(dir_.path().c_str(), MNT_DETACH); }

  const std::filesystem::path& path() const { return dir_.path(); }
  sample::PinnedMaps maps() const { return std::move(sample::PinnedMaps::open(path())).value(); }

  template <typename Key, typename Value>
  bool put(const char* map, const Key& key, const Value& value) const {
    const UniqueFd fd(::bpf_obj_get((path() / map).c_str()));
    return ::bpf_map_update_elem(fd.get(), &key, &value, BPF_ANY) == 0;
  }

 private:
  explicit PinnedFolder(TempDir dir) : dir_(std::move(dir)) {}

  bool make(std::string& reason) const {
    struct Spec {
      const char* name;
      bpf_map_type type;
      std::uint32_t key, value, entries;
    };
    const Spec specs[] = {
        {BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_meta), 1},
        {BALLAST_MAP_REQUESTS, BPF_MAP_TYPE_HASH, sizeof(ballast_request_key), sizeof(ballast_request_value),
         16},
        {BALLAST_MAP_CONNECTIONS, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_connection_value), 16},
        {BALLAST_MAP_CPU, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_cpu_value), 16},
        {BALLAST_MAP_RUNNING, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_running_value), 16},
        {BALLAST_MAP_LOSS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_loss_value), BALLAST_LOSS_REASONS},
        {BALLAST_MAP_IDENTITY, BPF_MAP_TYPE_HASH, 8, sizeof(ballast_identity_value), 16},
        {BALLAST_MAP_DECISIONS, BPF_MAP_TYPE_HASH, sizeof(ballast_decision_key),
         sizeof(ballast_decision_value), 16},
        {BALLAST_MAP_CALLS, BPF_MAP_TYPE_HASH, sizeof(ballast_call_key), sizeof(ballast_call_value), 16},
        {BALLAST_MAP_COVERAGE, BPF_MAP_TYPE_HASH, sizeof(ballast_coverage_key),
         sizeof(ballast_coverage_value), 16},
        {BALLAST_MAP_SPANS, BPF_MAP_TYPE_PERCPU_ARRAY, 4, sizeof(ballast_span_value), BALLAST_SPAN_SLOTS},
        {BALLAST_MAP_FEATURES, BPF_MAP_TYPE_ARRAY, 4, sizeof(ballast_feature_value), BALLAST_MAX_FEATURES},
    };
    for (const Spec& spec : specs) {
      const UniqueFd fd(::bpf_map_create(spec.type, spec.name, spec.key, spec.value, spec.entries, nullptr));
      if (!fd || ::bpf_obj_pin(fd.get(), (path() / spec.name).c_str()) != 0) {
        reason = std::string("making map ") + spec.name + ": " + std::strerror(errno);
        return false;
      }
    }
    ballast_meta meta{};
    meta.magic = BALLAST_WIRE_MAGIC;
    meta.wire_version = BALLAST_WIRE_VERSION;
    meta.flags = BALLAST_META_HTTP | BALLAST_META_TCP | BALLAST_META_CPU;
    return put(BALLAST_MAP_META, std::uint32_t{0}, meta);
  }

  TempDir dir_;
};

}  // namespace ballast::ctl
