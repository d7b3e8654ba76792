// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/global.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/base/human.h"
#include "core/base/listen_address.h"
#include "core/base/table.h"
#include "core/base/unique_fd.h"

namespace ballast::ctl {

namespace {

constexpr std::size_t kMostBytes = 1 << 20;

Result<UniqueFd> connect_to(const ListenAddress& to) {
  sockaddr_storage storage{};
  socklen_t length = 0;
  if (to.ipv6) {
    auto* v6 = reinterpret_cast<sockaddr_in6*>(&storage);
    v6->sin6_family = AF_INET6;
    v6->sin6_port = htons(to.port);
    ::inet_pton(AF_INET6, to.host.c_str(), &v6->sin6_addr);
    length = sizeof *v6;
  } else {
    auto* v4 = reinterpret_cast<sockaddr_in*>(&storage);
    v4->sin_family = AF_INET;
    v4->sin_port = htons(to.port);
    ::inet_pton(AF_INET, to.host.c_str(), &v4->sin_addr);
    length = sizeof *v4;
  }
  UniqueFd socket(::socket(storage.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const timeval patience{.tv_sec = 5, .tv_usec = 0};
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
  if (!socket || ::connect(socket.get(), reinterpret_cast<sockaddr*>(&storage), length) != 0) {
    return Error::failed(
        fmt::format("connecting to {}: {}; is it the --operations address of ballast-global?", to.text(),
                    std::strerror(errno)));
  }
  return socket;
}

Result<std::string> get_status(const ListenAddress& from) {
  const auto socket = connect_to(from);
  if (!socket) {
    return socket.error();
  }
  const std::string request = "GET /status HTTP/1.1\r\nHost: ballast-global\r\nConnection: close\r\n\r\n";
  std::string answer;
  char buffer[16384];
  ssize_t n = ::send(socket->get(), request.data(), request.size(), MSG_NOSIGNAL);
  while (n > 0 && answer.size() < kMostBytes) {
    n = ::recv(socket->get(), buffer, sizeof buffer, 0);
    answer.append(buffer, static_cast<std::size_t>(std::max<ssize_t>(n, 0)));
  }
  const std::size_t body = answer.find("\r\n\r\n");
  if (n < 0 || !answer.starts_with("HTTP/1.1 200") || body == std::string::npos) {
    return Error::failed(from.text() + " does not answer as a ballast-global");
  }
  return answer.substr(body + 4);
}

/// What canary nodes try, and how it stands; nothing where all take the newest at once.
std::string trial(const char* of, const nlohmann::ordered_json& p) {
  if (!p.is_object() || !p.value("on", false)) {
    return {};
  }
  std::string now = "none";
  if (p.at("trial").get<bool>()) {
    std::string nodes;
    for (const auto& node : p.at("canary_nodes")) {
      nodes += (nodes.empty() ? "" : ", ") + node.get<std::string>();
    }
    now = fmt::format(
        "{} nodes ({}) are paid {} over {} reports, the others {} over {}",
        p.at("canaries").get<std::uint64_t>(), nodes, human_number(p.at("canary_objective").get<double>()),
        p.at("canary_reports").get<std::uint64_t>(), human_number(p.at("rest_objective").get<double>()),
        p.at("rest_reports").get<std::uint64_t>());
  }
  return fmt::format("canaries  {}; version {}{} is all nodes', {} released, {} taken back\n", now,
                     p.at("released").get<std::uint64_t>(), of, p.at("promoted").get<std::uint64_t>(),
                     p.at("returned").get<std::uint64_t>());
}

std::string summary(const nlohmann::ordered_json& s) {
  const auto& batch = s.at("batch");
  std::string out = fmt::format(
      "{}{}  epoch {}  version {} ({} old)\nworkers   {} pushing, {} streams, {} quarantined\n"
      "gradients {} accepted, {} clipped; staleness median {}, norm median {}\n"
      "batch     {} of {}, oldest {}\ncheckpoint {} old, {} failures\n",
      s.at("leader").get<bool>() ? "leader" : "follower", s.at("ready").get<bool>() ? "" : " (not ready)",
      s.at("epoch").get<std::uint64_t>(), s.at("version").get<std::uint64_t>(),
      human_duration_ns(1e9 * s.at("version_age_s").get<double>()),
      s.at("workers_pushing").get<std::uint64_t>(), s.at("streams").get<std::uint64_t>(),
      s.at("workers_quarantined").get<std::uint64_t>(), s.at("accepted").get<std::uint64_t>(),
      s.at("clipped").get<std::uint64_t>(), human_number(s.at("staleness_median").get<double>()),
      human_number(s.at("norm_median").get<double>()), batch.at("buffered").get<std::uint64_t>(),
      batch.at("size").get<std::uint64_t>(), human_duration_ns(1e9 * batch.at("age_s").get<double>()),
      human_duration_ns(1e9 * s.at("checkpoint_age_s").get<double>()),
      s.at("checkpoint_failures").get<std::uint64_t>());
  if (const auto fleet = s.find("fleet"); fleet != s.end()) {  // a server of the version before has none
    out += fmt::format("fleet     {} nodes, {} endpoints of {} services, oldest report {}\n",
                       fleet->at("nodes").get<std::uint64_t>(), fleet->at("endpoints").get<std::uint64_t>(),
                       fleet->at("services").get<std::uint64_t>(),
                       human_duration_ns(1e9 * fleet->at("oldest_s").get<double>()));
  }
  if (const auto forecast = s.find("forecast"); forecast != s.end()) {
    const double as_now = forecast->at("error_as_now").get<double>();
    out += fmt::format(
        "forecast  version {} ({} released), {} nodes push; error over that of \"as now\": {}\n",
        forecast->at("version").get<std::uint64_t>(), forecast->at("released").get<std::uint64_t>(),
        forecast->at("workers_pushing").get<std::uint64_t>(),
        as_now > 0 ? fmt::format("{:.2f}", forecast->at("error").get<double>() / as_now) : "not told");
    for (const auto& [reason, count] : forecast->at("rejected").items()) {
      if (count.get<std::uint64_t>() > 0) {
        out += fmt::format("rejected  {} {} of the forecast\n", count.get<std::uint64_t>(), reason);
      }
    }
  }
  if (const auto gains = s.find("gains");
      gains != s.end() && gains->at("services").get<std::uint64_t>() > 0) {
    out +=
        fmt::format("gains     of {} services, {} gradients accepted",
                    gains->at("services").get<std::uint64_t>(), gains->at("accepted").get<std::uint64_t>());
    for (const auto& one : gains->at("of")) {
      out +=
          fmt::format("\ngains     {} version {}, {} nodes push", one.at("service").get<std::string>(),
                      one.at("version").get<std::uint64_t>(), one.at("workers_pushing").get<std::uint64_t>());
    }
    out += "\n";
    for (const auto& [reason, count] : gains->at("rejected").items()) {
      if (count.get<std::uint64_t>() > 0) {
        out += fmt::format("rejected  {} {} of gains\n", count.get<std::uint64_t>(), reason);
      }
    }
  }
  out += trial("", s.value("promotion", nlohmann::ordered_json()));
  if (s.contains("forecast")) {
    out += trial(" of the forecast", s.at("forecast").value("promotion", nlohmann::ordered_json()));
  }
  for (const char* what : {"rejected", "ended"}) {
    for (const auto& [reason, count] : s.at(what).items()) {
      if (count.get<std::uint64_t>() > 0) {
        out += fmt::format("{:<9} {} {}\n", what, count.get<std::uint64_t>(), reason);
      }
    }
  }
  return out;
}

}  // namespace

Result<Report> global_report(const std::string& status) {
  try {
    const auto json = nlohmann::ordered_json::parse(status);
    Table table({{"WORKER"},
                 {"VERSION", Table::Align::kRight},
                 {"ACCEPTED", Table::Align::kRight},
                 {"REJECTED", Table::Align::kRight},
                 {"SHUT OUT", Table::Align::kRight},
                 {"LAST BAD"}});
    for (const auto& w : json.at("workers")) {
      const double left = w.at("quarantined_s").get<double>();
      // A server of the version before tells none.
      table.row({w.at("worker").get<std::string>(), std::to_string(w.value("version", std::uint64_t{0})),
                 std::to_string(w.at("accepted").get<std::uint64_t>()),
                 std::to_string(w.at("rejected").get<std::uint64_t>()),
                 left > 0 ? human_duration_ns(1e9 * left) : "", w.at("last_bad").get<std::string>()});
    }
    std::string text = summary(json) + (table.empty() ? "" : "\n" + table.text());
    if (const auto forecast = json.find("forecast"); forecast != json.end()) {
      Table nodes({{"FORECAST OF"},
                   {"VERSION", Table::Align::kRight},
                   {"ACCEPTED", Table::Align::kRight},
                   {"REJECTED", Table::Align::kRight},
                   {"PAIRS", Table::Align::kRight},
                   {"SPAN", Table::Align::kRight},
                   {"ERROR", Table::Align::kRight},
                   {"AS NOW", Table::Align::kRight},
                   {"TWIN", Table::Align::kRight},
                   {"FORESAW", Table::Align::kRight},
                   {"CAME", Table::Align::kRight},
                   {"GAINS", Table::Align::kRight},
                   {"SHUT OUT", Table::Align::kRight},
                   {"LAST BAD"}});
      for (const auto& w : forecast->at("nodes")) {
        const double left = w.at("quarantined_s").get<double>();
        const double twin = w.value("twin_s", 0.0);  // a server of the version before tells none
        nodes.row({w.at("worker").get<std::string>(), std::to_string(w.at("version").get<std::uint64_t>()),
                   std::to_string(w.at("accepted").get<std::uint64_t>()),
                   std::to_string(w.at("rejected").get<std::uint64_t>()),
                   std::to_string(w.at("samples").get<std::uint64_t>()),
                   human_duration_ns(1e9 * w.at("span_s").get<double>()),
                   fmt::format("{:.5f}", w.at("error").get<double>()),
                   fmt::format("{:.5f}", w.at("error_as_now").get<double>()),
                   twin > 0 ? human_duration_ns(1e9 * twin) : "",
                   twin > 0 ? human_duration_ns(1e6 * w.at("twin_foreseen_p99_ms").get<double>()) : "",
                   twin > 0 ? human_duration_ns(1e6 * w.at("twin_came_p99_ms").get<double>()) : "",
                   twin > 0 ? std::to_string(w.at("twin_gains").get<std::uint64_t>()) : "",
                   left > 0 ? human_duration_ns(1e9 * left) : "", w.at("last_bad").get<std::string>()});
      }
      text += nodes.empty() ? "" : "\n" + nodes.text();
    }
    return Report{.json = json, .text = text};
  } catch (const nlohmann::json::exception& e) {
    return Error::failed(std::string("the status is not one of ballast-global: ") + e.what());
  }
}

Result<Report> global(const std::string& address) {
  const auto parsed = parse_listen_address(address, true);
  if (!parsed) {
    return parsed.error();
  }
  if (!parsed->unix_path.empty()) {
    return Error::usage("global takes IP:PORT, not " + address);
  }
  const auto status = get_status(*parsed);
  return status ? global_report(*status) : status.error();
}

}  // namespace ballast::ctl
