// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include "tools/ctl/view.h"

namespace ballast::ctl {

/// What a ballast-global says of itself at IP:PORT of its --operations address. Needs no pinned maps.
Result<Report> global(const std::string& address);

/// The same from the JSON of /status.
Result<Report> global_report(const std::string& status);

}  // namespace ballast::ctl
