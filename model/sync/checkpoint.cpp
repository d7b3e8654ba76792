// SPDX-License-Identifier: Apache-2.0
#include "model/sync/checkpoint.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "agent/base/file.h"

namespace ballast::sync {

namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are copied, not converted");

constexpr std::string_view kMagic = "BLSTCKP\n";
constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kHeader = kMagic.size() + 2 * sizeof(std::uint32_t);
constexpr std::size_t kSquares = spec::kParameters * sizeof(float);
constexpr std::size_t kBytes = kHeader + policy::kFileBytes + kSquares + sizeof(std::uint32_t);

void put(std::string& out, std::uint32_t value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

std::uint32_t get(std::string_view bytes, std::size_t at) {
  std::uint32_t value = 0;
  std::memcpy(&value, bytes.data() + at, sizeof value);
  return value;
}

std::string name_of(const policy::Parameters& parameters) {
  char name[64];
  std::snprintf(name, sizeof name, "checkpoint-%020llu-%020llu",
                static_cast<unsigned long long>(parameters.epoch),
                static_cast<unsigned long long>(parameters.version));
  return name;
}

std::optional<Version> version_of(const std::string& name) {
  unsigned long long epoch = 0;
  unsigned long long version = 0;
  if (std::sscanf(name.c_str(), "checkpoint-%20llu-%20llu", &epoch, &version) != 2 ||
      name != name_of({epoch, version, {}})) {
    return std::nullopt;
  }
  return Version{epoch, version};
}

struct Entry {
  Version version;
  std::filesystem::path path;
};

// Newest first.
Result<std::vector<Entry>> list(const std::filesystem::path& folder) {
  std::vector<Entry> entries;
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (const auto version = version_of(it->path().filename().string())) {
      entries.push_back({*version, it->path()});
    }
  }
  if (error) {
    return Error::failed("listing state folder " + folder.string() + ": " + error.message());
  }
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.version > b.version; });
  return entries;
}

// What write_file_atomic leaves when the process is killed in the middle: NAME.XXXXXX.
bool is_leftover(const std::string& name) {
  if (name.size() < 8 || name[name.size() - 7] != '.') {
    return false;
  }
  const std::string target = name.substr(0, name.size() - 7);
  return target == CheckpointStore::kLatest || version_of(target);
}

void remove_leftovers(const std::filesystem::path& folder) {
  std::error_code error;
  for (std::filesystem::directory_iterator it(folder, error), end; !error && it != end; it.increment(error)) {
    if (is_leftover(it->path().filename().string())) {
      std::error_code ignored;  // it costs some disk, nothing else
      std::filesystem::remove(it->path(), ignored);
    }
  }
}

// No global network that lost its folder comes back with an epoch that was given before: an epoch
// lasts longer than a second.
std::uint64_t first_epoch() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(since_1970).count());
}

Error refuse(const std::string& why) {
  return Error::failed("checkpoint refused: " + why);
}

}  // namespace

std::string serialize_checkpoint(const GlobalState& state) {
  std::string out(kMagic);
  out.reserve(kBytes);
  put(out, kFormat);
  const std::string parameters = policy::serialize(state.parameters);
  put(out, static_cast<std::uint32_t>(parameters.size()));
  out += parameters;
  out.append(reinterpret_cast<const char*>(state.mean_square.data()),
             state.mean_square.size() * sizeof(float));
  put(out, crc32(out));
  return out;
}

Result<GlobalState> parse_checkpoint(std::string_view bytes) {
  if (bytes.size() != kBytes) {
    return refuse(std::to_string(bytes.size()) + " bytes where this build writes " + std::to_string(kBytes));
  }
  if (!bytes.starts_with(kMagic) || get(bytes, kMagic.size()) != kFormat ||
      get(bytes, kMagic.size() + 4) != policy::kFileBytes) {
    return refuse("it does not begin as a checkpoint of this format");
  }
  if (get(bytes, kBytes - 4) != crc32(bytes.substr(0, kBytes - 4))) {
    return refuse("the checksum does not match");
  }
  auto parameters = policy::parse(bytes.substr(kHeader, policy::kFileBytes));
  if (!parameters) {
    return parameters.error().in("checkpoint");
  }
  GlobalState state{std::move(*parameters), std::vector<float>(spec::kParameters)};
  std::memcpy(state.mean_square.data(), bytes.data() + kHeader + policy::kFileBytes, kSquares);
  return state;
}

Result<CheckpointStore> CheckpointStore::open(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error) {
    return Error::usage("state folder " + folder.string() + ": " + error.message());
  }
  const auto path = folder / "lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock) {
    return Error::usage("state folder " + folder.string() + " cannot be written: " + std::strerror(errno));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return Error::failed("state folder " + folder.string() + " is in use by another ballast-global");
  }
  remove_leftovers(folder);
  return CheckpointStore(folder, std::move(lock));
}

Result<GlobalState> CheckpointStore::load(std::uint64_t seed) const {
  auto entries = list(folder_);
  if (!entries) {
    return entries.error();
  }
  const std::uint64_t epoch = entries->empty() ? first_epoch() : entries->front().version.epoch + 1;
  for (const auto& entry : *entries) {
    const auto bytes = read_file(entry.path);
    auto state = bytes ? parse_checkpoint(*bytes) : Result<GlobalState>(bytes.error());
    if (state) {
      spdlog::info("checkpoint loaded path={} epoch={} version={}", entry.path.string(),
                   state->parameters.epoch, state->parameters.version);
      state->parameters.epoch = epoch;
      return state;
    }
    spdlog::error("checkpoint passed over path={} error=\"{}\"", entry.path.string(), state.error().message);
  }
  if (!entries->empty()) {
    spdlog::error("no checkpoint is whole, learning begins anew folder={}", folder_.string());
  }
  GlobalState state{policy::initial(seed), std::vector<float>(spec::kParameters, 0.0F)};
  state.parameters.epoch = epoch;
  return state;
}

Status CheckpointStore::save(const GlobalState& state) const {
  if (auto written = write_file_atomic(folder_ / name_of(state.parameters), serialize_checkpoint(state));
      !written) {
    return written.error().in("checkpoint");
  }
  if (auto written = write_file_atomic(folder_ / kLatest, policy::serialize(state.parameters)); !written) {
    return written.error().in("checkpoint");
  }
  auto entries = list(folder_);
  if (!entries) {
    return entries.error();
  }
  for (std::size_t i = kKept; i < entries->size(); ++i) {
    std::error_code error;
    std::filesystem::remove((*entries)[i].path, error);
    if (error) {
      return Error::failed("removing " + (*entries)[i].path.string() + ": " + error.message());
    }
  }
  return ok();
}

}  // namespace ballast::sync
