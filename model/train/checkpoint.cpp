// SPDX-License-Identifier: Apache-2.0
#include "model/train/checkpoint.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>

#include "core/base/file.h"

namespace ballast::train {
namespace {

static_assert(std::endian::native == std::endian::little, "numbers are copied as they lie in memory");

constexpr std::string_view kMagic = "BLSTTRN\n";
constexpr std::uint32_t kVersion = 1;
constexpr std::uint64_t kMaxNumbers = 1ULL << 28;

template <typename T>
void put(std::string& out, const T& value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof(T));
}

template <typename T>
void put_all(std::string& out, const std::vector<T>& values) {
  put(out, static_cast<std::uint64_t>(values.size()));
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
}

class Reader {
 public:
  explicit Reader(std::string_view bytes) : bytes_(bytes) {}

  template <typename T>
  T number() {
    T value{};
    if (std::string_view part = take(sizeof(T)); part.size() == sizeof(T)) {
      std::memcpy(&value, part.data(), sizeof(T));
    }
    return value;
  }
  template <typename T>
  std::vector<T> numbers() {
    const auto count = number<std::uint64_t>();
    if (count > kMaxNumbers) {
      good_ = false;
      return {};
    }
    std::vector<T> values;
    if (std::string_view part = take(count * sizeof(T)); good_ && count > 0) {
      values.resize(count);
      std::memcpy(values.data(), part.data(), part.size());
    }
    good_ = good_ && std::all_of(values.begin(), values.end(), [](T v) { return std::isfinite(v); });
    return values;
  }
  std::string text() {
    const auto size = number<std::uint32_t>();
    return std::string(take(size));
  }
  bool good() const { return good_ && bytes_.empty(); }

 private:
  std::string_view take(std::size_t size) {
    if (!good_ || size > bytes_.size()) {
      good_ = false;
      return {};
    }
    const std::string_view part = bytes_.substr(0, size);
    bytes_.remove_prefix(size);
    return part;
  }

  std::string_view bytes_;
  bool good_ = true;
};

}  // namespace

std::string serialize(const Checkpoint& checkpoint) {
  std::string out(kMagic);
  put(out, kVersion);
  put(out, static_cast<std::uint32_t>(checkpoint.identity.size()));
  out += checkpoint.identity;
  put(out, checkpoint.state.steps);
  put_all(out, checkpoint.state.theta);
  put_all(out, checkpoint.state.optimiser.mean);
  put_all(out, checkpoint.state.optimiser.square);
  put(out, checkpoint.state.optimiser.steps);
  put_all(out, checkpoint.state.extra);
  put_all(out, checkpoint.best_theta);
  put(out, checkpoint.best_return);
  put(out, crc32(out));
  return out;
}

Result<Checkpoint> parse_checkpoint(std::string_view bytes) {
  const auto refuse = [](const std::string& why) { return Error::failed("checkpoint refused: " + why); };
  if (bytes.size() < kMagic.size() + 2 * sizeof(std::uint32_t) || bytes.substr(0, kMagic.size()) != kMagic) {
    return refuse("it is not a checkpoint of a training run");
  }
  std::uint32_t stored = 0;
  std::memcpy(&stored, bytes.data() + bytes.size() - sizeof(stored), sizeof(stored));
  bytes.remove_suffix(sizeof(stored));
  if (stored != crc32(bytes)) {
    return refuse("the checksum does not match, the file is damaged");
  }
  Reader reader(bytes.substr(kMagic.size()));
  if (const auto version = reader.number<std::uint32_t>(); version != kVersion) {
    return refuse("its format is " + std::to_string(version) + ", this build wants " +
                  std::to_string(kVersion));
  }
  Checkpoint checkpoint;
  checkpoint.identity = reader.text();
  checkpoint.state.steps = reader.number<std::uint64_t>();
  checkpoint.state.theta = reader.numbers<float>();
  checkpoint.state.optimiser.mean = reader.numbers<float>();
  checkpoint.state.optimiser.square = reader.numbers<float>();
  checkpoint.state.optimiser.steps = reader.number<double>();
  checkpoint.state.extra = reader.numbers<double>();
  checkpoint.best_theta = reader.numbers<float>();
  checkpoint.best_return = reader.number<double>();
  if (!reader.good()) {
    return refuse("it is truncated, too long, or holds numbers that are not finite");
  }
  return checkpoint;
}

Status save(const std::filesystem::path& path, const Checkpoint& checkpoint) {
  return write_file_atomic(path, serialize(checkpoint));
}

Result<Checkpoint> load(const std::filesystem::path& path) {
  const auto bytes = read_file(path);
  if (!bytes) {
    return bytes.error();
  }
  auto parsed = parse_checkpoint(*bytes);
  return parsed ? std::move(parsed) : Result<Checkpoint>(parsed.error().in(path.string()));
}

}  // namespace ballast::train
