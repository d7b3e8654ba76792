// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

namespace ballast {

/// An URL for people and logs: without user and password, and without what is behind the question mark. Other
/// text stays as it is, unless it has an '@'.
std::string without_secrets(const std::string& url);

}  // namespace ballast
