// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "agent/actuate/sink.h"

namespace ballast::actuate {

/// Keeps one JSON file with the weights in force of all services, replaced as a whole: a reader
/// sees the old file or the new one.
///
///   {"services":[{"namespace":"shop","service":"web","neutral":false,
///                 "endpoints":[{"pod":"web-0","address":"127.1.0.10","port":8080,"weight":1500}]}]}
class FileSink final : public WeightSink {
 public:
  /// Writes a file without services at once, so that a path that cannot be written is told at start.
  static Result<std::unique_ptr<WeightSink>> create(std::filesystem::path path);

  std::string name() const override { return "file:" + path_.string(); }
  Status publish(const guard::GuardedWeights& weights) override;
  Status withdraw(const spec::ServiceId& service) override;

 private:
  explicit FileSink(std::filesystem::path path) : path_(std::move(path)) {}
  Status write(const std::map<spec::ServiceId, std::string>& services) const;

  std::filesystem::path path_;
  std::map<spec::ServiceId, std::string> services_;  ///< each service's JSON object
};

}  // namespace ballast::actuate
