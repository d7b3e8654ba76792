// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "core/base/result.h"
#include "model/sync/transport/tls.h"

namespace ballast::sync {

/// The server's side of `files`. gRPC watches copies in a private folder: what is half written or no
/// PEM at all never reaches it, and the last good certificate holds.
class ServerTls {
 public:
  /// In the clear where `files` is empty. `tokens`: callers show tokens, not certificates.
  static Result<std::unique_ptr<ServerTls>> create(const TlsFiles& files, bool tokens);
  ~ServerTls();
  ServerTls(const ServerTls&) = delete;
  ServerTls& operator=(const ServerTls&) = delete;

  std::shared_ptr<grpc::ServerCredentials> credentials() const;
  /// Looks at the files when it is time; to be called often.
  void refresh();

 private:
  struct Impl;
  explicit ServerTls(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;  // null: in the clear
};

/// Of the files as they are now: a client reads them again for each connection. The server's
/// certificate has to carry the name or address that was dialled. `token`: no certificate of ours is needed.
Result<std::shared_ptr<grpc::ChannelCredentials>> channel_credentials(const TlsFiles& files, bool token);

}  // namespace ballast::sync
