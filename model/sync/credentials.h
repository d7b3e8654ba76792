// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>

#include "model/sync/tls.h"

/// For this room only.
namespace ballast::sync {

/// In the clear where `files` is empty. REQUIRES check_tls_files() else.
std::shared_ptr<grpc::ServerCredentials> server_credentials(const TlsFiles& files);
/// The server's certificate has to carry the name or address that was dialled.
std::shared_ptr<grpc::ChannelCredentials> channel_credentials(const TlsFiles& files);

}  // namespace ballast::sync
