// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ballast_sync.pb.h"
#include "core/fleet/report.h"

/// Between the fleet's messages and ours. Ages travel, times do not.
namespace ballast::sync {

void to_wire(const fleet::NodeReport& report, v1::NodeReport* out);
/// `endpoints` more than `most` are counted but not read: the registry refuses such a report.
fleet::NodeReport from_wire(const v1::NodeReport& report, std::size_t most);

/// `now`: in the clock of the view.
void to_wire(const fleet::FleetView& view, MonotonicNs now, v1::FleetAnswer* out);
/// `now`: when it came, in our clock. Services whose features are of another spec are left out.
fleet::FleetView from_wire(const v1::FleetAnswer& answer, MonotonicNs now);

}  // namespace ballast::sync
