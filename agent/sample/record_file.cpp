// SPDX-License-Identifier: Apache-2.0
//
// A record is a stamp, the key and the value. The stamp's lowest bit: it is being written; the next: it is
// used; the rest counts writes, so that a reader sees whether a record changed while it read.
#include "agent/sample/record_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

namespace ballast::sample {

namespace {

constexpr std::uint64_t kWriting = 1;
constexpr std::uint64_t kUsed = 2;
constexpr std::uint64_t kWrite = 4;
constexpr int kLooks = 100;

bool write_at(int fd, const void* bytes, std::size_t size, std::size_t at) {
  return ::pwrite(fd, bytes, size, static_cast<off_t>(at)) == static_cast<ssize_t>(size);
}

}  // namespace

Error RecordFile::wrong(const char* what) const {
  return Error::failed(std::string(what) + " " + path_.string() + ": " + std::strerror(errno));
}

Result<RecordFile> RecordFile::create(const std::filesystem::path& path, std::size_t key, std::size_t value,
                                      std::size_t most) {
  // Not truncated: a reader of the former one goes on with what it opened.
  std::error_code ignored;
  std::filesystem::remove(path, ignored);
  RecordFile file(path, UniqueFd(::open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644)), key,
                  value, most);
  return file.fd_ ? Result<RecordFile>(std::move(file)) : file.wrong("making");
}

Result<RecordFile> RecordFile::open(const std::filesystem::path& path, std::size_t key, std::size_t value) {
  RecordFile file(path, UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)), key, value, 0);
  return file.fd_ ? Result<RecordFile>(std::move(file)) : file.wrong("opening");
}

Status RecordFile::write(std::size_t slot, bool used, std::string_view key, std::string_view value) {
  const std::size_t at = slot * stride();
  const std::uint64_t before = stamps_[slot] | kWriting;
  const std::uint64_t after = ((stamps_[slot] & ~kUsed) + kWrite) | (used ? kUsed : 0);
  const bool done = write_at(fd_.get(), &before, sizeof before, at) &&
                    write_at(fd_.get(), key.data(), key.size(), at + sizeof before) &&
                    write_at(fd_.get(), value.data(), value.size(), at + sizeof before + key_) &&
                    write_at(fd_.get(), &after, sizeof after, at);
  stamps_[slot] = after;
  return done ? ok() : Status(wrong("writing"));
}

Status RecordFile::put(std::string_view key, std::string_view value) {
  const auto found = slots_.find(std::string(key));
  if (found != slots_.end()) {
    return write(found->second, true, key, value);
  }
  if (free_.empty() && stamps_.size() >= most_) {
    return Error::failed(path_.string() + " is full: it takes " + std::to_string(most_) + " records");
  }
  std::size_t slot = stamps_.size();
  if (free_.empty()) {
    stamps_.push_back(0);
  } else {
    slot = free_.back();
    free_.pop_back();
  }
  slots_[std::string(key)] = slot;
  return write(slot, true, key, value);
}

Status RecordFile::erase(std::string_view key) {
  const auto found = slots_.find(std::string(key));
  if (found == slots_.end()) {
    return ok();
  }
  const std::size_t slot = found->second;
  slots_.erase(found);
  free_.push_back(slot);
  return write(slot, false, key, {});
}

Status RecordFile::each(const std::function<void(const char*, const char*)>& sink) const {
  std::vector<char> record(stride());
  for (std::size_t at = 0;; at += stride()) {
    std::uint64_t stamp = 0;
    for (int look = 0; look < kLooks; ++look) {
      const ssize_t got = ::pread(fd_.get(), record.data(), record.size(), static_cast<off_t>(at));
      if (got < 0) {
        return wrong("reading");
      }
      // A last record may be shorter: it is being written for the first time.
      if (got < static_cast<ssize_t>(record.size())) {
        return ok();
      }
      std::memcpy(&stamp, record.data(), sizeof stamp);
      std::uint64_t then = 0;
      if (::pread(fd_.get(), &then, sizeof then, static_cast<off_t>(at)) == sizeof then && then == stamp &&
          (stamp & kWriting) == 0) {
        break;
      }
      stamp = 0;
      ::usleep(50);
    }
    if ((stamp & kUsed) != 0) {
      sink(record.data() + sizeof stamp, record.data() + sizeof stamp + key_);
    }
  }
}

}  // namespace ballast::sample
