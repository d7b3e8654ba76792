// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <cstddef>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "core/base/listen_address.h"
#include "core/base/result.h"

namespace ballast::http {

/// PEM files; both empty: no TLS.
struct TlsFiles {
  std::filesystem::path certificate;  ///< with the chain that leads to its authority
  std::filesystem::path key;
};

/// kUsage, naming the file and the reason, for what cannot be read or does not belong together.
Status check_tls(const TlsFiles& files);

struct Request {
  std::string path;   ///< without what is behind `?`
  std::string query;  ///< decoded, one `KEY=VALUE` or a bare `VALUE`; what follows an `&` is left out
  std::string host;
  std::string accept;
};

struct Response {
  int status = 200;
  std::string type = "text/plain; charset=utf-8";
  std::string body;
};

/// What peers may hold, whoever they are; a head has 16 KB at most. Where there are too many connections, or
/// their answers too large together, the oldest is closed, because each is here for one answer: who holds
/// them open keeps nobody out.
struct Limits {
  std::size_t connections = 64;
  std::chrono::milliseconds time{10'000};  ///< of a connection, from its first byte to its last
  std::size_t bytes = 32U << 20U;          ///< of all answers that wait to be read, but for one alone
};

/// GET over HTTP or, with a certificate, HTTPS alone (TLS 1.2 and later): one request a connection, for
/// operators and what scrapes. Files that change are taken over with the next connection; those that cannot
/// be used are logged once, and the last good ones stay.
class Server {
 public:
  using Handler = std::function<Response(const Request&)>;
  /// `handler` is called from the one thread of the server; what it throws is logged and answered by 500.
  /// Errors: kUsage for a unix socket, an address that is
  /// taken and TLS files; kFailed when it cannot be listened on.
  static Result<std::unique_ptr<Server>> start(const ListenAddress& address, const TlsFiles& files,
                                               Handler handler, const Limits& limits = {});
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  /// As bound, with the port that the kernel chose.
  const ListenAddress& address() const;

 private:
  struct State;
  explicit Server(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace ballast::http
