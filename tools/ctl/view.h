// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>

#include "agent/sample/maps.h"
#include "core/base/clock.h"
#include "core/base/result.h"
#include "tools/ctl/names.h"

namespace ballast::ctl {

/// Keeps keys in the order in which they are documented.
using Json = nlohmann::ordered_json;

/// What a verb has to say, in both forms.
struct Report {
  Json json;
  std::string text;
  std::string dot;  ///< a graph in Graphviz' language; empty: the verb has none
};

/// One bpffs folder, opened for reading; ballastd may be dead.
struct View {
  std::filesystem::path bpffs;
  sample::PinnedMaps maps;
  Names names;
  MonotonicNs now = 0;
};

/// Errors: kFailed when the folder is not there or holds no maps of ours, kPrivilege when it may
/// not be read; both say what to do.
Result<View> open_view(const std::filesystem::path& bpffs);

/// {"cgroup_id","cgroup","pod","namespace","container","service"}
Json name_json(sample::CgroupId id, const Name& name);
/// What a table shows of a name: the pod where there is one, else the cgroup.
std::string label(const Name& name);
/// "namespace/service", or "-".
std::string service_label(const Name& name);

const char* role_name(std::uint8_t role);
const char* protocol_name(std::uint8_t protocol);
const char* mode_name(std::uint32_t mode);

}  // namespace ballast::ctl
