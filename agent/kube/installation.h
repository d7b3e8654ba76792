// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <memory>
#include <mutex>
#include <string>

#include "agent/kube/client.h"
#include "agent/kube/watch.h"

namespace ballast::kube {

struct InstallationOptions {
  ClientOptions api;
  std::string ns;                          ///< where we run
  std::string daemon_set = "ballastd";     ///< that our pod is of
  std::string account = "ballast-global";  ///< that goes when ours goes
  std::chrono::milliseconds asking{3000};  ///< how long going() may ask
};

/// Is what this agent belongs to being taken away, or does only its pod end (a roll, an upgrade, a drained
/// node)? Asked at the end: of the DaemonSet, and of the namespace, whose pods may go before it. By then the
/// account may be gone and every right with it: `kubectl delete -k` deletes it before the pods end. A refusal
/// alone says little (a role was edited; a pod deleted by force takes its token along). So an account is
/// watched from the beginning: such a stream outlives our rights.
class Installation {
 public:
  /// Errors: as Client::create().
  static Result<std::unique_ptr<Installation>> follow(InstallationOptions options);
  ~Installation();
  Installation(const Installation&) = delete;
  Installation& operator=(const Installation&) = delete;

  /// What says that it is being taken away; empty where nothing does, also where nobody could be asked.
  std::string going();
  /// It is known that all is there: what is missing at the end has been taken away.
  bool seen() const { return seen_; }
  /// Why going() may have to say nothing; empty while all is well.
  std::string trouble() const;

 private:
  enum class There { kYes, kGoing, kGone, kUnknown };
  Installation(InstallationOptions options, std::unique_ptr<Client> client);
  There look(const std::string& path);
  void see();

  const InstallationOptions options_;
  const std::string daemon_set_;  ///< its path
  const std::string namespace_;   ///< its path
  const std::unique_ptr<Client> client_;
  std::atomic<bool> seen_{false};
  std::atomic<bool> account_gone_{false};
  mutable std::mutex mutex_;
  std::string trouble_;
  std::unique_ptr<Watch> account_;
};

}  // namespace ballast::kube
