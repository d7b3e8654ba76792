// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <functional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "agent/actuate/istio/plan.h"
#include "agent/kube/client.h"
#include "core/base/result.h"

namespace ballast::actuate::istio {

/// Annotation of the leader's Lease: Services (NAMESPACE/NAME, commas between) that an operator took
/// back by hand; "*" for all. The leader leaves them alone until the annotation is gone.
inline constexpr const char* kReleasedAnnotation = "ballast.dev/released";

/// Objects of ours a page of a list: an entry of 500 endpoints is more than a megabyte when it is parsed.
inline constexpr int kPage = 20;

/// A spec that is kept, as text, compressed where it is long: one of 500 endpoints is 100 KB of text, the
/// most of it the same for each, and parsed several times that.
class Kept {
 public:
  Kept() = default;
  Kept(const Json& spec);
  Json json() const { return is_null() ? Json() : Json::parse(text(), nullptr, false); }
  bool is_null() const { return size_ == 0; }
  std::size_t endpoints() const { return endpoints_; }  ///< so many it has
  bool operator==(const Json& spec) const;

 private:
  std::string text() const;  ///< its keys are in order
  std::size_t size_ = 0;     ///< of the text
  std::size_t endpoints_ = 0;
  std::string packed_;
};

/// An object of ours as the API server has it. A write carries the version, so that it cannot land on
/// what somebody else made or changed meanwhile: the write of a leader that was deposed, above all.
struct Object {
  std::string uid;  ///< empty: not there, as far as we know
  std::string version;
  std::string created;          ///< creationTimestamp
  std::int64_t generation = 0;  ///< grows with every change of the spec
  Kept spec;                    ///< null: somebody else was at it, and it is to be looked at
  Kept metadata;                ///< what anybody may set of it, where that is not ours alone
  bool labelled = true;         ///< it has our labels still
  bool stood = false;           ///< the API server has shown it since it was made
  bool seen = false;            ///< the API server has shown it since it was written
  std::uint64_t at = 0;         ///< when our last write of it began, on SystemClock
};

/// An object of ours in the cluster.
struct Owned {
  std::string ns;
  std::string name;
  std::string service;  ///< the Service that it stands for
  std::string uid;
  std::int64_t generation = 0;
  bool own_host = false;  ///< a ServiceEntry of the Service's own host
  bool labelled = true;   ///< false: somebody took our label from it
  std::string key() const { return ns + "/" + service; }
};
Owned owned_of(const Json& object);

/// What a pod's metadata says of it: all but its service account.
void take_metadata(const Json& pod, PodFacts& facts);

/// Is it Ballast's, and of the Ballast of this Lease (NAMESPACE.NAME)? What names none is everybody's. Told
/// by our label; where somebody took that from it by its owner, the role kOwnerRole, and its name.
bool ours(const Json& object, const std::string& lease);

/// What somebody else did to an object of ours, which was then written over.
enum class Others { kNothing, kChanged, kRemoved };

/// The reads and writes of Istio's objects. All writes may be made twice. `may_write` is asked before each: a
/// leader whose Lease has run out meanwhile must not.
class Writer {
 public:
  Writer(kube::Client& client, std::string lease);
  std::function<bool()> may_write = [] { return true; };
  /// Asked before an object is made: was its Service (NAMESPACE/NAME) released by hand meanwhile?
  std::function<bool(const std::string& service)> released = [](const std::string&) { return false; };
  /// Asked between the reads of one Service: false ends them, and the next call goes on where they ended.
  std::function<bool()> may_read = [] { return true; };

  /// Makes the object what `wanted` says: posted when it is not there, else put in place of the version that
  /// is known, with what others put beside our metadata.
  /// `have` becomes what the API server answers. `others` says what somebody else had done, which is written
  /// over once. kUsage when an object of that name is there and is not ours, or when the server refuses what
  /// it says (4xx): the operator has to do something.
  Status put(const Json& wanted, Object& have, Others& others);
  /// Done too when it is not there, or when what is there is another than that of this uid. Without a uid
  /// only what is ours is deleted.
  Status remove(const std::string& kind, const std::string& ns, const std::string& name,
                const std::string& uid);
  /// Where deleting is refused: an entry without endpoints, a route that leads to the plain Service.
  Status disarm(const std::string& kind, const std::string& ns, const std::string& name,
                const std::string& host);
  /// What is there under this name: `have` without a uid when nothing is. kUsage when it is not ours, and
  /// another than that of the uid of `have`.
  Status look(const Json& wanted, Object& have);
  /// All of ours: kind is VirtualService, ServiceEntry or EnvoyFilter. Empty where Istio is not installed.
  Result<std::vector<Owned>> list(const std::string& kind);

  /// Labels and service accounts of the pods of endpoints that are not known yet: one by one, or by a list
  /// where they are many. Ok too where may_read() ended it. Sets `from_cache` where what it read may be older
  /// than what a watch told.
  Status read_pods(const kube::Service& service, Facts& facts, bool& from_cache);
  /// The labels of the Service's pods as they are now.
  Status refresh_labels(const kube::Service& service, Facts& facts);
  /// Localities of the nodes of endpoints that are not known yet.
  Status read_nodes(const kube::Service& service, Facts& facts);
  /// uid of the ClusterRole; empty when it is not there.
  Result<std::string> role_uid(const std::string& name);

 private:
  Result<kube::Reply> write(const kube::Request& request);
  Status look_again(const Json& wanted, Object& have, Others& others);
  Status pages(const std::string& path, const std::function<void(const Json&)>& each);
  Status each_of(kube::Request request, const std::function<void(const Json&)>& each);
  Status each_pod(const kube::Service& service, const char* accept,
                  const std::function<void(const Json&)>& each);

  kube::Client& client_;
  const std::string lease_;
  std::chrono::seconds sweep_silence_;  ///< longer after each list that failed
};

/// What the Lease's annotations say was released.
std::set<std::string> released(const Json& annotations);

/// `ballastctl release`: notes at the Lease that `service` (NAMESPACE/NAME, or "*" for all) is taken
/// back, so that a leader which lives lets go of it, then removes the overrides itself, which works
/// without a leader too: first the VirtualServices, and two seconds after the leader has renewed its Lease,
/// when it knows and proxies have the plain route again, the ServiceEntries. Says how many objects were
/// removed.
Result<int> release_by_hand(kube::Client& client, const std::string& lease_ns, const std::string& lease_name,
                            const std::string& service);

}  // namespace ballast::actuate::istio
