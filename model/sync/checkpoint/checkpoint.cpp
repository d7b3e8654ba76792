// SPDX-License-Identifier: Apache-2.0
#include "model/sync/checkpoint/checkpoint.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/file.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <optional>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "model/policy/forecast_file.h"

namespace ballast::sync {

namespace {

static_assert(std::endian::native == std::endian::little, "checkpoints are copied, not converted");

constexpr std::string_view kMagic = "BLSTCKP\n";
constexpr std::uint32_t kFormat = 1;
constexpr std::size_t kHeader = kMagic.size() + 2 * sizeof(std::uint32_t);
constexpr std::array<const char*, 2> kLive = {"live-0", "live-1"};

std::size_t parameters_bytes(std::size_t parameters) {
  return policy::kHeaderBytes + parameters * sizeof(float) + sizeof(std::uint32_t);
}
std::size_t checkpoint_bytes(std::size_t parameters) {
  return kHeader + parameters_bytes(parameters) + parameters * sizeof(float) + sizeof(std::uint32_t);
}

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
  return target == CheckpointStore::kLatest || target == CheckpointStore::kGains || version_of(target);
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

Error refuse(const std::string& why) {
  return Error::failed("checkpoint refused: " + why);
}

}  // namespace

std::uint64_t first_epoch() {
  const auto since_1970 = std::chrono::system_clock::now().time_since_epoch();
  return static_cast<std::uint64_t>(std::chrono::duration_cast<std::chrono::seconds>(since_1970).count());
}

GlobalState begin_from(const policy::Parameters& fallback, std::size_t parameters) {
  GlobalState state{fallback, std::vector<float>(parameters, 0.0F)};
  state.parameters.version = 0;
  state.parameters.theta.resize(parameters);
  return state;
}

std::string serialize_checkpoint(const GlobalState& state) {
  std::string out(kMagic);
  out.reserve(checkpoint_bytes(state.mean_square.size()));
  put(out, kFormat);
  const std::string parameters = policy::serialize(state.parameters);
  put(out, static_cast<std::uint32_t>(parameters.size()));
  out += parameters;
  out.append(reinterpret_cast<const char*>(state.mean_square.data()),
             state.mean_square.size() * sizeof(float));
  put(out, crc32(out));
  return out;
}

Result<GlobalState> parse_checkpoint(std::string_view bytes, std::size_t parameters) {
  const std::size_t file = parameters_bytes(parameters);
  const std::size_t whole = checkpoint_bytes(parameters);
  if (bytes.size() != whole) {
    return refuse(std::to_string(bytes.size()) + " bytes where this build writes " + std::to_string(whole));
  }
  if (!bytes.starts_with(kMagic) || get(bytes, kMagic.size()) != kFormat ||
      get(bytes, kMagic.size() + 4) != file) {
    return refuse("it does not begin as a checkpoint of this format");
  }
  if (get(bytes, whole - 4) != crc32(bytes.substr(0, whole - 4))) {
    return refuse("the checksum does not match");
  }
  GlobalState state{{}, std::vector<float>(parameters)};
  if (parameters == spec::kParameters) {
    auto parsed = policy::parse(bytes.substr(kHeader, file));
    if (!parsed) {
      return parsed.error().in("checkpoint");
    }
    state.parameters = std::move(*parsed);
  } else {  // of a network that only measures the server; the checksum above is all there is to check
    std::memcpy(&state.parameters.epoch, bytes.data() + kHeader + 32, sizeof state.parameters.epoch);
    std::memcpy(&state.parameters.version, bytes.data() + kHeader + 40, sizeof state.parameters.version);
    state.parameters.theta.resize(parameters);
    std::memcpy(state.parameters.theta.data(), bytes.data() + kHeader + policy::kHeaderBytes,
                parameters * sizeof(float));
  }
  std::memcpy(state.mean_square.data(), bytes.data() + kHeader + file, parameters * sizeof(float));
  return state;
}

namespace {

Status make_folder(const std::filesystem::path& folder) {
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  return error ? Status(Error::usage("state folder " + folder.string() + ": " + error.message())) : ok();
}

}  // namespace

Result<std::optional<CheckpointStore>> CheckpointStore::try_open(const std::filesystem::path& folder,
                                                                 std::size_t parameters) {
  if (Status made = make_folder(folder); !made) {
    return made.error();
  }
  const auto path = folder / "lock";
  UniqueFd lock(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644));
  if (!lock) {
    return Error::usage("state folder " + folder.string() + " cannot be written: " + std::strerror(errno));
  }
  if (::flock(lock.get(), LOCK_EX | LOCK_NB) != 0) {
    return std::optional<CheckpointStore>();
  }
  remove_leftovers(folder);
  return std::optional<CheckpointStore>(CheckpointStore(folder, parameters, path, std::move(lock)));
}

