// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/kube/client.h"
#include "core/base/file.h"
#include "core/base/process.h"

/// The real thing, in a network namespace of its own: nothing of it is reachable from outside, and
/// ports are free.
namespace ballast::mesh {

namespace fs = std::filesystem;
using kube::Json;

inline constexpr const char* kHost = "10.77.0.1";
inline constexpr int kApiPort = 6443;
inline constexpr int kIstiodPort = 15010;
inline constexpr int kCaPort = 15012;
inline constexpr int kIstiodMonitoringPort = 15014;
inline constexpr int kWebhookPort = 15017;
inline constexpr const char* kAdminToken = "admin-token";

/// The folder of the repository.
fs::path repository();

/// Is istiod that of spring 2026 (tests/mesh/before; BALLAST_MESH_ISTIOD=pilot-discovery-before)?
bool istiod_is_before();
/// Why the mesh cannot run here; nullopt when it can.
std::optional<std::string> missing();
/// Why istiod's certificates cannot be had here.
std::optional<std::string> missing_pilot_agent();
/// Moves this process, which must have one thread yet, into a network namespace with 10.77.0.0/16 and
/// 127.0.0.0/8 on loopback. nullopt when that worked.
std::optional<std::string> enter_namespace();

/// Exit code (-1: not started, -2: not ended in time) and all output of a program.
struct Ended {
  int code = -1;
  std::string output;
};

/// etcd, kube-apiserver (RBAC on, etcd behind it) and istiod, with Istio's CRDs.
class ControlPlane {
 public:
  static Result<std::unique_ptr<ControlPlane>> start();

  const fs::path& folder() const { return dir_.path(); }
  fs::path ca() const { return folder() / "ca.crt"; }
  fs::path admin_token() const { return folder() / "admin.token"; }
  std::string server() const { return "https://" + std::string(kHost) + ":" + std::to_string(kApiPort); }
  kube::ClientOptions options(const fs::path& token) const;
  kube::Client& admin() { return *admin_; }

  /// One call as the administrator that has to succeed; the reply's JSON.
  Json must(const std::string& method, const std::string& path, const Json& body = nullptr,
            const char* content_type = kube::kJsonBody);
  /// The status of a call as the administrator.
  long status_of(const std::string& method, const std::string& path, const Json& body = nullptr,
                 const char* content_type = kube::kJsonBody);
  /// kubectl as the administrator.
  Ended kubectl(std::vector<std::string> arguments, std::chrono::seconds timeout = std::chrono::seconds(60));
  Ended run(std::vector<std::string> argv, std::chrono::seconds timeout);

  /// kubectl apply -k of an overlay of deploy/daemonset, unless it is the one that is installed.
  Ended install(const std::string& overlay = "active");
  /// Tests run one ballastd that is node and writer: ballast-global's account gets a node's rights too; or
  /// not, where rights are what is tested.
  void bind_both();
  void unbind_both();
  /// kubectl delete -k of it, and of what is in its namespace; then ends the namespace as the namespace
  /// controller would, which does not run here.
  Ended uninstall(const std::string& overlay = "active");
  /// A file with a fresh token of a service account, for the API server or for another audience.
  fs::path account_token(const std::string& account, const std::string& ns = "ballast-system",
                         const std::string& audience = "");

  /// istiod's pushes so far of one type: eds, cds, lds, rds.
  double pushes(const std::string& type) const;

  Status start_etcd();
  /// With `mtls` it signs certificates (on kCaPort) and tells proxies to use them.
  /// `env`: more of its settings. With `validates` it looks at each of Istio's objects that is written, as
  /// Istio's own installation has it (a ValidatingWebhookConfiguration, which is gone with the next start).
  Status start_istiod(bool mtls = false, const std::vector<std::string>& env = {}, bool validates = false);
  Status start_api_server();
  /// One controller of Kubernetes' (garbage-collector-controller, endpointslice-controller: nothing else of
  /// kube-controller-manager), while the process lives.
  Result<ChildProcess> start_controller(const std::string& name);
  ChildProcess& etcd() { return etcd_; }
  ChildProcess& istiod() { return istiod_; }
  ChildProcess& api_server() { return api_server_; }

 private:
  explicit ControlPlane(TempDir dir) : dir_(std::move(dir)) {}
  Status make_credentials();
  Status make_crds();
  void ask_istiod_to_validate();
  Result<ChildProcess> spawn(std::vector<std::string> argv, const std::string& log,
                             std::vector<std::string> env = {});

  TempDir dir_;
  std::string installed_;  ///< the overlay; empty: none
  ChildProcess etcd_;
  ChildProcess api_server_;
  ChildProcess istiod_;
  std::unique_ptr<kube::Client> admin_;
};

/// The one control plane of this program; started at its first use. Null, with the reason printed, when
/// it did not come up.
ControlPlane* plane();
void stop_plane();

/// Polls for a minute by default: what takes a second or two takes long on a busy machine.
template <typename Condition>
bool eventually(Condition condition, std::chrono::milliseconds limit = std::chrono::seconds(60),
                std::chrono::milliseconds pause = std::chrono::milliseconds(20)) {
  const auto end = std::chrono::steady_clock::now() + limit;
  while (!condition()) {
    if (std::chrono::steady_clock::now() > end) {
      return false;
    }
    std::this_thread::sleep_for(pause);
  }
  return true;
}

}  // namespace ballast::mesh
