// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <functional>
#include <string>

#include "model/cluster/stored_object.h"
#include "model/sync/checkpoint/checkpoint.h"

namespace ballast::cluster {

/// The state of the global network in a ConfigMap, where no disk is shared: one checkpoint of 62 kB, with its
/// epoch and who wrote it, and the gains of Services, beside it. Who leads writes its epoch first; a former
/// leader's write then meets another resourceVersion, finds a higher epoch and is over.
class CheckpointObject final : public sync::StateStore {
 public:
  /// `leads`: whether this process may write now (the Lease). `holder`: its name.
  CheckpointObject(kube::Client& client, const std::string& ns, std::string holder,
                   std::function<bool()> leads, std::size_t parameters,
                   const std::string& name = "ballast-checkpoint")
      : object_(client, StoredObject::Kind::kConfigMap, ns, name),
        holder_(std::move(holder)),
        leads_(std::move(leads)),
        parameters_(parameters) {}

  Status still_leads(std::uint64_t epoch) const override;
  Result<sync::GlobalState> load(const policy::Parameters& fallback) override;
  Status save(const sync::GlobalState& state) override;
  /// Nothing: each version would be a write of 83 kB to etcd. A killed leader's successor goes on from the
  /// last checkpoint.
  Status save_live(const sync::GlobalState& /*state*/) override { return ok(); }

 private:
  StoredObject object_;
  std::string holder_;
  std::function<bool()> leads_;
  std::size_t parameters_;
  std::string deposed_;  ///< why; empty while nobody of a higher epoch was met
};

}  // namespace ballast::cluster