Result<CheckpointStore> CheckpointStore::within(const std::string& name, std::size_t parameters) const {
  const auto folder = folder_ / name;
  if (Status made = make_folder(folder); !made) {
    return made.error();
  }
  UniqueFd lock(::fcntl(lock_.get(), F_DUPFD_CLOEXEC, 0));
  if (!lock) {
    return Error::failed("state folder " + folder.string() + ": " + std::strerror(errno));
  }
  remove_leftovers(folder);
  return CheckpointStore(folder, parameters, lock_file_, std::move(lock));
}

Result<CheckpointStore> CheckpointStore::open(const std::filesystem::path& folder, std::size_t parameters) {
  auto store = try_open(folder, parameters);
  if (!store) {
    return store.error();
  }
  if (!store->has_value()) {
    return Error::failed("state folder " + folder.string() + " is in use by another ballast-global");
  }
  return std::move(**store);
}

Status CheckpointStore::still_leads(std::uint64_t epoch) const {
  struct stat ours {};
  struct stat there {};
  if (::fstat(lock_.get(), &ours) != 0 || ::stat(lock_file_.c_str(), &there) != 0 ||
      ours.st_dev != there.st_dev || ours.st_ino != there.st_ino) {
    return Error::failed("deposed: the lock file " + lock_file_.string() + " is gone or another one");
  }
  const auto entries = list(folder_);
  if (entries && !entries->empty() && entries->front().version.epoch > epoch) {
    return Error::failed("deposed: " + folder_.string() + " holds a checkpoint of epoch " +
                         std::to_string(entries->front().version.epoch) + ", ours is " +
                         std::to_string(epoch));
  }
  return ok();
}

Result<GlobalState> CheckpointStore::load(const policy::Parameters& fallback) {
  auto entries = list(folder_);
  if (!entries) {
    return entries.error();
  }
  if (std::error_code none; std::filesystem::exists(folder_ / kGains, none)) {
    auto gains = read_file(folder_ / kGains);
    if (!gains) {
      spdlog::error("gains of Services passed over error=\"{}\"", gains.error().message);
    }
    gains_ = gains ? std::move(*gains) : "";
  }
  std::uint64_t highest = entries->empty() ? 0 : entries->front().version.epoch;
  std::optional<GlobalState> newest;
  const auto version = [](const GlobalState& state) {
    return Version{state.parameters.epoch, state.parameters.version};
  };
  for (const char* name : kLive) {
    const auto bytes = read_file(folder_ / name);
    auto live = bytes ? parse_checkpoint(*bytes, parameters_) : Result<GlobalState>(bytes.error());
    if (live) {
      highest = std::max(highest, live->parameters.epoch);
      if (!newest || version(*newest) < version(*live)) {
        newest = std::move(*live);
      }
    } else if (bytes) {
      spdlog::warn("live state passed over path={} error=\"{}\"", (folder_ / name).string(),
                   live.error().message);
    }
  }
  const std::uint64_t epoch = highest == 0 ? first_epoch() : highest + 1;
  for (const auto& entry : *entries) {
    if (newest && version(*newest) >= entry.version) {
      break;
    }
    const auto bytes = read_file(entry.path);
    auto state = bytes ? parse_checkpoint(*bytes, parameters_) : Result<GlobalState>(bytes.error());
    if (state) {
      newest = std::move(*state);
      break;
    }
    spdlog::error("checkpoint passed over path={} error=\"{}\"", entry.path.string(), state.error().message);
  }
  if (newest) {
    spdlog::info("checkpoint loaded folder={} epoch={} version={}", folder_.string(),
                 newest->parameters.epoch, newest->parameters.version);
  } else {
    if (!entries->empty()) {
      spdlog::error("no checkpoint is whole, learning begins from the shipped parameters folder={}",
                    folder_.string());
    }
    newest = begin_from(fallback, parameters_);
  }
  newest->parameters.epoch = epoch;
  return std::move(*newest);
}

Status CheckpointStore::save_live(const GlobalState& state) {
  const auto path = folder_ / kLive[static_cast<std::size_t>(live_)];
  const std::string bytes = serialize_checkpoint(state);
  const UniqueFd file(::open(path.c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  const auto size = static_cast<ssize_t>(bytes.size());
  if (!file || ::pwrite(file.get(), bytes.data(), bytes.size(), 0) != size ||
      ::ftruncate(file.get(), size) != 0) {
    return Error::failed("live state " + path.string() + ": " + std::strerror(errno));
  }
  live_ = 1 - live_;
  return ok();
}

Status CheckpointStore::save(const GlobalState& state) {
  if (auto written = write_file_atomic(folder_ / name_of(state.parameters), serialize_checkpoint(state));
      !written) {
    return written.error().in("checkpoint");
  }
  if (auto written = write_file_atomic(folder_ / kLatest, policy::file_of(state.parameters)); !written) {
    return written.error().in("checkpoint");
  }
  if (!gains_.empty()) {
    if (auto written = write_file_atomic(folder_ / kGains, gains_); !written) {
      return written.error().in("checkpoint");
    }
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
