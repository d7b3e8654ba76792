// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <chrono>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "agent/kube/client.h"
#include "model/cluster/openssl.h"
#include "model/sync/server/proof.h"

namespace ballast::cluster {

struct TokenProofOptions {
  std::string audience =
      "ballast";        ///< that a token has to be for: one for the API server proves nothing here
  std::string account;  ///< system:serviceaccount:NAMESPACE:NAME of the agents
  std::string writer;   ///< the same of who writes weights; it is known by kWriter and its pod's name
  std::chrono::seconds remembered{60};
  std::size_t most = 50'000;  ///< tokens remembered
  /// Asked of the API server, and a burst of as many: of tokens that it signed, or took before, and beside
  /// them, in a burst of the same size, of those of which that is not known.
  double reviews_per_s = 200;
  std::chrono::seconds keys_every{10};  ///< at most, its public keys are read
};

/// No node's name has a colon.
inline constexpr const char* kWriter = "writer:";

/// Bound ServiceAccount tokens: the API server says whether one holds (TokenReview), and its claims on which
/// node its pod runs. What is no token for us, has expired, or was not signed by a key that the API server
/// publishes (RS256 and ES256), is refused without asking, so that forged tokens use up nobody's reviews.
/// Where the keys cannot be had, unknown tokens have reviews of their own, and those taken before do not
/// compete with them.
class TokenProof final : public sync::Proof {
 public:
  TokenProof(kube::Client& client, TokenProofOptions options)
      : client_(client),
        options_(std::move(options)),
        proven_{options_.reviews_per_s},
        strangers_{options_.reviews_per_s} {}

  Result<std::string> node_of(const std::string& token) override;

 private:
  using Clock = std::chrono::steady_clock;
  using Print = std::array<unsigned char, 32>;  // SHA-256: tokens themselves are not kept
  struct Known {
    Result<std::string> answer;
    Clock::time_point until;  ///< it is given without asking
    std::int64_t ends_s;      ///< the token's `exp`
  };
  struct Allowance {
    double left = 0;
    Clock::time_point filled = Clock::now();
  };
  using Keys = std::map<std::string, Key>;  // by kid
  Status take(Allowance& allowance) const;
  std::shared_ptr<const Keys> keys_with(const std::string& kid);
  Result<std::string> review(const std::string& token);

  kube::Client& client_;
  const TokenProofOptions options_;
  std::mutex mutex_;
  std::map<Print, Known> known_;
  Allowance proven_, strangers_;
  std::shared_ptr<const Keys> keys_ = std::make_shared<Keys>();
  std::optional<Clock::time_point> keys_read_;
};

}  // namespace ballast::cluster
