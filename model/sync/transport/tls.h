// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <string>

#include "core/base/options.h"

namespace ballast::sync {

/// PEM files of one side of mutual TLS; where tokens say who calls (proof.h), of each side those that it has:
/// `authority` of the caller, `certificate` and `key` of the server. They are looked at again every `reload`:
/// a renewed certificate holds for the connections made from then on, without a restart.
struct TlsFiles {
  std::string certificate;  ///< chain, leaf first
  std::string key;
  std::string authority;  ///< bundle that the other side's certificate has to come from
  std::chrono::seconds reload{10};

  bool empty() const { return certificate.empty() && key.empty() && authority.empty(); }
  bool operator==(const TlsFiles&) const = default;

  /// Into the section that is open. `token`: the key that says who we are in the place of a certificate.
  void declare(options::Schema& s, const std::string& token) {
    s.file("tls_cert", certificate, "PEM chain of our certificate; mutual TLS takes all three files or none");
    s.file("tls_key", key, "PEM key of it");
    s.text("tls_ca", authority, "FILE",
           "PEM bundle that the other side's certificate comes from; with a token it may be yet to come");
    s.rule({"tls_ca"}, [this, &token]() -> options::Wrong {
      return token.empty()       ? options::existing_file(authority)
             : authority.empty() ? options::Wrong("a token is never sent in the clear; give tls_ca")
                                 : std::nullopt;
    });
    s.rule({"tls_cert", "tls_key", "tls_ca"}, [this, &token]() -> options::Wrong {
      return empty() || !token.empty() || !(certificate.empty() || key.empty() || authority.empty())
                 ? std::nullopt
                 : options::Wrong("TLS needs tls_cert, tls_key and tls_ca; give all three, or none");
    });
  }
};

/// Usage error when only some of the three are named, or one cannot be read or is not PEM. Of a caller with a
/// token only `authority` is wanted, which may be yet to come.
Status check_tls_files(const TlsFiles& files, bool token = false);

}  // namespace ballast::sync
