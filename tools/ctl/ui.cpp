// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/ui.h"

#include <civetweb.h>
#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <ctime>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "core/base/file.h"
#include "core/base/listen_address.h"
#include "tools/ctl/top.h"
#include "tools/ctl/verbs.h"
#include "tools/page/page.h"

namespace ballast::ctl {
namespace {

constexpr std::size_t kKept = 300;
constexpr std::chrono::seconds kEvery{2};

std::string end_name(const Json& name, const std::string& text) {
  const auto service = name.value("service", "");
  return service.empty() ? text : name.value("namespace", "") + "/" + service;
}

/// The edges of the map, of `ballastctl calls`.
Json edges(const Json& calls) {
  Json out = Json::array();
  for (const Json& one : calls) {
    out.push_back({{"from", one["from"]},
                   {"to", one["to"]},
                   {"from_service", end_name(one["caller"], one["from"])},
                   {"to_service", end_name(one["peer"], one["to"])},
                   {"responses", one["responses"]},
                   {"errors", one["errors"]},
                   {"sum_ns", one["latency_ns"]["first_byte"]["sum"]}});
  }
  return out;
}

/// The snapshots of late. Thread-safe.
class History {
 public:
  explicit History(std::filesystem::path bpffs) : bpffs_(std::move(bpffs)) {}

  /// The first call only learns the counters.
  Status look() {
    auto view = open_view(bpffs_);
    auto now = view ? top_sample(*view) : Result<TopSample>(view.error());
    if (!now) {
      return now.error();
    }
    if (before_) {
      const auto top = top_report(*view, *before_, *now, "", 0);
      const auto seen = calls(*view, "");
      const auto said = status(*view, "");
      if (!top || !seen || !said) {
        return !top ? top.error() : !seen ? seen.error() : said.error();
      }
      const Json& s = said->json;
      const std::string trouble = s["trouble"].get<std::string>();
      const std::lock_guard lock(mutex_);
      snapshots_.push_back(
          {{"seq", ++seq_},
           {"t", std::time(nullptr)},
           {"status",
            fmt::format("ballastd {}, mode {}, policy {}{}", s["alive"] == true ? "lives" : "IS DEAD",
                        s["mode"].get<std::string>(), s["policy"].get<std::string>(),
                        trouble.empty() ? "" : ", TROUBLE: " + trouble)},
           {"top", top->json},
           {"calls", edges(seen->json)}});
      if (snapshots_.size() > kKept) {
        snapshots_.pop_front();
      }
    }
    before_ = std::move(*now);
    return ok();
  }

  Json after(std::uint64_t seq) const {
    const std::lock_guard lock(mutex_);
    Json out = Json::array();
    for (const Json& one : snapshots_) {
      if (one["seq"].get<std::uint64_t>() > seq) {
        out.push_back(one);
      }
    }
    return out;
  }

  std::string explained(const std::string& target) const {
    auto view = open_view(bpffs_);
    const auto said = view ? explain(*view, target) : Result<Report>(view.error());
    return said ? said->text : said.error().message;
  }

 private:
  const std::filesystem::path bpffs_;
  std::optional<TopSample> before_;
  mutable std::mutex mutex_;
  std::deque<Json> snapshots_;
  std::uint64_t seq_ = 0;
};

int answer(mg_connection* connection, void* self) {
  const auto& history = *static_cast<const History*>(self);
  const mg_request_info* const request = mg_get_request_info(connection);
  const std::string path = request->local_uri;
  const std::string query = request->query_string == nullptr ? "" : request->query_string;
  std::string body;
  const char* type = "text/html; charset=utf-8";
  // A page of elsewhere could name this address as its own (DNS rebinding); it would not say localhost.
  const char* const host = mg_get_header(connection, "Host");
  const std::string named = host == nullptr ? "" : std::string(host).substr(0, std::string(host).rfind(':'));
  if (named != "127.0.0.1" && named != "localhost" && named != "[::1]") {
    mg_send_http_error(connection, 403, "by 127.0.0.1 or localhost alone");
    return 403;
  }
  if (path == "/data") {
    type = "application/json";
    body = history.after(std::strtoull(query.c_str() + std::min<std::size_t>(query.size(), 6), nullptr, 10))
               .dump(-1, ' ', false, Json::error_handler_t::replace);
  } else if (path == "/explain") {
    type = "text/plain; charset=utf-8";
    std::string target(query.size() + 1, '\0');
    target.resize(static_cast<std::size_t>(
        std::max(0, mg_url_decode(query.c_str(), static_cast<int>(query.size()), target.data(),
                                  static_cast<int>(target.size()), 0))));
    body = history.explained(target);
  } else if (path == "/") {
    body = page::html(nullptr);
  } else {
    mg_send_http_error(connection, 404, "there are /, /data and /explain");
    return 404;
  }
  mg_printf(connection,
            "HTTP/1.1 200 OK\r\nContent-Type: %s\r\nContent-Length: %zu\r\nCache-Control: no-store\r\n"
            "Connection: close\r\n\r\n",
            type, body.size());
  mg_write(connection, body.data(), body.size());
  return 200;
}

Status write_report(History& history, const UiOptions& options) {
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(options.seconds);
  while (std::chrono::steady_clock::now() < end) {
    std::this_thread::sleep_for(std::chrono::seconds(1));
    if (Status looked = history.look(); !looked) {
      return looked;
    }
  }
  Json data = {{"title", "ballastctl"}, {"snapshots", history.after(0)}, {"explain", Json::object()}};
  if (!data["snapshots"].empty()) {
    for (const Json& row : data["snapshots"].back()["top"]) {
      if (!row["weight"].is_null()) {
        const std::string target = row["namespace"].get<std::string>() + "/" +
                                   row["service"].get<std::string>() + "/" + row["pod"].get<std::string>();
        data["explain"][target] = history.explained(target);
      }
    }
  }
  return write_file_atomic(options.report, page::html(data));
}

}  // namespace

Status ui(const UiOptions& options) {
  History history(options.bpffs);
  if (Status looked = history.look(); !looked) {
    return looked;
  }
  if (!options.report.empty()) {
    return write_report(history, options);
  }
  const auto address = parse_listen_address(options.listen, false);
  if (!address) {
    return address.error();
  }
  if (!address->unix_path.empty()) {
    return Error::usage("--listen: a browser needs IP:PORT, not " + options.listen);
  }
  if (Status free = check_listen_address(*address); !free) {
    return free;
  }
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const std::string port = address->text();
  const char* settings[] = {"listening_ports", port.c_str(), "num_threads", "4", nullptr};
  mg_context* const server = mg_start(nullptr, nullptr, settings);
  mg_server_port bound{};
  if (server == nullptr || mg_get_server_ports(server, 1, &bound) != 1) {
    return Error::failed("cannot listen on " + port);
  }
  mg_set_request_handler(server, "/", answer, &history);
  fmt::print("http://{}:{}/ (a browser on another machine: ssh -L {}:127.0.0.1:{})\n",
             address->ipv6 ? "[::1]" : address->host, bound.port, bound.port, bound.port);
  std::fflush(stdout);
  const timespec wait{.tv_sec = kEvery.count(), .tv_nsec = 0};
  std::string complaint;
  while (::sigtimedwait(&ends, nullptr, &wait) < 0) {
    const Status looked = history.look();
    const std::string wrong = looked ? "" : looked.error().message;
    if (!wrong.empty() && wrong != complaint) {
      fmt::print(stderr, "ballastctl: {}\n", wrong);
    }
    complaint = wrong;
  }
  mg_stop(server);
  return ok();
}

}  // namespace ballast::ctl
