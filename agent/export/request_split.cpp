// SPDX-License-Identifier: Apache-2.0
#include "agent/export/request_split.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>
#include <vector>

namespace ballast::telemetry {

namespace {

/// Those whose requests are told apart from success, which takes what is left.
constexpr std::array<std::size_t, 5> kClasses = {5, 4, 3, 1, 0};
constexpr std::size_t kSuccess = 2;
constexpr double kMostDue = 16;  ///< what is due longer than that is no longer so

/// `count` by `weights`, no more than `room` each (which together have room for all): largest remainders,
/// with what each was due before.
std::vector<std::uint64_t> apportion(std::uint64_t count, std::span<const double> weights,
                                     std::span<const std::uint64_t> room, std::span<double> due) {
  std::vector<std::uint64_t> given(weights.size());
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t i = 0; i < weights.size(); ++i) {
    due[i] +=
        static_cast<double>(count) * (sum > 0 ? weights[i] / sum : 1 / static_cast<double>(weights.size()));
  }
  std::uint64_t left = count;
  const auto hand = [&](std::size_t i, std::uint64_t n) {
    given[i] += n;
    left -= n;
    due[i] -= static_cast<double>(n);
  };
  for (std::size_t i = 0; i < weights.size(); ++i) {
    hand(i, std::min({static_cast<std::uint64_t>(std::max(0.0, std::floor(due[i]))), room[i], left}));
  }
  while (left > 0) {
    std::size_t most = weights.size();
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (given[i] < room[i] && (most == weights.size() || due[i] > due[most])) {
        most = i;
      }
    }
    // Where spans gave no place for so many, any that has room does.
    hand(most, due[most] > 0 ? 1 : std::min(left, room[most] - given[most]));
  }
  for (double& one : due) {
    one = std::clamp(one, -kMostDue, kMostDue);
  }
  return given;
}

/// RFC 9110's and PATCH, as the conventions have it.
bool is_standard(std::string_view method) {
  constexpr std::array<std::string_view, 9> kStandard = {"GET",     "HEAD",    "POST",  "PUT",  "DELETE",
                                                         "CONNECT", "OPTIONS", "TRACE", "PATCH"};
  return std::ranges::find(kStandard, method) != kStandard.end();
}

}  // namespace

RequestAttributes request_attributes(const std::string& method, std::uint16_t status, std::string route) {
  return {method.empty() || is_standard(method) ? method : "_OTHER", status,
          status >= 500 ? std::to_string(status) : "", std::move(route)};
}

void RequestSplit::learn(const RequestAttributes& attributes, double seconds,
                         std::optional<metrics::Exemplar> exemplar) {
  auto part = parts_.find(attributes);
  if (part == parts_.end()) {
    RequestAttributes kept = attributes;
    if (parts_.size() >= kMost) {
      kept.route.clear();
    }
    if (parts_.size() >= 2 * kMost && !parts_.contains(kept)) {
      return;
    }
    part = parts_.try_emplace(std::move(kept)).first;
  }
  const std::size_t bucket = bucket_of(seconds);
  ++part->second.seen[bucket];
  if (exemplar) {
    part->second.exemplars[bucket] = std::move(exemplar);
  }
  double sum = 0;
  for (const auto& [key, one] : parts_) {
    sum += std::accumulate(one.seen.begin(), one.seen.end(), 0.0);
  }
  if (sum > kMemory) {
    for (auto& [key, one] : parts_) {
      std::ranges::for_each(one.seen, [](double& spans) { spans /= 2; });
    }
  }
}

void RequestSplit::give(std::size_t status_class, std::size_t bucket, std::uint64_t count, double mean_s) {
  if (count == 0) {
    return;
  }
  std::vector<Part*> parts;
  std::vector<double> here;
  std::vector<double> anywhere;
  std::vector<double> due;
  for (auto& [attributes, part] : parts_) {
    if (attributes.status != 0 && attributes.status / 100 == status_class) {
      parts.push_back(&part);
      here.push_back(part.seen[bucket]);
      anywhere.push_back(std::accumulate(part.seen.begin(), part.seen.end(), 0.0));
      due.push_back(part.due[bucket]);
    }
  }
  const bool told = std::ranges::any_of(here, [](double spans) { return spans > 0; });
  std::vector<std::uint64_t> given{count};
  if (parts.empty()) {
    parts.push_back(&parts_[{"", 0, status_class == 5 ? "5xx" : "", ""}]);
  } else {
    const std::vector<std::uint64_t> room(parts.size(), count);
    given = apportion(count, told ? here : anywhere, room, due);
    for (std::size_t i = 0; i < parts.size(); ++i) {
      parts[i]->due[bucket] = due[i];
    }
  }
  for (std::size_t i = 0; i < parts.size(); ++i) {
    parts[i]->duration.counts[bucket] += given[i];
    parts[i]->duration.sum_s += static_cast<double>(given[i]) * mean_s;
  }
}

void RequestSplit::add(const spec::Latency& latency,
                       const std::array<std::uint64_t, BALLAST_STATUS_CLASSES>& answers) {
  const DurationFold fold(latency);
  Counts room = fold.counts;
  std::uint64_t left = std::accumulate(room.begin(), room.end(), std::uint64_t{0});
  const auto hand_out = [&](std::size_t status_class, const std::vector<std::uint64_t>& counts) {
    for (std::size_t bucket = 0; bucket < counts.size(); ++bucket) {
      room[bucket] -= counts[bucket];
      left -= counts[bucket];
      give(status_class, bucket, counts[bucket], fold.mean_s[bucket]);
    }
  };
  for (const std::size_t status_class : kClasses) {
    const std::uint64_t count = std::min(answers[status_class], left);
    if (count == 0) {
      continue;
    }
    Buckets weights{};
    for (const auto& [attributes, part] : parts_) {
      for (std::size_t i = 0; i < weights.size(); ++i) {
        weights[i] += attributes.status != 0 && attributes.status / 100 == status_class ? part.seen[i] : 0;
      }
    }
    if (std::ranges::all_of(weights, [](double spans) { return spans <= 0; })) {
      std::ranges::copy(room, weights.begin());
    }
    hand_out(status_class, apportion(count, weights, room, due_[status_class]));
  }
  hand_out(kSuccess, {room.begin(), room.end()});
}

}  // namespace ballast::telemetry
