// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/release.h"

#include <fmt/format.h>

#include <algorithm>

#include "agent/actuate/istio/writer.h"

namespace ballast::ctl {
namespace {

bool two_parts(const std::string& text) {
  const std::size_t slash = text.find('/');
  return slash != std::string::npos && slash > 0 && slash + 1 < text.size() &&
         text.find('/', slash + 1) == std::string::npos && text.find_first_of(",* ") == std::string::npos;
}

}  // namespace

Result<kube::ClientOptions> api(const ReleaseOptions& options) {
  if (options.server.empty()) {
    return kube::in_cluster();
  }
  kube::ClientOptions found;
  found.server = options.server;
  found.ca_file = options.ca_file;
  found.token_file = options.token_file;
  return found;
}

Result<std::string> release(const ReleaseOptions& options) {
  if (options.all == !options.target.empty()) {
    return Error::usage("release needs either NAMESPACE/SERVICE or --all");
  }
  if (!options.all && !two_parts(options.target)) {
    return Error::usage("release: \"" + options.target + "\" is not NAMESPACE/SERVICE");
  }
  if (!two_parts(options.lease)) {
    return Error::usage("--lease: \"" + options.lease + "\" is not NAMESPACE/NAME");
  }
  const auto found = api(options);
  if (!found) {
    return Error::usage(found.error().message + "; or give --server, --ca-file and --token-file");
  }
  auto client = kube::Client::create(*found);
  if (!client) {
    return client.error();
  }
  const std::size_t slash = options.lease.find('/');
  const std::string target = options.all ? "*" : options.target;
  const auto removed = actuate::istio::release_by_hand(**client, options.lease.substr(0, slash),
                                                       options.lease.substr(slash + 1), target);
  if (!removed) {
    return removed.error();
  }
  return fmt::format(
      "released {}: {} objects removed; to manage again: kubectl -n {} annotate lease {} {}-\n",
      options.all ? "every Service" : target, *removed, options.lease.substr(0, slash),
      options.lease.substr(slash + 1), actuate::istio::kReleasedAnnotation);
}

}  // namespace ballast::ctl
