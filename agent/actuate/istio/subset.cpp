// SPDX-License-Identifier: Apache-2.0
//
// Weights of versions: a Service's own subsets, by VirtualService route weights.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>
#include <vector>

#include "agent/actuate/istio/plan.h"
#include "agent/guard/guard.h"

namespace ballast::actuate::istio {
namespace {

constexpr int kAll = 100;

bool has_labels(const std::map<std::string, std::string>& pod, const Subset& subset) {
  return std::all_of(subset.labels.begin(), subset.labels.end(), [&](const auto& label) {
    const auto found = pod.find(label.first);
    return found != pod.end() && found->second == label.second;
  });
}

/// Whole shares of a hundred: each is rounded down, what is left over goes to the largest remainders.
std::map<std::string, int> in_hundredths(const std::map<std::string, double>& weights) {
  const double sum = std::accumulate(weights.begin(), weights.end(), 0.0,
                                     [](double all, const auto& one) { return all + one.second; });
  std::map<std::string, int> shares;
  std::vector<std::pair<double, std::string>> rest;
  int given = 0;
  for (const auto& [name, weight] : weights) {
    const double exact = kAll * weight / sum;
    shares[name] = std::max(1, static_cast<int>(exact));
    given += shares[name];
    rest.emplace_back(exact - std::floor(exact), name);
  }
  std::sort(rest.rbegin(), rest.rend());
  for (std::size_t i = 0; given < kAll; i = (i + 1) % rest.size(), ++given) {
    ++shares[rest[i].second];
  }
  return shares;
}

}  // namespace

SubsetShares subset_shares(const kube::Service& service, const std::vector<Subset>& subsets,
                           const Weights& weights, const Facts& facts) {
  std::map<std::string, double> sums;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    if (!endpoint.ready) {
      continue;
    }
    const auto pod = facts.pods.find(pod_key(endpoint));
    const auto subset = std::find_if(subsets.begin(), subsets.end(), [&](const Subset& one) {
      return pod != facts.pods.end() && has_labels(pod->second.labels, one);
    });
    if (subset == subsets.end()) {
      return {
          {},
          Refusal{"PodInNoSubset", "pod " + endpoint.pod +
                                       " is in no subset of the DestinationRule and would be left without "
                                       "traffic; add a subset with its labels"}};
    }
    sums[subset->name] += weight_of(endpoint, weights);
  }
  return {sums.empty() ? std::map<std::string, int>() : in_hundredths(sums), std::nullopt};
}

bool lacks_pods(const kube::Service& service, const std::vector<Subset>& subsets,
                const std::map<std::string, int>& shares, const Facts& facts) {
  std::set<std::string> served;
  for (const kube::Endpoint& endpoint : service.endpoints) {
    const auto pod = facts.pods.find(pod_key(endpoint));
    if (!endpoint.ready || pod == facts.pods.end()) {
      continue;
    }
    for (const Subset& subset : subsets) {
      if (has_labels(pod->second.labels, subset)) {
        served.insert(subset.name);
      }
    }
  }
  return std::any_of(shares.begin(), shares.end(),
                     [&](const auto& share) { return share.second > 0 && !served.contains(share.first); });
}

Json virtual_service(const kube::Service& service, const PlanOptions& options,
                     const std::map<std::string, int>& shares) {
  const std::string host = service_host(service, options.domain);
  Json object = virtual_service(service, options);
  for (Json& route : object["spec"]["http"]) {
    const Json port = route["match"][0]["port"];
    Json destinations = Json::array();
    for (const auto& [subset, share] : shares) {
      destinations.push_back(
          {{"destination", {{"host", host}, {"subset", subset}, {"port", {{"number", port}}}}},
           {"weight", share}});
    }
    route["route"] = std::move(destinations);
  }
  return object;
}

}  // namespace ballast::actuate::istio
