// SPDX-License-Identifier: Apache-2.0
#include "control_plane.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <string.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>

#include "tools/lab/http.h"

namespace ballast::mesh {
namespace {

constexpr const char* kBoth = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings";

constexpr const char* kWebhooks =
    "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/istio-validator";

using std::chrono::milliseconds;
using std::chrono::seconds;

fs::path build_folder() {
  return binary_dir().parent_path().parent_path().parent_path();
}
fs::path program(const std::string& name) {
  return build_folder() / "mesh" / name;
}
/// The istiod of tests/mesh/modules, or another that the environment names (tools/mesh/build.sh builds it).
std::string istiod_program() {
  const char* named = std::getenv("BALLAST_MESH_ISTIOD");
  return named != nullptr && *named != '\0' ? named : "pilot-discovery";
}

Status wait_for(const std::string& what, ChildProcess& process, const fs::path& log,
                const std::function<bool()>& ready) {
  const bool up = eventually([&] { return ready() || !process.running(); }, seconds(120), milliseconds(100));
  if (up && process.running()) {
    return ok();
  }
  const auto text = read_file(log);
  const std::string tail = text ? text->substr(text->size() > 3000 ? text->size() - 3000 : 0) : "";
  return Error::failed(what + " did not come up:\n" + tail);
}

}  // namespace

fs::path repository() {
  return build_folder().parent_path();
}

bool istiod_is_before() {
  return istiod_program() == "pilot-discovery-before";
}

std::optional<std::string> missing() {
  if (::geteuid() != 0) {
    return "root is needed for a network namespace and cgroups";
  }
  for (const std::string& name :
       {istiod_program(), std::string("kube-apiserver"), std::string("istio-crds.yaml")}) {
    if (!fs::exists(program(name))) {
      return "build/mesh/" + name + " is not there; run tools/mesh/build.sh (needs Go)";
    }
  }
  for (const char* name : {"etcd", "openssl", "ip"}) {
    if (std::system(("command -v " + std::string(name) + " >/dev/null").c_str()) != 0) {
      return std::string(name) + " is not installed";
    }
  }
  return std::nullopt;
}

std::optional<std::string> missing_pilot_agent() {
  if (!fs::exists(program("pilot-agent"))) {
    return "build/mesh/pilot-agent is not there; run tools/mesh/build.sh";
  }
  const bool iptables = std::system("command -v iptables >/dev/null") == 0;
  return iptables ? std::nullopt : std::optional<std::string>("iptables is not installed");
}

std::optional<std::string> enter_namespace() {
  if (::unshare(CLONE_NEWNET) != 0) {
    return std::string("unshare: ") + ::strerror(errno);
  }
  const int done = std::system("ip link set lo up && ip addr add 10.77.0.1/16 dev lo");
  return done == 0 ? std::nullopt : std::optional<std::string>("addresses on loopback were refused");
}

kube::ClientOptions ControlPlane::options(const fs::path& token) const {
  kube::ClientOptions options;
  options.server = server();
  options.ca_file = ca();
  options.token_file = token;
  return options;
}

Result<ChildProcess> ControlPlane::spawn(std::vector<std::string> argv, const std::string& log,
                                         std::vector<std::string> env) {
  ProcessOptions options;
  options.argv = std::move(argv);
  options.env = std::move(env);
  options.output = folder() / log;
  return ChildProcess::spawn(options);
}

Ended ControlPlane::run(std::vector<std::string> argv, seconds timeout) {
  static int runs = 0;
  const std::string log = "run" + std::to_string(++runs);
  auto child = spawn(std::move(argv), log);
  if (!child) {
    return {-1, child.error().message};
  }
  const auto ended = child->wait(timeout);
  const auto text = read_file(folder() / log);
  return {ended ? ended->code : -2, text ? *text : ""};
}

Status ControlPlane::make_credentials() {
  const auto file = [this](const char* name) { return (folder() / name).string(); };
  std::ofstream(file("extensions")) << "subjectAltName=IP:" << kHost
                                    << ",IP:127.0.0.1,IP:10.96.0.1,DNS:localhost\n";
  std::ofstream(file("tokens.csv")) << kAdminToken << ",admin,admin,\"system:masters\"\n";
  std::ofstream(file("admin.token")) << kAdminToken;
  std::ofstream(file("kubeconfig")) << fmt::format(
      "apiVersion: v1\nkind: Config\ncurrent-context: c\ncontexts: [{{name: c, context: {{cluster: c, user: "
      "u}}}}]\n"
      "clusters: [{{name: c, cluster: {{server: '{}', certificate-authority: '{}'}}}}]\n"
      "users: [{{name: u, user: {{token: {}}}}}]\n",
      server(), ca().string(), kAdminToken);
  const std::vector<std::vector<std::string>> steps = {
      {"openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
       "2", "-subj", "/CN=mesh-ca", "-keyout", file("ca.key"), "-out", file("ca.crt")},
      {"openssl", "req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=api",
       "-keyout", file("api.key"), "-out", file("api.csr")},
      {"openssl", "x509", "-req", "-in", file("api.csr"), "-CA", file("ca.crt"), "-CAkey", file("ca.key"),
       "-CAcreateserial", "-days", "2", "-extfile", file("extensions"), "-out", file("api.crt")},
      {"openssl", "genrsa", "-out", file("accounts.key"), "2048"},
      {"openssl", "rsa", "-in", file("accounts.key"), "-pubout", "-out", file("accounts.pub")}};
  for (const auto& step : steps) {
    if (const Ended made = run(step, seconds(30)); made.code != 0) {
      return Error::failed(step[0] + " " + step[1] + " failed: " + made.output);
    }
  }
  return ok();
}

Status ControlPlane::start_etcd() {
  auto etcd =
      spawn({"etcd", "--unsafe-no-fsync", "--data-dir=" + (folder() / "etcd").string(),
             "--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
             "--listen-peer-urls=http://127.0.0.1:2380"},
            "etcd.log", {"ETCD_UNSUPPORTED_ARCH="});
  if (!etcd) {
    return etcd.error();
  }
  etcd_ = std::move(*etcd);
  return ok();
}

Status ControlPlane::start_api_server() {
  const auto file = [this](const char* name) { return (folder() / name).string(); };
  auto api =
      spawn({program("kube-apiserver"), "--etcd-servers=http://127.0.0.1:2379", "--bind-address=0.0.0.0",
             "--advertise-address=" + std::string(kHost), "--secure-port=" + std::to_string(kApiPort),
             "--cert-dir=" + file("certs"), "--tls-cert-file=" + file("api.crt"),
             "--tls-private-key-file=" + file("api.key"), "--token-auth-file=" + file("tokens.csv"),
             "--authorization-mode=RBAC", "--service-cluster-ip-range=10.96.0.0/16,fd77:96::/112",
             "--allow-privileged=true", "--disable-admission-plugins=ServiceAccount",
             "--service-account-issuer=https://kubernetes.default.svc",
             "--service-account-key-file=" + file("accounts.pub"),
             "--service-account-signing-key-file=" + file("accounts.key")},
            "apiserver.log");
  if (!api) {
    return api.error();
  }
  api_server_ = std::move(*api);
  return wait_for("kube-apiserver", api_server_, folder() / "apiserver.log", [this] {
    const auto reply = admin_->call({.path = "/readyz"});
    return reply && reply->status == 200;
  });
}

Status ControlPlane::start_istiod(bool mtls, const std::vector<std::string>& env, bool validates) {
  status_of("DELETE", kWebhooks);  // of one that has gone it would refuse every write
  std::ofstream(folder() / "mesh.yaml")
      << fmt::format("enableAutoMtls: {}\naccessLogFile: \"\"\n", mtls ? "true" : "false");
  std::vector<std::string> settings = {fmt::format("ENABLE_CA_SERVER={}", mtls),
                                       "INJECT_ENABLED=false",
                                       "VALIDATION_WEBHOOK_CONFIG_NAME=",
                                       "PILOT_ENABLE_METADATA_EXCHANGE=false",
                                       "PILOT_ENABLE_ALPN_FILTER=false",
                                       "POD_NAMESPACE=istio-system",
                                       "POD_NAME=istiod"};
  settings.insert(settings.end(), env.begin(), env.end());
  std::vector<std::string> argv = {
      program(istiod_program()),
      "discovery",
      "--kubeconfig=" + (folder() / "kubeconfig").string(),
      "--registries=Kubernetes",
      "--clusterID=Kubernetes",
      "-n",
      "istio-system",
      "--meshConfig=" + (folder() / "mesh.yaml").string(),
      fmt::format("--grpcAddr={}:{}", kHost, kIstiodPort),
      "--httpAddr=127.0.0.1:8081",
      validates ? fmt::format("--httpsAddr={}:{}", kHost, kWebhookPort) : "--httpsAddr=",
      fmt::format("--secureGRPCAddr={}", mtls ? fmt::format("{}:{}", kHost, kCaPort) : ""),
      fmt::format("--monitoringAddr=127.0.0.1:{}", kIstiodMonitoringPort),
      "--ctrlz_port=0"};
  if (validates) {
    for (const auto& [flag, file] : {std::pair("tlsCertFile", "api.crt"), std::pair("tlsKeyFile", "api.key"),
                                     std::pair("caCertFile", "ca.crt")}) {
      argv.push_back(fmt::format("--{}={}", flag, (folder() / file).string()));
    }
  }
  auto istiod = spawn(std::move(argv), "istiod.log", std::move(settings));
  if (!istiod) {
    return istiod.error();
  }
  istiod_ = std::move(*istiod);
  Status up = wait_for("istiod", istiod_, folder() / "istiod.log", [] {
    return lab::http_get({"127.0.0.1", 8081}, "/ready", 1000).ok();
  });
  if (up && validates) {
    ask_istiod_to_validate();
  }
  return up;
}

void ControlPlane::ask_istiod_to_validate() {
  const Ended ca = run({"openssl", "base64", "-A", "-in", (folder() / "ca.crt").string()}, seconds(10));
  must("POST", fs::path(kWebhooks).parent_path().string(),
       {{"metadata", {{"name", fs::path(kWebhooks).filename().string()}}},
        {"webhooks",
         Json::array({{{"name", "validation.istio.io"},
                       {"clientConfig",
                        {{"url", fmt::format("https://{}:{}/validate", kHost, kWebhookPort)},
                         {"caBundle", ca.output}}},
                       {"rules", Json::array({{{"operations", {"CREATE", "UPDATE"}},
                                               {"apiGroups", {"networking.istio.io", "security.istio.io"}},
                                               {"apiVersions", {"*"}},
                                               {"resources", {"*"}}}})},
                       {"failurePolicy", "Fail"},
                       {"sideEffects", "None"},
                       {"admissionReviewVersions", {"v1"}}}})}});
}

Result<ChildProcess> ControlPlane::start_controller(const std::string& name) {
  fs::path manager = program("kube-controller-manager");
  if (!fs::exists(manager)) {
    // What tests/cluster builds lies outside the tree.
    const Ended where =
        run({(repository() / "tests/cluster/programs.sh").string(), "--where"}, std::chrono::seconds(20));
    manager = fs::path(where.output.substr(0, where.output.find('\n'))) / "kube-controller-manager";
  }
  if (!fs::exists(manager)) {
    return Error::failed(
        manager.string() +
        " is not there; run tests/cluster/programs.sh or tools/mesh/build.sh kube-controller-manager");
  }
  return spawn({manager, "--kubeconfig=" + (folder() / "kubeconfig").string(), "--controllers=" + name,
                "--leader-elect=false", "--secure-port=0"},
               "controllers.log");
}

Status ControlPlane::make_crds() {
  auto text = read_file(program("istio-crds.yaml"));
  if (!text) {
    return text.error();
  }
  if (const auto gateway = read_file(program("gateway-crds.yaml"))) {
    *text += "\n" + *gateway;
  }
  for (std::size_t begin = 0; begin < text->size();) {
    const std::size_t end = std::min(text->find("\n---", begin), text->size());
    const std::string document = text->substr(begin, end - begin);
    begin = end + 4;
    if (document.find("CustomResourceDefinition") == std::string::npos) {
      continue;
    }
    const kube::Request request{.method = "POST",
                                .path = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
                                .body = document,
                                .content_type = "application/yaml"};
    const auto reply = admin_->call(request);
    if (!reply || !reply->ok()) {
      return reply ? kube::api_error(request, *reply) : reply.error();
    }
  }
  return ok();
}

Result<std::unique_ptr<ControlPlane>> ControlPlane::start() {
  auto dir = TempDir::create(fs::temp_directory_path(), "ballast-mesh-");
  if (!dir) {
    return dir.error();
  }
  std::unique_ptr<ControlPlane> plane(new ControlPlane(std::move(*dir)));
  if (Status made = plane->make_credentials(); !made) {
    return made.error();
  }
  kube::ClientOptions options = plane->options(plane->admin_token());
  options.request_timeout = seconds(30);
  auto admin = kube::Client::create(options);
  if (!admin) {
    return admin.error();
  }
  plane->admin_ = std::move(*admin);
  if (Status up = plane->start_etcd(); !up) {
    return up.error();
  }
  if (Status up = plane->start_api_server(); !up) {
    return up.error();
  }
  if (Status made = plane->make_crds(); !made) {
    return made.error();
  }
  for (const char* name : {"istio-system", "shop", "ballast-system"}) {
    plane->must("POST", "/api/v1/namespaces", {{"metadata", {{"name", name}}}});
  }
  const bool established = eventually([&] {
    return plane->status_of("GET", "/apis/networking.istio.io/v1/virtualservices") == 200 &&
           plane->status_of("GET", "/apis/networking.istio.io/v1/serviceentries") == 200 &&
           plane->status_of("GET", "/apis/networking.istio.io/v1/gateways") == 200;
  });
  if (!established) {
    return Error::failed("Istio's CRDs were not established");
  }
  if (Status up = plane->start_istiod(); !up) {
    return up.error();
  }
  return plane;
}

Json ControlPlane::must(const std::string& method, const std::string& path, const Json& body,
                        const char* content_type) {
  const kube::Request request{.method = method,
                              .path = path,
                              .body = body.is_null() ? "" : body.dump(),
                              .content_type = content_type};
  const auto reply = admin_->call(request);
  if (!reply || !reply->ok()) {
    ADD_FAILURE() << (reply ? kube::api_error(request, *reply).message : reply.error().message);
    return Json();
  }
  return reply->json();
}

long ControlPlane::status_of(const std::string& method, const std::string& path, const Json& body,
                             const char* content_type) {
  const auto reply = admin_->call({.method = method,
                                   .path = path,
                                   .body = body.is_null() ? "" : body.dump(),
                                   .content_type = content_type});
  return reply ? reply->status : 0;
}

Ended ControlPlane::kubectl(std::vector<std::string> arguments, seconds timeout) {
  std::vector<std::string> argv = {program("kubectl"), "--kubeconfig", (folder() / "kubeconfig").string(),
                                   "--cache-dir", (folder() / "kubectl").string()};
  argv.insert(argv.end(), arguments.begin(), arguments.end());
  return run(std::move(argv), timeout);
}

Ended ControlPlane::install(const std::string& overlay) {
  Ended ended{.code = 0};
  if (installed_ != overlay) {
    ended = kubectl({"apply", "-k", (repository() / "deploy/daemonset/overlays" / overlay).string()},
                    seconds(180));
    installed_ = ended.code == 0 ? overlay : "";
  }
  bind_both();
  return ended;
}

void ControlPlane::bind_both() {
  status_of(
      "POST", kBoth,
      {{"metadata", {{"name", "both"}}},
       {"roleRef", {{"apiGroup", "rbac.authorization.k8s.io"}, {"kind", "ClusterRole"}, {"name", "ballast"}}},
       {"subjects",
        Json::array(
            {{{"kind", "ServiceAccount"}, {"name", "ballast-global"}, {"namespace", "ballast-system"}}})}});
}

void ControlPlane::unbind_both() {
  status_of("DELETE", std::string(kBoth) + "/both");
}

Ended ControlPlane::uninstall(const std::string& overlay) {
  const std::string ns = "/api/v1/namespaces/ballast-system";
  installed_.clear();
  // The namespace controller would remove these: the Lease is our own, the others come with a namespace.
  status_of("DELETE", "/apis/coordination.k8s.io/v1/namespaces/ballast-system/leases");
  Ended ended = kubectl({"delete", "--wait=false", "--ignore-not-found", "-k",
                         (repository() / "deploy/daemonset/overlays" / overlay).string()},
                        seconds(180));
  Json left = must("GET", ns);
  left["spec"]["finalizers"] = Json::array();
  status_of("PUT", ns + "/finalize", left);
  eventually([&] { return status_of("GET", ns) == 404; });
  return ended;
}

fs::path ControlPlane::account_token(const std::string& account, const std::string& ns,
                                     const std::string& audience) {
  static int tokens = 0;
  Json spec = Json::object();
  if (!audience.empty()) {
    spec["audiences"] = Json::array({audience});
  }
  const Json made =
      must("POST", "/api/v1/namespaces/" + ns + "/serviceaccounts/" + account + "/token",
           {{"apiVersion", "authentication.k8s.io/v1"}, {"kind", "TokenRequest"}, {"spec", spec}});
  fs::path file = folder() / ("token" + std::to_string(++tokens));
  std::ofstream(file) << kube::text_at(made, {"status", "token"});
  return file;
}

double ControlPlane::pushes(const std::string& type) const {
  const auto page = lab::http_get({"127.0.0.1", kIstiodMonitoringPort}, "/metrics", 3000);
  const std::string key = "pilot_xds_pushes{type=\"" + type + "\"} ";
  const std::size_t found = page ? page->find("\n" + key) : std::string::npos;
  return found == std::string::npos ? 0 : std::atof(page->c_str() + found + 1 + key.size());
}

namespace {
std::unique_ptr<ControlPlane>& the_plane() {
  static std::unique_ptr<ControlPlane> plane;
  return plane;
}
}  // namespace

ControlPlane* plane() {
  static bool tried = false;
  if (!tried) {
    tried = true;
    auto started = ControlPlane::start();
    if (started) {
      the_plane() = std::move(*started);
    } else {
      fmt::print(stderr, "mesh: {}\n", started.error().message);
    }
  }
  return the_plane().get();
}

void stop_plane() {
  the_plane().reset();
}

}  // namespace ballast::mesh
