// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <gtest/gtest.h>

#include <chrono>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "core/base/file.h"
#include "eventually.h"
#include "model/sync/server/global_server.h"

namespace ballast::sync {

/// A global network and its server on a socket in a folder of its own.
class Served : public ::testing::Test {
 protected:
  void SetUp() override {
    auto made = TempDir::create(std::filesystem::temp_directory_path(), "ballast-served-");
    ASSERT_TRUE(made);
    folder_ = std::make_unique<TempDir>(std::move(*made));
    address_ = "unix:" + socket();
  }
  std::string socket() const { return (folder_->path() / "global.sock").string(); }
  /// A network that begins at this version; what served before is gone.
  void serve(const ServerOptions& options = {}, Version from = {3, 0}) {
    GlobalState state{policy::initial(3), std::vector<float>(spec::kParameters, 0.0F)};
    state.parameters.epoch = from.epoch;
    state.parameters.version = from.version;
    auto network = GlobalNetwork::create(std::move(state), {});
    ASSERT_TRUE(network);
    server_.reset();
    network_ = std::move(*network);
    serve_again(options);
  }
  /// The same network behind a new server.
  void serve_again(const ServerOptions& options = {}) {
    auto server = GlobalServer::start(address_, *network_, options);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  std::uint64_t ended(Ended reason) const { return server_->stats().ended[static_cast<std::size_t>(reason)]; }

  std::unique_ptr<TempDir> folder_;
  std::string address_;
  std::unique_ptr<GlobalNetwork> network_;  // outlives
  std::unique_ptr<GlobalServer> server_;
};

}  // namespace ballast::sync
