// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/base/options.h"

namespace ballast::sync {

/// PEM files of one side of mutual TLS. They are looked at again every `reload`: a renewed
/// certificate holds for the connections made from then on, without a restart.
struct TlsFiles {
  std::string certificate;  ///< chain, leaf first
  std::string key;
  std::string authority;  ///< bundle that the other side's certificate has to come from
  std::chrono::seconds reload{10};

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
  bool operator==(const TlsFiles&) const = default;

  /// Into the section that is open.
  void declare(options::Schema& s) {
    s.file("tls_cert", certificate, "PEM chain of our certificate; mutual TLS takes all three files or none");
    s.file("tls_key", key, "PEM key of it");
    s.file("tls_ca", authority, "PEM bundle that the other side's certificate comes from");
    s.rule({"tls_cert", "tls_key", "tls_ca"}, [this]() -> options::Wrong {
      return empty() || !(certificate.empty() || key.empty() || authority.empty())
                 ? std::nullopt
                 : options::Wrong("TLS needs tls_cert, tls_key and tls_ca; give all three, or none");
    });
  }
};

/// Usage error when only some of the three are named, or one cannot be read or is not PEM.
Status check_tls_files(const TlsFiles& files);

}  // namespace ballast::sync
