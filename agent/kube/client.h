// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <ctime>
#include <filesystem>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include "core/base/backoff.h"
#include "core/base/clock.h"
#include "core/base/options.h"
#include "core/base/result.h"

/// The Kubernetes API, as every room that talks to it uses it: one client, its watches, Leases and
/// Events. HTTP and TLS are libcurl's, JSON is nlohmann's.
namespace ballast::kube {

/// JSON of an object of the API. Parsed without exceptions: look before you read.
using Json = nlohmann::json;

struct ClientOptions {
  std::string server;                ///< https://HOST:PORT
  std::filesystem::path ca_file;     ///< empty: the system's trust; there is no way not to verify
  std::filesystem::path token_file;  ///< empty: no token; read again when it changes
  std::chrono::milliseconds connect_timeout{3000};
  std::chrono::milliseconds request_timeout{10'000};
  /// How long one call may go on with attempts, Retry-After included.
  std::chrono::milliseconds retry_budget{20'000};
  std::chrono::milliseconds backoff_least{100};
  std::chrono::milliseconds backoff_most{5000};
  bool operator==(const ClientOptions&) const = default;

  void declare(options::Schema& s) {
    s.section("kubernetes");
    s.text("server", server, "https://HOST:PORT",
           "the API server; empty: in the cluster, by the pod's service account");
    s.file("ca_file", ca_file, "with a server: who signed its certificate");
    s.file("token_file", token_file, "with a server: our token, read again when it changes");
    s.rule({"server", "ca_file", "token_file"}, [this]() -> options::Wrong {
      return server.empty() && !(ca_file.empty() && token_file.empty())
                 ? options::Wrong(
                       "a CA or a token is given, but no server; give kubernetes.server: https://HOST:PORT")
                 : std::nullopt;
    });
  }
};

/// Where a pod finds its API server: KUBERNETES_SERVICE_HOST and _PORT, and the service account's
/// files under `folder`. kUsage, naming what is missing, outside a cluster.
Result<ClientOptions> in_cluster(
    const std::filesystem::path& folder = "/var/run/secrets/kubernetes.io/serviceaccount");

/// Content types of PATCH.
inline constexpr const char* kMergePatch = "application/merge-patch+json";
inline constexpr const char* kApplyPatch = "application/apply-patch+yaml";  ///< JSON is YAML
inline constexpr const char* kJsonBody = "application/json";
/// Asked for as an answer: the object's, or each item's, metadata and nothing else.
inline constexpr const char* kMetadata = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
inline constexpr const char* kMetadataList =
    "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

struct Request {
  std::string method = "GET";
  std::string path;  ///< with its query, percent-encoded: /api/v1/pods?limit=500
  std::string body;
  std::string content_type = kJsonBody;
  std::string accept = kJsonBody;
  /// Of a stream: without a byte for so long it is dead, whatever TCP says (a peer that is gone behind a
  /// proxy, a route that was lost). Looked at once a second.
  std::chrono::seconds silence{150};
  /// Of a stream: what is told is the objects of a list (a page may be as large as a collection), not lines.
  bool objects_of_list = false;
};

struct Reply {
  long status = 0;
  std::string body;
  std::time_t date = -1;  ///< the server's clock; -1 where it does not say
  bool ok() const { return status >= 200 && status < 300; }
  /// The body; discarded() when it is no JSON.
  Json json() const { return Json::parse(body, nullptr, false); }
};

/// Thread-safe. Keeps connections open between calls.
class Client {
 public:
  /// kUsage for a server that is no https URL (http is taken for loopback alone), and for files that
  /// cannot be read.
  static Result<std::unique_ptr<Client>> create(ClientOptions options);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  /// The reply of the server, whatever its status. 429 and 503 are tried again after Retry-After, or
  /// after a back-off; so are broken connections and other 5xx, except for POST, which might have
  /// been done. 401 is tried once more with the token as it is then on disk.
  /// Errors: kFailed, "METHOD PATH: reason", when no reply came within the budget or stop() was called.
  Result<Reply> call(const Request& request);

  /// call() and its body; a status other than 2xx is an error that says the server's own message.
  Result<Json> get(const std::string& path);

  /// Reads a stream of lines (a watch), or the objects of a list, until it ends, `line` says false, or stop()
  /// is called. In memory there is one of them at a time.
  /// The reply has the status, and the body when it is no 2xx.
  /// Errors: as call(), and a line or object longer than 16 MiB. Never tries again.
  Result<Reply> stream(const Request& request, const std::function<bool(std::string_view)>& line);

  /// Ends what is under way, at once; every later call fails at once.
  void stop();
  bool stopped() const { return stopped_; }
  /// false when stop() was called meanwhile.
  bool sleep(std::chrono::milliseconds time);

  /// What is wrong with the API server now, empty when the last call came through: for status and
  /// metrics.
  std::string trouble() const;
  /// Did a call or a stream break off within this time?
  bool away_within(std::chrono::seconds time) const;

 private:
  struct Handle;
  class Lent;
  explicit Client(ClientOptions options);
  Result<Reply> once(const Request& request, const std::function<bool(std::string_view)>* line,
                     std::chrono::milliseconds& retry_after);
  std::string token();
  void note(const std::string& trouble);

  const ClientOptions options_;
  std::atomic<bool> stopped_{false};
  std::atomic<MonotonicNs> away_at_{0};  ///< the last call or stream that broke off
  mutable std::mutex mutex_;             ///< guards what is below
  std::condition_variable wake_;
  std::vector<std::unique_ptr<Handle>> idle_;
  std::set<Handle*> lent_;  ///< those of calls under way
  std::string trouble_;
  std::string token_;
  std::filesystem::file_time_type token_time_{};
};

/// An error with the message of the server's Status object: "GET /path: 403 Forbidden: pods is
/// forbidden: ...". kPrivilege for 401 and 403, else kFailed.
Error api_error(const Request& request, const Reply& reply);

/// Percent-encodes one value of a query.
std::string encode(const std::string& text);

/// `object[a][b]...` as text; empty when something on the way is missing or no text.
std::string text_at(const Json& object, std::initializer_list<const char*> path);
/// The object below, or null.
const Json& at(const Json& object, std::initializer_list<const char*> path);

}  // namespace ballast::kube
