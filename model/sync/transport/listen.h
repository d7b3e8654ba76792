// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "core/base/result.h"

namespace ballast::sync {

/// Address of a gRPC server: "unix:PATH", "IPV4:PORT", "[IPV6]:PORT" or "localhost:PORT".
/// Usage error when it is none of them, or reaches beyond this host while `beyond_loopback` is
/// false (the connection is in the clear).
Status check_address(const std::string& address, bool beyond_loopback);

/// Whether a server could listen there now, with the kernel's reason where not: gRPC itself only
/// says that it could not. A unix socket that nobody serves any more does not stand in the way;
/// one that is being served does (gRPC would silently take its place).
Status probe_address(const std::string& address);

}  // namespace ballast::sync
