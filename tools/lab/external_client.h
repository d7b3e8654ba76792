// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "core/base/process.h"
#include "core/base/result.h"
#include "tools/lab/generator.h"

/// Somebody else's load (JMeter) in the generator's place. The program finds in its environment
///   BALLAST_LAB_TARGET   IP:PORT of the proxy; GET /work?us=N, header x-session for hashing balancers
///   BALLAST_LAB_SECONDS  of load, warm-up included
///   BALLAST_LAB_RATE     requests a second that are the scenario's load
///   BALLAST_LAB_MEAN_US  CPU time a request in the mean; BALLAST_LAB_SESSIONS, BALLAST_LAB_SEED
///   BALLAST_LAB_RESULT   file to write: a line a request, "US_FROM_THE_FIRST US_OF_LATENCY 1|0", then "end
///   N"
/// and exits with 0 when that file is whole. Its latency counts from the actual send.
namespace ballast::lab {

struct ClientRequests {
  std::vector<Arrival> arrivals;
  std::vector<Answer> answers;
};

/// The error names the file and the line; a file without its "end N" ends in the middle.
Result<ClientRequests> parse_client_result(const std::string& text, const std::string& file);

class ExternalClient {
 public:
  /// `command` is split at spaces; `env` as above without BALLAST_LAB_RESULT; log and result go to `folder`.
  static Result<ExternalClient> start(const std::string& command, std::vector<std::string> env,
                                      const std::filesystem::path& folder);
  bool finished() { return !process_.running(); }
  /// REQUIRES finished(). The error quotes the end of the program's own words.
  Result<ClientRequests> result();

 private:
  ExternalClient(ChildProcess process, const std::filesystem::path& folder)
      : process_(std::move(process)), folder_(folder) {}
  ChildProcess process_;
  std::filesystem::path folder_;
};

}  // namespace ballast::lab
