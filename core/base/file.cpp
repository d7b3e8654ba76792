// SPDX-License-Identifier: Apache-2.0
#include "core/base/file.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cerrno>
#include <charconv>
#include <cstring>

#include "core/base/unique_fd.h"

namespace ballast {

namespace {

Error os_error(const std::string& what, const std::filesystem::path& path) {
  return Error::failed(what + " " + path.string() + ": " + std::strerror(errno));
}

Status write_all(int fd, std::string_view bytes, const std::filesystem::path& path) {
  while (!bytes.empty()) {
    const ssize_t n = ::write(fd, bytes.data(), bytes.size());
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      return os_error("writing", path);
    }
    bytes.remove_prefix(static_cast<std::size_t>(n));
  }
  return ok();
}

}  // namespace

Result<std::string> read_file(const std::filesystem::path& path) {
  UniqueFd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd) {
    return os_error("opening", path);
  }
  std::string bytes;
  char buffer[16384];
  while (true) {
    const ssize_t n = ::read(fd.get(), buffer, sizeof buffer);
    if (n < 0) {
      if (errno == EINTR) {
        continue;
      }
      return os_error("reading", path);
    }
    if (n == 0) {
      return bytes;
    }
    bytes.append(buffer, static_cast<std::size_t>(n));
  }
}

Status write_file_atomic(const std::filesystem::path& path, std::string_view bytes) {
  if (struct stat there{}; ::lstat(path.c_str(), &there) == 0 && !S_ISREG(there.st_mode)) {
    const UniqueFd into(::open(path.c_str(), O_WRONLY | O_TRUNC | O_CLOEXEC));
    return into ? write_all(into.get(), bytes, path) : os_error("opening", path);
  }
  std::string beside = path.string() + ".XXXXXX";
  UniqueFd fd(::mkostemp(beside.data(), O_CLOEXEC));
  if (!fd) {
    return os_error("creating a file beside", path);
  }
  Status written = write_all(fd.get(), bytes, path);
  if (written && ::fchmod(fd.get(), 0644) != 0) {
    written = os_error("setting the mode of", path);
  }
  if (written && ::fsync(fd.get()) != 0) {
    written = os_error("flushing", path);
  }
  if (written && ::rename(beside.c_str(), path.c_str()) != 0) {
    written = os_error("renaming to", path);
  }
  if (!written) {
    ::unlink(beside.c_str());
    return written;
  }
  // The new name is in the folder's bytes, not in the file's. EINVAL: a file system that has no such thing.
  const std::string above = path.has_parent_path() ? path.parent_path().string() : ".";
  const UniqueFd folder(::open(above.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  return !folder || ::fsync(folder.get()) == 0 || errno == EINVAL ? ok() : os_error("flushing", above);
}

std::optional<std::uint64_t> read_number(const std::filesystem::path& path) {
  const auto text = read_file(path);
  if (!text) {
    return std::nullopt;
  }
  std::uint64_t value = 0;
  const auto parsed = std::from_chars(text->data(), text->data() + text->size(), value);
  if (parsed.ec != std::errc{}) {
    return std::nullopt;
  }
  return value;
}

std::uint32_t crc32(std::string_view bytes) {
  return static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const Bytef*>(bytes.data()), bytes.size()));
}

Result<TempDir> TempDir::create(const std::filesystem::path& parent, const std::string& prefix) {
  std::string name = (parent / (prefix + "XXXXXX")).string();
  if (::mkdtemp(name.data()) == nullptr) {
    return os_error("creating a folder in", parent);
  }
  return TempDir(std::filesystem::path(name));
}

TempDir::TempDir(TempDir&& other) noexcept : path_(std::move(other.path_)) {
  other.path_.clear();
}

TempDir& TempDir::operator=(TempDir&& other) noexcept {
  if (this != &other) {
    remove();
    path_ = std::move(other.path_);
    other.path_.clear();
  }
  return *this;
}

TempDir::~TempDir() {
  remove();
}

void TempDir::remove() {
  if (!path_.empty()) {
    std::error_code ignored;  // a destructor has nobody to tell
    std::filesystem::remove_all(path_, ignored);
  }
}

}  // namespace ballast
