// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/gains_networks.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/spec/gains.h"
#include "core/spec/service_name.h"

namespace ballast::sync {

namespace {
using nlohmann::ordered_json;

constexpr std::size_t kLongestName = 320;  // Kubernetes' 63 and 253, and what is between

bool names_a_service(const std::string& name) {
  return spec::parse_service(name) && name.size() <= kLongestName &&
         name.find_first_of(" \t\n\"\\") == std::string::npos;
}
}  // namespace

GainsNetworks::GainsNetworks(std::uint64_t epoch, const GlobalOptions& rules, std::size_t most)
    : epoch_(epoch), options_(rules), most_(most) {
  options_.parameters = spec::kGains;
  options_.bound = 1;
  options_.rms_prop.learning_rate = kRate;
  options_.clip_norm = 1;  // a learner's gradient is in units of its advantages' deviation
}

GlobalNetwork* GainsNetworks::open(const std::string& service) {
  const std::lock_guard lock(mutex_);
  if (const auto found = networks_.find(service); found != networks_.end()) {
    found->second.asked = true;
    return found->second.network.get();
  }
  if (!names_a_service(service)) {
    return nullptr;
  }
  if (networks_.size() >= most_) {
    const auto idle =
        std::find_if(networks_.begin(), networks_.end(), [](const auto& each) { return !each.second.asked; });
    if (idle == networks_.end()) {
      return nullptr;
    }
    networks_.erase(idle);
  }
  auto made = GlobalNetwork::create(
      {{epoch_, 0, std::vector<float>(spec::kGains)}, std::vector<float>(spec::kGains)}, options_);
  return made ? (networks_[service] = {std::move(*made), true, 0}).network.get() : nullptr;
}

std::string GainsNetworks::state(std::uint64_t now_s) const {
  std::vector<std::pair<std::uint64_t, std::string>> entries;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [service, entry] : networks_) {
      const std::uint64_t asked = entry.asked ? now_s : entry.asked_at_s;
      if (now_s > asked + kForgottenS) {
        continue;
      }
      const GlobalState state = entry.network->state();
      entries.emplace_back(asked, ordered_json{{"service", service},
                                               {"asked_at", asked},
                                               {"version", state.parameters.version},
                                               {"gains", state.parameters.theta},
                                               {"mean_square", state.mean_square}}
                                      .dump());
    }
  }
  if (entries.empty()) {
    return "";
  }
  std::stable_sort(entries.begin(), entries.end(),
                   [](const auto& a, const auto& b) { return a.first > b.first; });
  std::string out = fmt::format("{{\"gains\":{},\"services\":[", spec::kGainsVersion);
  for (std::size_t i = 0; i < entries.size() && out.size() + entries[i].second.size() < kMostBytes; ++i) {
    out += (i == 0 ? "\n" : ",\n") + entries[i].second;
  }
  return out + "]}\n";
}

Status GainsNetworks::restore(const std::string& state) {
  const auto refuse = [](const std::string& why) { return Error::failed("gains of before: " + why); };
  const auto json = ordered_json::parse(state, nullptr, false);
  if (!json.is_object() || !json.contains("services") || !json["services"].is_array()) {
    return refuse("no JSON object with services");
  }
  if (json.value("gains", ordered_json()) != spec::kGainsVersion) {
    return refuse(fmt::format("they are not of version {}", spec::kGainsVersion));
  }
  std::map<std::string, Entry> networks;
  for (const auto& each : json["services"]) {
    try {
      if (!each.at("version").is_number_unsigned() || !each.at("asked_at").is_number_unsigned()) {
        return refuse("version and asked_at have to be whole numbers");
      }
      GlobalState from{
          {epoch_, each.at("version").get<std::uint64_t>(), each.at("gains").get<std::vector<float>>()},
          each.at("mean_square").get<std::vector<float>>()};
      const auto service = each.at("service").get<std::string>();
      const bool within = std::all_of(from.parameters.theta.begin(), from.parameters.theta.end(),
                                      [](float gain) { return std::abs(gain) <= 1; });
      if (!within || !names_a_service(service)) {
        return refuse("of '" + service + "': no name of a service, or a gain beyond [-1, 1]");
      }
      auto made = GlobalNetwork::create(std::move(from), options_);
      if (!made) {
        return refuse("of '" + service + "': " + made.error().message);
      }
      if (networks.size() < most_) {
        networks[service] = {std::move(*made), false, each.at("asked_at").get<std::uint64_t>()};
      }
    } catch (const ordered_json::exception& error) {
      return refuse(error.what());
    }
  }
  const std::lock_guard lock(mutex_);
  networks_ = std::move(networks);
  return ok();
}

std::uint64_t GainsNetworks::versions() const {
  const std::lock_guard lock(mutex_);
  std::uint64_t sum = 0;
  for (const auto& [service, entry] : networks_) {
    sum += entry.network->version().version;
  }
  return sum;
}

void GainsNetworks::tick() {
  const std::lock_guard lock(mutex_);
  for (auto& [service, entry] : networks_) {
    entry.network->tick();
  }
}

std::vector<GainsNetworks::One> GainsNetworks::stats() const {
  const std::lock_guard lock(mutex_);
  std::vector<One> all;
  for (const auto& [service, entry] : networks_) {
    if (entry.asked) {
      all.push_back({service, entry.network->stats(), entry.network->snapshot()->theta});
    }
  }
  return all;
}

}  // namespace ballast::sync
