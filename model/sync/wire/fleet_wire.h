// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <optional>

#include "ballast_sync.pb.h"
#include "core/base/result.h"
#include "core/fleet/report.h"

/// Between the fleet's messages and ours. Ages travel, times do not.
namespace ballast::sync {

void to_wire(const fleet::NodeReport& report, v1::NodeReport* out);
/// How many endpoints a report of these bytes holds, without making any: for whoever bounds them before
/// the report is parsed. Bytes that are no report are counted up to where they cease to be one.
std::size_t endpoints_in(google::protobuf::io::ZeroCopyInputStream& report);
/// Error: an endpoint's latencies are no histogram.
Result<fleet::NodeReport> from_wire(const v1::NodeReport& report);

/// `now`: in the clock of the view.
void to_wire(const fleet::FleetView& view, MonotonicNs now, v1::FleetAnswer* out);
/// `now`: when it came, in our clock. Services whose features are of another spec are left out.
fleet::FleetView from_wire(const v1::FleetAnswer& answer, MonotonicNs now);

}  // namespace ballast::sync
