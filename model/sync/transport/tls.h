// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/base/result.h"

namespace ballast::sync {

/// PEM files of one side of mutual TLS. They are looked at again every `reload`: a renewed
/// certificate holds for the connections made from then on, without a restart.
struct TlsFiles {
  std::string certificate;  ///< chain, leaf first
  std::string key;
  std::string authority;  ///< bundle that the other side's certificate has to come from
  std::chrono::seconds reload{10};

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
};

/// Usage error when only some of the three are named, or one cannot be read or is not PEM.
Status check_tls_files(const TlsFiles& files);

}  // namespace ballast::sync
