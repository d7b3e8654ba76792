// SPDX-License-Identifier: Apache-2.0
#include "model/sync/tls.h"

#include <grpc/grpc.h>
#include <grpcpp/security/tls_certificate_verifier.h>
#include <grpcpp/security/tls_credentials_options.h>

#include "agent/base/file.h"
#include "model/sync/credentials.h"

namespace ballast::sync {

namespace {

namespace tls = grpc::experimental;

std::shared_ptr<tls::FileWatcherCertificateProvider> watch(const TlsFiles& files) {
  // The provider starts a thread and counts on the library, but does not hold it as channels do.
  static const bool held = (grpc_init(), true);
  static_cast<void>(held);
  return std::make_shared<tls::FileWatcherCertificateProvider>(files.key, files.certificate, files.authority,
                                                               static_cast<unsigned>(files.reload.count()));
}

}  // namespace

Status check_tls_files(const TlsFiles& files) {
  if (files.empty()) {
    return ok();
  }
  for (const auto& [flag, path] :
       {std::pair{"--tls-cert", &files.certificate}, std::pair{"--tls-key", &files.key},
        std::pair{"--tls-ca", &files.authority}}) {
    if (path->empty()) {
      return Error::usage(std::string(flag) + " is missing: TLS needs --tls-cert, --tls-key and --tls-ca");
    }
    const auto bytes = read_file(*path);
    if (!bytes) {
      return Error::usage(std::string(flag) + ": " + bytes.error().message);
    }
    if (bytes->find("-----BEGIN ") == std::string::npos) {
      return Error::usage(std::string(flag) + " " + *path + " is not a PEM file");
    }
  }
  return ok();
}

std::shared_ptr<grpc::ServerCredentials> server_credentials(const TlsFiles& files) {
  if (files.empty()) {
    return grpc::InsecureServerCredentials();
  }
  tls::TlsServerCredentialsOptions options(watch(files));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_cert_request_type(GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  return tls::TlsServerCredentials(options);
}

std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const TlsFiles& files) {
  if (files.empty()) {
    return grpc::InsecureChannelCredentials();
  }
  tls::TlsChannelCredentialsOptions options;
  options.set_certificate_provider(watch(files));
  options.watch_root_certs();
  options.watch_identity_key_cert_pairs();
  options.set_certificate_verifier(std::make_shared<tls::HostNameCertificateVerifier>());
  return tls::TlsCredentials(options);
}

}  // namespace ballast::sync
