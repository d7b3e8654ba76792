// SPDX-License-Identifier: Apache-2.0
#include "agent/export/route_stats.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdlib>

namespace ballast::telemetry {

namespace {

constexpr int kIndexBits = 10;

}  // namespace

void DistinctCount::add(std::uint64_t hash) {
  const std::uint64_t rest = hash << kIndexBits;
  const int rank = rest == 0 ? 64 - kIndexBits + 1 : std::countl_zero(rest) + 1;
  std::uint8_t& most = registers_[hash >> (64 - kIndexBits)];
  most = std::max(most, static_cast<std::uint8_t>(rank));
}

void DistinctCount::add(const DistinctCount& other) {
  for (std::size_t i = 0; i < registers_.size(); ++i) {
    registers_[i] = std::max(registers_[i], other.registers_[i]);
  }
}

// Flajolet, Fusy, Gandouet, Meunier 2007, figure 3, without the correction for 32-bit hashes.
double DistinctCount::count() const {
  const auto m = static_cast<double>(registers_.size());
  double sum = 0;
  for (const std::uint8_t rank : registers_) {
    sum += std::ldexp(1.0, -rank);
  }
  const double raw = 0.7213 / (1 + 1.079 / m) * m * m / sum;
  const auto empty = static_cast<double>(std::ranges::count(registers_, 0));
  return raw <= 2.5 * m && empty > 0 ? m * std::log(m / empty) : raw;
}

void RouteStats::add(const std::vector<ExportSpan>& spans, MonotonicNs now) {
  for (const ExportSpan& one : spans) {
    const sample::Span& span = one.span;
    const spec::ServiceId id{one.pod.ns, one.pod.service};
    if (span.role == BALLAST_ROLE_CLIENT || id.name.empty() ||
        (services_.size() >= kMostServices && !services_.contains(id))) {
      continue;
    }
    State& state = services_.try_emplace(id, State{.names = sample::Routes(patterns_)}).first->second;
    state.names.of(span.head.target);
    if (state.window == 0 || now > state.window + kUsersNs) {
      state.users[1] =
          state.window == 0 || now > state.window + 2 * kUsersNs ? DistinctCount() : state.users[0];
      state.users[0] = DistinctCount();
      state.window = now;
    }
    if (!span.head.user.empty()) {
      state.users[0].add(std::strtoull(span.head.user.c_str(), nullptr, 16));
    }
  }
}

std::string RouteStats::route_of(const ExportSpan& one) {
  const auto found = services_.find({one.pod.ns, one.pod.service});
  return found == services_.end() ? "" : found->second.names.of(one.span.head.target);
}

std::map<spec::ServiceId, double> RouteStats::users() const {
  std::map<spec::ServiceId, double> out;
  for (const auto& [id, state] : services_) {
    DistinctCount users = state.users[0];
    users.add(state.users[1]);
    out[id] = users.count();
  }
  return out;
}

}  // namespace ballast::telemetry
