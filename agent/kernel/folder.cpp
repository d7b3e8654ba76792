// SPDX-License-Identifier: Apache-2.0
#include "agent/kernel/folder.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string>

#include "agent/kernel/object.h"
#include "bpf/wire/wire.h"
#include "core/base/log.h"

namespace ballast::kernel {

namespace {

namespace fs = std::filesystem;

constexpr const char* kSystemBpffs = "/sys/fs/bpf";

bool on_bpffs(const fs::path& path) {
  struct statfs info {};
  return ::statfs(path.c_str(), &info) == 0 && static_cast<unsigned long>(info.f_type) == BPF_FS_MAGIC;
}

bool is_below(const fs::path& path, const fs::path& parent) {
  const auto normal = path.lexically_normal();
  const auto [end, ignored] = std::mismatch(parent.begin(), parent.end(), normal.begin(), normal.end());
  return end == parent.end();
}

Status make_folders(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error) {
    return Error::failed("creating " + path.string() + ": " + error.message());
  }
  return ok();
}

Status mount_bpffs(const fs::path& path) {
  const fs::path target = is_below(path, kSystemBpffs) ? fs::path(kSystemBpffs) : path;
  if (target == path) {
    // What a mount hides is gone for everybody.
    if (std::error_code ignored; fs::exists(path, ignored) && !fs::is_empty(path, ignored)) {
      return Error::usage(
          "--bpffs " + path.string() +
          ": there are other things in it, which a bpffs mounted there would hide; name a folder "
          "that is empty or new, or one below a bpffs, like /sys/fs/bpf/ballast");
    }
    if (Status made = make_folders(path); !made) {
      return made;
    }
  }
  if (::mount("bpf", target.c_str(), "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") != 0) {
    const int error = errno;
    if (target == path) {
      ::rmdir(path.c_str());
    }
    const std::string what = "mounting a bpffs on " + target.string() + ": " + std::strerror(error);
    if (error == EPERM || error == EACCES) {
      return Error::privilege(what + " (needs CAP_SYS_ADMIN; mount it beforehand: mount -t bpf bpf " +
                              target.string() + ", and make " + path.string() + " writable for ballastd)");
    }
    return Error::failed(what);
  }
  spdlog::info("bpffs mounted path={}", target.string());
  return ok();
}

fs::path nearest_existing(fs::path path) {
  std::error_code ignored;
  while (!path.empty() && path != path.root_path() && !fs::exists(path, ignored)) {
    path = path.parent_path();
  }
  return path;
}

// The pid in the meta map of the owner; 0 when it has not written it yet.
std::uint32_t owner_pid(const fs::path& folder) {
  UniqueFd meta(::bpf_obj_get((folder / BALLAST_MAP_META).c_str()));
  const std::uint32_t key = 0;
  ballast_meta value{};
  if (!meta || !has_shape(meta.get(), {BALLAST_MAP_META, BPF_MAP_TYPE_ARRAY, sizeof key, sizeof value, 1}) ||
      ::bpf_map_lookup_elem(meta.get(), &key, &value) != 0) {
    return 0;
  }
  return value.pid;
}

Result<UniqueFd> lock_folder(const fs::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!fd) {
    const int error = errno;
    const std::string what = "opening " + path.string() + ": " + std::strerror(error);
    return error == EACCES ? Error::privilege(what) : Error::failed(what);
  }
  if (::flock(fd.get(), LOCK_EX | LOCK_NB) != 0) {
    if (errno != EWOULDBLOCK) {
      return Error::failed("locking " + path.string() + ": " + std::strerror(errno));
    }
    const std::uint32_t pid = owner_pid(path);
    return Error::failed(path.string() + " is held by another ballastd" +
                         (pid != 0 ? " (pid " + std::to_string(pid) + ")" : "") +
                         ": stop it, or use another --bpffs");
  }
  return fd;
}

}  // namespace

Result<PinFolder> PinFolder::acquire(const fs::path& path) {
  if (!on_bpffs(nearest_existing(path))) {
    if (Status mounted = mount_bpffs(path); !mounted) {
      return mounted.error();
    }
  }
  if (Status made = make_folders(path); !made) {
    return made.error();
  }
  return open_existing(path);
}

Result<PinFolder> PinFolder::open_existing(const fs::path& path) {
  if (!on_bpffs(path)) {
    return Error::failed(path.string() + " is not a folder of a bpffs: nothing of Ballast is pinned there");
  }
  struct stat info {};
  if (::stat(path.c_str(), &info) == 0 &&
      ((info.st_uid != 0 && info.st_uid != ::geteuid()) || (info.st_mode & S_IWOTH) != 0)) {
    return Error::failed(path.string() + " is user " + std::to_string(info.st_uid) + "'s" +
                         ((info.st_mode & S_IWOTH) != 0 ? ", and anybody may write there" : "") +
                         ": what is pinned there is not believed; remove it, or use another --bpffs");
  }
  auto lock = lock_folder(path);
  if (!lock) {
    return lock.error();
  }
  // Links are renewed one by one: where none can be, those in force stay as they are.
  if (::access(path.c_str(), W_OK) != 0 && errno == EROFS) {
    return Error::failed("writing to " + path.string() + ": " + std::strerror(EROFS));
  }
  PinFolder folder;
  folder.path_ = path;
  folder.lock_ = std::move(*lock);
  return folder;
}

Status PinFolder::clear() const {
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(path_, error)) {
    std::error_code ignored;
    if (!entry.is_directory(ignored) && ::unlink(entry.path().c_str()) != 0 && errno != EPERM) {
      return Error::failed("removing " + entry.path().string() + ": " + std::strerror(errno));
    }
  }
  if (error) {
    return Error::failed("reading " + path_.string() + ": " + error.message());
  }
  return ok();
}

Status PinFolder::remove_all() {
  if (Status cleared = clear(); !cleared) {
    return cleared;
  }
  struct stat own {};
  struct stat parent {};
  const bool mounted_here = ::stat(path_.c_str(), &own) == 0 &&
                            ::stat(path_.parent_path().c_str(), &parent) == 0 && own.st_dev != parent.st_dev;
  lock_.reset();
  // A folder that somebody else mounted for us, without the right to unmount it, stays, empty.
  if (mounted_here && path_ != kSystemBpffs) {
    ::umount2(path_.c_str(), MNT_DETACH);
  }
  if (path_ != kSystemBpffs) {
    ::rmdir(path_.c_str());
  }
  return ok();
}

}  // namespace ballast::kernel
