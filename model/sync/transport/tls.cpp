// SPDX-License-Identifier: Apache-2.0
#include "model/sync/transport/tls.h"

#include <grpc/grpc.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>
#include <spdlog/spdlog.h>

#include <utility>
#include <vector>

#include "core/base/file.h"
#include "model/sync/transport/credentials.h"

namespace ballast::sync {

namespace {

namespace tls = grpc::experimental;

struct Pems {
  std::string key, certificate, authority;
  bool operator==(const Pems&) const = default;
};

// A file that is just being written is empty or ends early, and gRPC aborts the process over it.
bool whole(const std::string& pem, const char* kind) {
  const std::size_t begin = pem.find("-----BEGIN ");
  const std::size_t end = pem.rfind("-----END ");
  return begin != std::string::npos && end != std::string::npos && end > begin &&
         pem.find(kind, begin) != std::string::npos && pem.find("-----", end + 9) != std::string::npos;
}

Result<std::string> read_pem(const char* flag, const std::string& path, const char* kind) {
  if (path.empty()) {
    return Error::usage(std::string(flag) + " is missing: TLS needs --tls-cert, --tls-key and --tls-ca");
  }
  auto bytes = read_file(path);
  if (!bytes) {
    return Error::usage(std::string(flag) + ": " + bytes.error().message);
  }
  if (!whole(*bytes, kind)) {
    return Error::usage(std::string(flag) + " " + path + " is not a whole PEM file of a " + kind);
  }
  return bytes;
}

/// `own`: certificate and key; `other`: what the other side is known by.
Result<Pems> read_pems(const TlsFiles& files, bool own = true, bool other = true) {
  Pems pems;
  if (other) {
    auto authority = read_pem("--tls-ca", files.authority, "CERTIFICATE");
    if (!authority) {
      return authority.error();
    }
    pems.authority = std::move(*authority);
  }
  if (!own) {
    return pems;
  }
  auto certificate = read_pem("--tls-cert", files.certificate, "CERTIFICATE");
  if (!certificate) {
    return certificate.error();
  }
  auto key = read_pem("--tls-key", files.key, "PRIVATE KEY");
  if (!key) {
    return key.error();
  }
  pems.key = std::move(*key);
  pems.certificate = std::move(*certificate);
  return pems;
}

// gRPC's certificate providers count on the library, but do not hold it as channels do.
void hold_grpc() {
  static const bool held = (grpc_init(), true);
  static_cast<void>(held);
}

}  // namespace

Status check_tls_files(const TlsFiles& files, bool token) {
  if (token && files.authority.empty()) {
    return Error::usage("a token is never sent in the clear: it needs --tls-ca");
  }
  if (files.empty() || (token && files.certificate.empty())) {
    return ok();
  }
  const auto pems = read_pems(files);
  return pems ? ok() : Status(pems.error());
}

struct ServerTls::Impl {
  TlsFiles files;
  bool tokens;
  TempDir folder;
  Pems mirrored;
  std::chrono::steady_clock::time_point looked{};

  std::string copy(const char* name) const { return (folder.path() / name).string(); }
  Result<Pems> read() const { return read_pems(files, true, !tokens); }
  Status mirror(Pems pems) {
    for (const auto& [name, bytes] :
         {std::pair{"key", &pems.key}, std::pair{"certificate", &pems.certificate},
          std::pair{"authority", &pems.authority}}) {
      if (auto written = write_file_atomic(folder.path() / name, *bytes); !written) {
        return written;
      }
    }
    mirrored = std::move(pems);
    return ok();
  }
};

ServerTls::ServerTls(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
ServerTls::~ServerTls() = default;

Result<std::unique_ptr<ServerTls>> ServerTls::create(const TlsFiles& files, bool tokens) {
  if (files.empty()) {
    return std::unique_ptr<ServerTls>(new ServerTls(nullptr));
  }
  auto pems = read_pems(files, true, !tokens);
  if (!pems) {
    return pems.error();
  }
  auto folder = TempDir::create(std::filesystem::temp_directory_path(), "ballast-tls-");
  if (!folder) {
    return folder.error();
  }
  auto impl =
      std::make_unique<Impl>(Impl{files, tokens, std::move(*folder), {}, std::chrono::steady_clock::now()});
  if (auto mirrored = impl->mirror(std::move(*pems)); !mirrored) {
    return mirrored.error();
  }
  return std::unique_ptr<ServerTls>(new ServerTls(std::move(impl)));
}

void ServerTls::refresh() {
  const auto now = std::chrono::steady_clock::now();
  if (impl_ == nullptr || now - impl_->looked < impl_->files.reload) {
    return;
  }
  impl_->looked = now;
  auto pems = impl_->read();
  if (!pems) {
    spdlog::warn("certificate not reloaded, the last one holds error=\"{}\"", pems.error().message);
  } else if (!(*pems == impl_->mirrored)) {
    const Status mirrored = impl_->mirror(std::move(*pems));
    spdlog::log(mirrored ? spdlog::level::info : spdlog::level::err,
                "certificate reloaded path={} error=\"{}\"", impl_->files.certificate,
                mirrored ? "" : mirrored.error().message);
  }
}

std::shared_ptr<grpc::ServerCredentials> ServerTls::credentials() const {
  if (impl_ == nullptr) {
    return grpc::InsecureServerCredentials();
  }
  hold_grpc();
  tls::TlsServerCredentialsOptions options(std::make_shared<tls::FileWatcherCertificateProvider>(
      impl_->copy("key"), impl_->copy("certificate"), impl_->tokens ? "" : impl_->copy("authority"), 1));
  options.watch_identity_key_cert_pairs();
  if (impl_->tokens) {
    options.set_cert_request_type(GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE);
  } else {
    options.watch_root_certs();
    options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  }
  return tls::TlsServerCredentials(options);
}

Result<std::shared_ptr<grpc::ChannelCredentials>> channel_credentials(const TlsFiles& files, bool token) {
  if (files.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  const bool own = !token || !files.certificate.empty();
  auto pems = read_pems(files, own);
  if (!pems) {
    return pems.error();
  }
  hold_grpc();
  tls::TlsChannelCredentialsOptions options;
  std::vector<tls::IdentityKeyCertPair> pairs;
  if (own) {
    pairs.push_back({pems->key, pems->certificate});
    options.watch_identity_key_cert_pairs();
  }
  options.set_certificate_provider(
      std::make_shared<tls::StaticDataCertificateProvider>(pems->authority, std::move(pairs)));
  options.watch_root_certs();
  options.set_certificate_verifier(std::make_shared<tls::HostNameCertificateVerifier>());
  return tls::TlsCredentials(options);
}

}  // namespace ballast::sync
