// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <string>

#include "agent/kube/client.h"
#include "core/base/result.h"

namespace ballast::cluster {

/// What an object of ours holds.
struct Stored {
  std::map<std::string, std::string> data;   ///< bytes by key
  std::map<std::string, std::string> notes;  ///< annotations
  bool operator==(const Stored&) const = default;
};

/// One ConfigMap or Secret of ours. Each write is refused where another wrote since the last read or write
/// of this one (resourceVersion). Not thread-safe.
class StoredObject {
 public:
  enum class Kind { kConfigMap, kSecret };
  enum class Written { kDone, kConflict };

  StoredObject(kube::Client& client, Kind kind, std::string ns, std::string name)
      : client_(client), kind_(kind), ns_(std::move(ns)), name_(std::move(name)) {}

  /// From the API server's store, not its cache. Empty where there is no object.
  Result<Stored> read();
  /// The whole object; made where there was none at the last read. kConflict: another wrote meanwhile, read
  /// again.
  Result<Written> write(const Stored& stored);
  std::string path() const;  ///< of the object, for errors

 private:
  kube::Client& client_;
  Kind kind_;
  std::string ns_, name_;
  std::string version_;  ///< resourceVersion last seen; empty: none
};

}  // namespace ballast::cluster
