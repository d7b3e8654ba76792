// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/write_history.h"

#include <algorithm>
#include <set>

namespace ballast::actuate::istio {
namespace {

constexpr std::size_t kSpare = 1000;  ///< addresses that left
/// What a plain Service's endpoint weighs.
constexpr std::uint32_t kPlain = 1;

}  // namespace

std::vector<ProbedEndpoint> entry_endpoints(const kube::Json& spec) {
  const kube::Json& ports = kube::at(spec, {"ports"});
  const std::string port = ports.is_array() && !ports.empty() ? kube::text_at(ports[0], {"name"}) : "";
  std::vector<ProbedEndpoint> out;
  for (const kube::Json& endpoint : kube::at(spec, {"endpoints"})) {
    const kube::Json& number = kube::at(endpoint, {"ports", port.c_str()});
    const kube::Json& weight = kube::at(endpoint, {"weight"});
    if (number.is_number_integer() && weight.is_number_integer()) {
      out.push_back(
          {kube::text_at(endpoint, {"address"}), number.get<std::uint16_t>(), weight.get<std::uint32_t>()});
    }
  }
  return out;
}

void WriteHistory::add(std::vector<ProbedEndpoint> entry, MonotonicNs at, MonotonicNs keep) {
  for (const ProbedEndpoint& one : entry) {
    ours_[{one.address, one.port}] = at;
  }
  if (ours_.size() > 2 * entry.size() + kSpare) {
    std::erase_if(ours_, [&](const auto& one) { return one.second != at; });
  }
  if (writes_.empty() || writes_.back().endpoints != entry) {
    writes_.push_back({at, std::move(entry)});
  }
  while (writes_.size() > 1 && writes_[1].at + keep <= at) {
    writes_.pop_front();
  }
}

bool WriteHistory::tells(const std::map<Key, std::uint32_t>& first, const Write& write, bool whole) const {
  std::set<Key> in;
  for (const ProbedEndpoint& one : write.endpoints) {
    const auto found = first.find({one.address, one.port});
    if (found == first.end() || found->second != one.weight) {
      return false;
    }
    in.insert(found->first);
  }
  return !whole || std::none_of(first.begin(), first.end(), [&](const auto& told) {
    return told.second > kPlain && ours_.contains(told.first) && !in.contains(told.first);
  });
}

MonotonicNs WriteHistory::behind(const std::vector<ProbedEndpoint>& told, bool whole, MonotonicNs now) const {
  if (told.empty() || writes_.empty()) {
    return 0;
  }
  std::map<Key, std::uint32_t> first;  // of two with one address Envoy takes the first
  for (const ProbedEndpoint& one : told) {
    first.try_emplace({one.address, one.port}, one.weight);
  }
  MonotonicNs until = 0;  // when the write was replaced; 0: it was not
  for (auto write = writes_.rbegin(); write != writes_.rend(); ++write) {
    if (tells(first, *write, whole)) {
      return until != 0 && now > until ? now - until : 0;
    }
    until = write->at;
  }
  return now > until ? now - until : 0;
}

}  // namespace ballast::actuate::istio
