// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/checkpoint_object.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <charconv>

namespace ballast::cluster {

namespace {

constexpr const char* kKey = "checkpoint";
constexpr const char* kGains = "gains";
constexpr const char* kEpoch = "ballast.dev/epoch";
constexpr const char* kHolder = "ballast.dev/holder";

std::uint64_t epoch_of(const Stored& stored) {
  std::uint64_t epoch = 0;
  if (const auto found = stored.notes.find(kEpoch); found != stored.notes.end()) {
    std::from_chars(found->second.data(), found->second.data() + found->second.size(), epoch);
  }
  return epoch;
}

std::string holder_of(const Stored& stored) {
  const auto found = stored.notes.find(kHolder);
  return found == stored.notes.end() ? "" : found->second;
}

}  // namespace

Status CheckpointObject::still_leads(std::uint64_t /*epoch*/) const {
  if (!deposed_.empty()) {
    return Error::failed("deposed: " + deposed_);
  }
  return leads_() ? ok()
                  : Status(Error::failed("deposed: the Lease is another's, or could not be renewed in time"));
}

Result<sync::GlobalState> CheckpointObject::load(const policy::Parameters& fallback) {
  const auto stored = object_.read();
  if (!stored) {
    return stored.error().in("checkpoint");
  }
  const auto gains = stored->data.find(kGains);
  gains_ = gains == stored->data.end() ? "" : gains->second;
  std::uint64_t highest = epoch_of(*stored);
  const auto bytes = stored->data.find(kKey);
  std::optional<sync::GlobalState> found;
  if (bytes != stored->data.end()) {
    if (auto state = sync::parse_checkpoint(bytes->second, parameters_)) {
      highest = std::max(highest, state->parameters.epoch);
      spdlog::info("checkpoint loaded object={} epoch={} version={} holder={}", object_.path(),
                   state->parameters.epoch, state->parameters.version, holder_of(*stored));
      found = std::move(*state);
    } else {
      spdlog::error(
          "checkpoint passed over, learning begins from the shipped parameters object={} error=\"{}\"",
          object_.path(), state.error().message);
    }
  }
  if (!found) {
    found = sync::begin_from(fallback, parameters_);
  }
  found->parameters.epoch = highest == 0 ? sync::first_epoch() : highest + 1;
  return std::move(*found);
}

Status CheckpointObject::save(const sync::GlobalState& state) {
  const std::uint64_t epoch = state.parameters.epoch;
  Stored stored{{{kKey, sync::serialize_checkpoint(state)}},
                {{kEpoch, std::to_string(epoch)}, {kHolder, holder_}}};
  if (!gains_.empty()) {
    stored.data[kGains] = gains_;
  }
  // A second attempt where somebody wrote who is no leader of a higher epoch: a label by hand, a deletion.
  for (int attempt = 0; attempt < 2; ++attempt) {
    if (auto leads = still_leads(epoch); !leads) {
      return leads;
    }
    const auto written = object_.write(stored);
    if (!written) {
      return written.error().in("checkpoint");
    }
    if (*written == StoredObject::Written::kDone) {
      return ok();
    }
    const auto there = object_.read();
    if (!there) {
      return there.error().in("checkpoint");
    }
    if (epoch_of(*there) > epoch || (epoch_of(*there) == epoch && holder_of(*there) != holder_)) {
      deposed_ = object_.path() + " is of epoch " + std::to_string(epoch_of(*there)) + " and " +
                 holder_of(*there) + "'s, ours is " + std::to_string(epoch);
      return still_leads(epoch);
    }
  }
  return Error::failed("checkpoint: " + object_.path() + " is written by others all the time");
}

}  // namespace ballast::cluster
