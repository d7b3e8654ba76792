// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>

#include <map>
#include <optional>
#include <string>

#include "agent/sample/sock_diag.h"
#include "core/base/human.h"
#include "core/base/table.h"
#include "tools/ctl/sorted.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using Align = Table::Align;
using sample::CgroupSockets;
using Row = std::pair<ballast_connection_value, std::optional<CgroupSockets>>;

Result<sample::SocketTable> read_sockets() {
  auto diag = sample::SockDiag::open();
  return diag ? diag->read() : Result<sample::SocketTable>(diag.error());
}

/// Both sides by cgroup: what the programs counted, and what the socket table says.
std::vector<std::pair<sample::CgroupId, Row>> join(
    const std::vector<std::pair<sample::CgroupId, ballast_connection_value>>& counted,
    const sample::SocketTable& table) {
  std::map<sample::CgroupId, Row> rows;
  for (const auto& [id, value] : counted) {
    rows[id].first = value;
  }
  for (const auto& [id, sockets] : table.cgroups) {
    rows[id].second = sockets;
  }
  return {rows.begin(), rows.end()};
}

Json netlink_json(const std::optional<CgroupSockets>& sockets, std::int64_t counted) {
  if (!sockets) {
    return nullptr;
  }
  return {{"open", sockets->open},
          {"drift", sockets->open - counted},
          {"srtt_us_sum", sockets->srtt_us_sum},
          {"retransmits", sockets->retransmits},
          {"receive_queue_bytes", sockets->receive_queue_bytes},
          {"send_queue_bytes", sockets->send_queue_bytes},
          {"listeners", sockets->listeners},
          {"accept_queue", sockets->accept_queue},
          {"accept_queue_limit", sockets->accept_queue_limit}};
}

/// The RTT of the connections that are open, else of those that were closed.
std::string rtt_text(const Row& row) {
  const auto& [value, sockets] = row;
  if (sockets && sockets->open > 0) {
    return human_duration_ns(1000.0 * static_cast<double>(sockets->srtt_us_sum) /
                             static_cast<double>(sockets->open));
  }
  return value.closed == 0 ? "-"
                           : human_duration_ns(1000.0 * static_cast<double>(value.srtt_us_sum) /
                                               static_cast<double>(value.closed));
}

Json row_json(sample::CgroupId id, const Name& name, const Row& row) {
  const auto& [value, sockets] = row;
  Json json = name_json(id, name);
  json["open"] = value.open;
  json["accepted"] = value.accepted;
  json["connected"] = value.connected;
  json["closed"] = value.closed;
  json["adopted"] = value.adopted;
  json["retransmits"] = value.retransmits;
  json["srtt_us_sum"] = value.srtt_us_sum;
  json["netlink"] = netlink_json(sockets, value.open);
  return json;
}

std::string footer(const Result<sample::SocketTable>& table) {
  if (!table) {
    return "The socket table could not be read (" + table.error().message +
           "): NETLINK and DRIFT are unknown.\n";
  }
  std::string text = "NETLINK: open by the socket table of this network namespace; DRIFT: less OPEN.\n";
  if (table->without_cgroup > 0) {
    text += fmt::format("{} sockets are told without a cgroup (kernel before 5.9).\n", table->without_cgroup);
  }
  return text + (table->interrupted ? "The table changed while it was read.\n" : "");
}

}  // namespace

Result<Report> connections(View& view, const std::string& target) {
  const auto counted = view.maps.connections();
  if (!counted) {
    return counted.error();
  }
  const auto table = read_sockets();
  auto rows = join(*counted, table ? *table : sample::SocketTable{});
  sort_by_name(rows, view.names);
  Report report{Json::array(), ""};
  Table text({{"SERVICE"},
              {"POD OR CGROUP"},
              {"OPEN", Align::kRight},
              {"NETLINK", Align::kRight},
              {"DRIFT", Align::kRight},
              {"ACCEPTED", Align::kRight},
              {"CONNECTED", Align::kRight},
              {"CLOSED", Align::kRight},
              {"ADOPTED", Align::kRight},
              {"RETRANSMITS", Align::kRight},
              {"MEAN RTT", Align::kRight},
              {"RECV-Q", Align::kRight},
              {"SEND-Q", Align::kRight},
              {"ACCEPT-Q", Align::kRight}});
  for (const auto& [id, row] : rows) {
    const Name& name = view.names.of(id);
    if (!matches(name, id, target)) {
      continue;
    }
    const auto& [value, sockets] = row;
    report.json.push_back(row_json(id, name, row));
    const auto known = [told = sockets.has_value()](const std::string& cell) { return told ? cell : "-"; };
    const CgroupSockets s = sockets.value_or(CgroupSockets{});
    text.row({service_label(name), label(name), std::to_string(value.open), known(std::to_string(s.open)),
              known(std::to_string(s.open - value.open)), std::to_string(value.accepted),
              std::to_string(value.connected), std::to_string(value.closed), std::to_string(value.adopted),
              std::to_string(value.retransmits), rtt_text(row),
              known(human_bytes(static_cast<double>(s.receive_queue_bytes))),
              known(human_bytes(static_cast<double>(s.send_queue_bytes))),
              known(fmt::format("{}/{}", s.accept_queue, s.accept_queue_limit))});
  }
  report.text = (text.empty() ? "No connections were seen.\n" : text.text()) + footer(table);
  return report;
}

}  // namespace ballast::ctl
