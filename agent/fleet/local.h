// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <vector>

#include "agent/fleet/fleet.h"
#include "core/observe/persistence.h"

namespace ballast::fleet {

/// The fleet of one node, in process: this node's report is all there is.
class LocalFleet final : public Fleet {
 public:
  std::vector<Service> exchange(LocalReport report) override;

 private:
  std::map<spec::ServiceId, observe::PersistenceEstimator> persistence_;
};

}  // namespace ballast::fleet
