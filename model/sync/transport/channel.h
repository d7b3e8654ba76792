// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>

namespace ballast::sync {

/// A connection of its own: no back-off is inherited from an earlier one (ours
/// rules), and a peer that is frozen or gone without a word is found out within 20 s.
inline std::shared_ptr<grpc::Channel> make_channel(
    const std::string& address,
    const std::shared_ptr<grpc::ChannelCredentials>& credentials = grpc::InsecureChannelCredentials(),
    const std::string& server_name = {}) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10'000);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 10'000);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  // All endpoints of all nodes, for who writes weights: some 300 bytes each.
  arguments.SetMaxReceiveMessageSize(128 << 20);
  if (!server_name.empty()) {
    arguments.SetSslTargetNameOverride(server_name);
  }
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

}  // namespace ballast::sync
