// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>

#include "agent/base/result.h"
#include "model/sync/global_network.h"

namespace ballast::sync {

/// The door of the global network: gRPC in the clear, one stream a worker, no thread a worker.
class GlobalServer {
 public:
  /// `address` as in listen.h; port 0 takes a free one. Fails naming the address and the reason.
  /// `network` has to outlive the server.
  static Result<std::unique_ptr<GlobalServer>> start(const std::string& address, GlobalNetwork& network);
  /// Ends all streams and waits for them, half a second at most before it cuts them.
  ~GlobalServer();
  GlobalServer(const GlobalServer&) = delete;
  GlobalServer& operator=(const GlobalServer&) = delete;

  /// Where it listens, with the port taken.
  const std::string& address() const;
  std::size_t workers() const;  ///< open streams

 private:
  struct Impl;
  explicit GlobalServer(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace ballast::sync
