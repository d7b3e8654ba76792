// SPDX-License-Identifier: Apache-2.0
#include "tools/ctl/ui.h"

#include <fmt/format.h>
#include <signal.h>

#include <chrono>
#include <deque>
#include <mutex>
#include <optional>
#include <thread>

#include "core/base/file.h"
#include "core/base/listen_address.h"
#include "core/http/http_server.h"
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
      const double unix_s =
          std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
      const auto said = status(*view, "");
      if (!top || !seen || !said) {
        return !top ? top.error() : !seen ? seen.error() : said.error();
      }
      const Json& s = said->json;
      const std::string trouble = s["trouble"].get<std::string>();
      const std::lock_guard lock(mutex_);
      snapshots_.push_back(
          {{"seq", ++seq_},
           {"t", unix_s},
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

http::Response answer(const http::Request& request, const History& history) {
  // A page of elsewhere could name this address as its own (DNS rebinding); it would not say localhost.
  const std::string named = request.host.substr(0, request.host.rfind(':'));
  if (named != "127.0.0.1" && named != "localhost" && named != "[::1]") {
    return {.status = 403, .body = "by 127.0.0.1 or localhost alone\n"};
  }
  if (request.path == "/data") {
    const std::size_t number = request.query.find('=') + 1;
    return {.type = "application/json",
            .body = history.after(std::strtoull(request.query.c_str() + number, nullptr, 10))
                        .dump(-1, ' ', false, Json::error_handler_t::replace)};
  }
  if (request.path == "/explain") {
    return {.body = history.explained(request.query)};
  }
  if (request.path == "/") {
    return {.type = "text/html; charset=utf-8", .body = page::html(nullptr)};
  }
  return {.status = 404, .body = "there are /, /data and /explain\n"};
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
  sigset_t ends;
  sigemptyset(&ends);
  sigaddset(&ends, SIGINT);
  sigaddset(&ends, SIGTERM);
  ::pthread_sigmask(SIG_BLOCK, &ends, nullptr);
  const auto server = http::Server::start(
      *address, {}, [&history](const http::Request& request) { return answer(request, history); });
  if (!server) {
    return server.error().in("--listen");
  }
  const ListenAddress& at = (*server)->address();
  fmt::print("http://{}/ (a browser on another machine: ssh -L {}:{})\n", at.text(), at.port, at.text());
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
  return ok();
}

}  // namespace ballast::ctl
