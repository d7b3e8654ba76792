// SPDX-License-Identifier: Apache-2.0
#include "model/sync/network/gains_networks.h"

#include "core/spec/gains.h"
#include "core/spec/service_name.h"

namespace ballast::sync {

namespace {
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
    return found->second.get();
  }
  if (networks_.size() >= most_ || !names_a_service(service)) {
    return nullptr;
  }
  auto made = GlobalNetwork::create(
      {{epoch_, 0, std::vector<float>(spec::kGains)}, std::vector<float>(spec::kGains)}, options_);
  return made ? (networks_[service] = std::move(*made)).get() : nullptr;
}

void GainsNetworks::tick() {
  const std::lock_guard lock(mutex_);
  for (auto& [service, network] : networks_) {
    network->tick();
  }
}

std::vector<GainsNetworks::One> GainsNetworks::stats() const {
  const std::lock_guard lock(mutex_);
  std::vector<One> all;
  for (const auto& [service, network] : networks_) {
    all.push_back({service, network->stats(), network->snapshot()->theta});
  }
  return all;
}

}  // namespace ballast::sync
