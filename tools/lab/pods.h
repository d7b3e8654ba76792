// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>
#include <vector>

#include "core/base/process.h"
#include "core/base/result.h"
#include "tools/lab/cgroups.h"
#include "tools/lab/http.h"
#include "tools/lab/run_space.h"
#include "tools/lab/scenario.h"

namespace ballast::lab {

/// The pods of a run: each a server process in a cgroup and on an address of its own. A pod keeps
/// both over the arms; its process is started anew for each, so that no arm inherits a queue.
class PodFleet {
 public:
  struct Member {
    PodSpec spec;  ///< quota in force
    Endpoint endpoint;
    PodCgroup cgroup;
    ChildProcess process;
    std::vector<ChildProcess> tenants;
  };

  PodFleet(const Scenario& scenario, const RunSpace& space) : scenario_(scenario), space_(space) {}

  /// The scenario's pods, with their first quotas and fresh processes that accept connections. With
  /// `report` their answers tell their load, as applications that support ORCA do.
  Status reset(bool report = false);
  Status set_quota(const std::string& pod, double quota);
  /// SIGKILL; the pod is a member no longer.
  void kill(const std::string& pod);
  /// Starts and waits until it accepts connections.
  Status add(const PodSpec& spec);
  /// Ends all processes.
  void stop() { members_.clear(); }

  const std::vector<Member>& members() const { return members_; }
  /// Everybody who has been there since reset(), in order of coming: name and endpoint.
  const std::vector<std::pair<std::string, Endpoint>>& known() const { return known_; }
  std::string name_of(const Endpoint& endpoint) const;
  /// The static identity file of ballastd.
  std::string identity_yaml() const;

 private:
  const Scenario& scenario_;
  const RunSpace& space_;
  Status add_tenants(Member& member) const;
  Status note_quota(const PodSpec& spec) const;
  std::string quota_file(const std::string& pod) const { return space_.folder() / (pod + ".quota"); }

  bool report_ = false;
  std::vector<Member> members_;
  std::vector<std::pair<std::string, Endpoint>> known_;
  std::map<std::string, Endpoint> addresses_;  ///< given once, kept over the arms
};

}  // namespace ballast::lab
