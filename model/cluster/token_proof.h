// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <mutex>
#include <string>

#include "agent/kube/client.h"
#include "model/sync/server/proof.h"

namespace ballast::cluster {

struct TokenProofOptions {
  std::string audience =
      "ballast";        ///< that a token has to be for: one for the API server proves nothing here
  std::string account;  ///< system:serviceaccount:NAMESPACE:NAME of the agents
  std::string writer;   ///< the same of who writes weights; it is known by kWriter and its pod's name
  std::chrono::seconds remembered{60};
  std::size_t most = 50'000;   ///< tokens remembered
  double reviews_per_s = 200;  ///< asked of the API server, and a burst of as many
};

/// No node's name has a colon.
inline constexpr const char* kWriter = "writer:";

/// Bound ServiceAccount tokens: the API server says whether one holds (TokenReview), and its claims on which
/// node its pod runs. What is no token for us, or has expired, is refused without asking.
class TokenProof final : public sync::Proof {
 public:
  TokenProof(kube::Client& client, TokenProofOptions options)
      : client_(client), options_(std::move(options)), allowance_(options_.reviews_per_s) {}

  Result<std::string> node_of(const std::string& token) override;

 private:
  using Clock = std::chrono::steady_clock;
  using Print = std::array<unsigned char, 32>;  // SHA-256: tokens themselves are not kept
  struct Known {
    std::string node;
    Clock::time_point until;
  };
  Status take_allowance();
  Result<std::string> review(const std::string& token);

  kube::Client& client_;
  const TokenProofOptions options_;
  std::mutex mutex_;
  std::map<Print, Known> known_;
  double allowance_;
  Clock::time_point filled_ = Clock::now();
};

}  // namespace ballast::cluster
