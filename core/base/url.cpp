// SPDX-License-Identifier: Apache-2.0
#include "core/base/url.h"

namespace ballast {

std::string without_secrets(const std::string& url) {
  const std::size_t scheme = url.find("://");
  const std::size_t begin = scheme == std::string::npos ? 0 : scheme + 3;
  const std::size_t at = url.rfind('@');  // the last one: a password may hold what ends a host
  std::string shown =
      at == std::string::npos || at < begin ? url : url.substr(0, begin) + "***" + url.substr(at);
  const std::size_t query = shown.find('?');
  return query == std::string::npos ? shown : shown.substr(0, query) + "?***";
}

}  // namespace ballast
