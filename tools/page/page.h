// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nlohmann/json.hpp>
#include <string>

namespace ballast::page {

/// The page of `ballastctl ui` as one file that needs no other. `data` null: it asks its server for snapshots
/// (data?after=SEQ) and explanations. Else it shows what it is given:
///   {"title", "table": [[heading...], [cell...]...], "wide": columns that a phone leaves out, "snapshots":
///   [...], "explain":
///   {"NAMESPACE/SERVICE/POD": text}}
/// A snapshot: {"seq","t" (Unix seconds, with fractions),"status","arm" (of a lab's run),"top": rows of
/// `ballastctl top -o json`,
///   "calls": [{"from","to","from_service","to_service","responses","errors","sum_ns" (waited)}]}
std::string html(const nlohmann::ordered_json& data);

}  // namespace ballast::page
