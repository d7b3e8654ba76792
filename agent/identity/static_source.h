// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <sys/stat.h>

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "agent/identity/identity.h"
#include "core/base/result.h"

namespace ballast::identity {

/// Pods from a YAML file (agent/identity/static_file.h). A cgroup that does not exist yet is
/// warned of once and found when it appears; one that has gone has cgroup_id 0. The file is read
/// anew when it changes; a bad new version is logged and the one in force stays.
class StaticSource final : public IdentitySource {
 public:
  /// `cgroup_root` is the v2 mount. Errors: Error::usage, for a file that cannot be read too.
  static Result<std::unique_ptr<StaticSource>> open(const std::filesystem::path& file,
                                                    const std::filesystem::path& cgroup_root);
  /// One stat a local entry and one of the file. Order of the file.
  const std::vector<Pod>& pods() override;
  /// Why the file as it is now was not taken over.
  std::string trouble() const override { return refused_; }

 private:
  /// Which version of the file was read: mtime alone misses two writes within its grain.
  struct Version {
    timespec modified{};
    ino_t inode = 0;
    off_t size = -1;
    bool operator==(const Version& other) const;
  };

  StaticSource(std::filesystem::path file, std::filesystem::path cgroup_root);
  Version version() const;
  Status load();
  void reload_if_changed();
  void refresh_ids();

  std::filesystem::path file_;
  std::filesystem::path cgroup_root_;
  Version version_;
  std::string refused_;
  std::vector<Pod> pods_;
  std::vector<std::string> folders_;  ///< by pod; empty for one that is not local
  std::vector<bool> warned_;          ///< by pod: its missing cgroup was logged
};

}  // namespace ballast::identity
