// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>
#include <vector>

#include "agent/kube/client.h"
#include "core/base/file.h"
#include "model/cluster/stored_object.h"
#include "model/sync/transport/tls.h"

namespace ballast::cluster {

struct AuthorityOptions {
  std::string ns;
  std::vector<std::string> names;  ///< DNS names that our certificate carries
  std::chrono::hours life{24L *
                          365};  ///< of a certificate authority; a successor is made at two thirds of it
  std::chrono::hours leaf_life{24 * 7};  ///< of our certificate; renewed at half
  std::chrono::seconds overlap{3600};    ///< both are published for so long before the new one signs
};

/// The certificate authority that nodes know ballast-global by. Its keys lie in the Secret ballast-ca, which
/// both replicas read; its certificates in the ConfigMap ballast-ca, which every node mounts. Before the
/// newest signs, it has been published long enough to have come everywhere; the one before stays until it
/// expires.
class Authority {
 public:
  /// Reads the Secret, or makes it; publishes; writes our own certificate into a folder of its own.
  static Result<Authority> open(kube::Client& client, AuthorityOptions options);
  /// Renews what is due; to be called now and then by who leads. Errors leave what is there in force.
  Status refresh();
  /// For sync::ServerOptions::tls.
  sync::TlsFiles files() const;

 private:
  struct Pair {
    std::string certificate, key;  ///< PEM
  };
  Authority(kube::Client& client, AuthorityOptions options, TempDir folder);
  Status load_or_make();
  Status publish();
  Status sign();

  AuthorityOptions options_;
  StoredObject secret_, published_;
  TempDir folder_;
  Pair newest_, before_;  ///< `before_` is empty where there was none
  std::string signed_by_;
  std::chrono::system_clock::time_point leaf_until_{};
};

}  // namespace ballast::cluster
