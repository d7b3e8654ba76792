// SPDX-License-Identifier: Apache-2.0
#include "core/http/http_server.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <array>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/ssl/context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core.hpp>
#include <boost/beast/http.hpp>
#include <boost/beast/ssl.hpp>
#include <charconv>
#include <chrono>
#include <list>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "core/base/log.h"

namespace ballast::http {

namespace {

namespace asio = boost::asio;
namespace beast = boost::beast;
namespace wire = boost::beast::http;
using Tcp = asio::ip::tcp;
using boost::system::error_code;

using Context = std::shared_ptr<SSL_CTX>;

constexpr std::uint32_t kMostHeadBytes = 16U << 10U;

Result<Context> read_tls(const TlsFiles& files) {
  ::ERR_clear_error();
  Context context(::SSL_CTX_new(::TLS_server_method()), ::SSL_CTX_free);
  const auto wrong = [](const std::filesystem::path& file) {
    const unsigned long code = ::ERR_get_error();
    if (ERR_SYSTEM_ERROR(code)) {  // it has no text of its own
      return Error::usage(file.string() + ": " + std::generic_category().message(ERR_GET_REASON(code)));
    }
    const char* const reason = ::ERR_reason_error_string(code);
    return Error::usage(file.string() + ": " + (reason == nullptr ? "cannot be used" : reason));
  };
  if (context == nullptr ||
      ::SSL_CTX_use_certificate_chain_file(context.get(), files.certificate.c_str()) != 1) {
    return wrong(files.certificate);
  }
  if (::SSL_CTX_use_PrivateKey_file(context.get(), files.key.c_str(), SSL_FILETYPE_PEM) != 1 ||
      ::SSL_CTX_check_private_key(context.get()) != 1) {
    return wrong(files.key);
  }
  return context;
}

/// A certificate that follows its files. Thread-safe.
class Certificate {
 public:
  Certificate(TlsFiles files, Context context)
      : files_(std::move(files)), good_(std::move(context)), stamp_(stamp()) {}

  int give(SSL* connection) {
    const std::lock_guard lock(mutex_);
    if (const Stamp now = stamp(); now != stamp_) {
      stamp_ = now;
      auto read = read_tls(files_);
      if (read) {
        good_ = std::move(*read);
        spdlog::info("http certificate=\"{}\" state=\"taken over\"", files_.certificate.string());
      } else {
        spdlog::error("http certificate=\"{}\" state=\"the last good one stays\" reason=\"{}\"",
                      files_.certificate.string(), read.error().message);
      }
    }
    return ::SSL_set_SSL_CTX(connection, good_.get()) != nullptr ? 1 : 0;
  }

 private:
  // Kubernetes changes a mounted Secret by another link to other files, so the inode counts too.
  using Stamp = std::array<std::tuple<ino_t, time_t, long, off_t>, 2>;
  Stamp stamp() const {
    Stamp out{};
    for (std::size_t i = 0; i < out.size(); ++i) {
      struct stat found {};
      ::stat((i == 0 ? files_.certificate : files_.key).c_str(), &found);
      out[i] = {found.st_ino, found.st_mtim.tv_sec, found.st_mtim.tv_nsec, found.st_size};
    }
    return out;
  }

  const TlsFiles files_;
  std::mutex mutex_;
  Context good_;
  Stamp stamp_;
};

int give_certificate(SSL* connection, void* certificate) {
  return static_cast<Certificate*>(certificate)->give(connection);
}

/// RFC 3986 section 2.1, and `+` as forms write a space; what is no escape stays as it is.
std::string decoded(std::string_view in) {
  std::string out;
  for (std::size_t i = 0; i < in.size(); ++i) {
    unsigned char byte = 0;
    if (in[i] == '%' && i + 2 < in.size() &&
        std::from_chars(in.data() + i + 1, in.data() + i + 3, byte, 16).ptr == in.data() + i + 3) {
      out += static_cast<char>(byte);
      i += 2;
    } else {
      out += in[i] == '+' ? ' ' : in[i];
    }
  }
  return out;
}

using Parser = wire::request_parser<wire::empty_body>;
using Answer = wire::response<wire::string_body>;

Answer answer(const Parser::value_type& in, const Server::Handler& handler) {
  Answer out;
  out.version(11);  // RFC 9110 section 6.2: the version of the server, whatever was asked in
  out.keep_alive(false);
  out.set(wire::field::cache_control, "no-store");
  const bool head = in.method() == wire::verb::head;
  if (in.method() != wire::verb::get && !head) {
    out.result(wire::status::method_not_allowed);
    out.set(wire::field::allow, "GET, HEAD");
    out.prepare_payload();
    return out;
  }
  const auto text = [&in](wire::field name) { return std::string(in[name]); };
  const std::string target(in.target());
  const std::size_t mark = std::min(target.find('?'), target.size());
  const std::string query = mark < target.size() ? target.substr(mark + 1) : "";
  Response said;
  try {
    said = handler({decoded(std::string_view(target).substr(0, mark)),
                    decoded(std::string_view(query).substr(0, query.find('&'))), text(wire::field::host),
                    text(wire::field::accept)});
  } catch (const std::exception& error) {
    spdlog::error("http path=\"{}\" reason=\"{}\"", target, error.what());
    said = {500, "text/plain; charset=utf-8", "failed; the log says why\n"};
  }
  out.result(static_cast<unsigned>(said.status));
  out.set(wire::field::content_type, said.type);
  out.body() = std::move(said.body);
  out.prepare_payload();
  if (head) {
    out.body().clear();
  }
  return out;
}

}  // namespace

struct Server::State {
  struct Connection;

  State(Handler handles, std::unique_ptr<Certificate> follows, const Limits& most)
      : handler(std::move(handles)), certificate(std::move(follows)), limits(most) {
    if (certificate) {
      tls.emplace(asio::ssl::context::tls_server);
      ::SSL_CTX_set_min_proto_version(tls->native_handle(), TLS1_2_VERSION);
      ::SSL_CTX_set_cert_cb(tls->native_handle(), give_certificate, certificate.get());
    }
  }

  void accept();
  void make_room(std::size_t bytes, const Connection& for_whom);

  const Handler handler;
  const std::unique_ptr<Certificate> certificate;
  const Limits limits;
  std::optional<asio::ssl::context> tls;
  asio::io_context io{1};
  Tcp::acceptor acceptor{io};
  asio::steady_timer again{io};
  std::size_t held = 0;                              ///< bytes of the answers under way
  std::list<std::weak_ptr<Connection>> connections;  ///< the oldest first; touched by the thread alone
  ListenAddress address;
  std::thread thread;
};

/// One request and its answer. What is asked of the socket keeps it; the deadline closes the socket.
struct Server::State::Connection : std::enable_shared_from_this<Connection> {
  Connection(State& in, Tcp::socket from) : state(in), timer(in.io), socket(std::move(from)) {
    parser.header_limit(kMostHeadBytes);
    parser.body_limit(0);
    if (state.tls) {
      tls.emplace(socket, *state.tls);
    }
  }

  void close() {
    state.held -= std::exchange(holds, 0);
    timer.cancel();
    error_code ignored;
    socket.close(ignored);
  }

  void start() {
    timer.expires_after(state.limits.time);
    timer.async_wait([self = weak_from_this()](const error_code& cancelled) {
      if (const auto late = self.lock(); late && !cancelled) {
        late->close();
      }
    });
    if (!tls) {
      return read(socket);
    }
    tls->async_handshake(asio::ssl::stream_base::server,
                         [self = shared_from_this()](const error_code& failed) {
                           return failed ? self->close() : self->read(*self->tls);
                         });
  }

  template <typename Stream>
  void read(Stream& from) {
    wire::async_read_header(from, buffer, parser,
                            [self = shared_from_this(), &from](const error_code& failed, std::size_t) {
                              return failed ? self->close() : self->write(from);
                            });
  }

  template <typename Stream>
  void write(Stream& to) {
    said = answer(parser.get(), state.handler);
    state.make_room(said.body().size(), *this);
    holds = said.body().size();
    state.held += holds;
    serializer.emplace(said);
    wire::async_write(to, *serializer,
                      [self = shared_from_this(), &to](const error_code& failed, std::size_t) {
                        return failed ? self->close() : self->end(to);
                      });
  }

  void end(Tcp::socket& with) {
    error_code ignored;
    with.shutdown(Tcp::socket::shutdown_send, ignored);
    close();
  }

  void end(asio::ssl::stream<Tcp::socket&>& with) {
    with.async_shutdown([self = shared_from_this()](const error_code&) { self->close(); });
  }

  State& state;
  std::size_t holds = 0;  ///< its part of State::held
  asio::steady_timer timer;
  Tcp::socket socket;
  std::optional<asio::ssl::stream<Tcp::socket&>> tls;
  beast::flat_buffer buffer{kMostHeadBytes + 1};
  Parser parser;
  Answer said;
  std::optional<wire::response_serializer<wire::string_body>> serializer;
};

/// Closes who has not read its answer yet, the oldest first, until there is room for another.
void Server::State::make_room(std::size_t bytes, const Connection& for_whom) {
  for (auto each = connections.begin(); each != connections.end() && held + bytes > limits.bytes; ++each) {
    if (const auto one = each->lock(); one && one.get() != &for_whom && one->holds > 0) {
      one->close();
    }
  }
}

void Server::State::accept() {
  acceptor.async_accept([this](const error_code& failed, Tcp::socket socket) {
    if (!acceptor.is_open()) {
      return;
    }
    if (failed) {  // no descriptor is left, say
      again.expires_after(std::chrono::milliseconds(100));
      again.async_wait([this](const error_code& cancelled) { cancelled ? void() : accept(); });
      return;
    }
    connections.remove_if([](const auto& each) { return each.expired(); });
    if (connections.size() >= limits.connections) {
      if (const auto oldest = connections.front().lock()) {
        oldest->close();
      }
      connections.pop_front();
    }
    const auto made = std::make_shared<Connection>(*this, std::move(socket));
    connections.emplace_back(made);
    made->start();
    accept();
  });
}

Status check_tls(const TlsFiles& files) {
  if (files.certificate.empty() && files.key.empty()) {
    return ok();
  }
  const auto read = read_tls(files);
  return read ? ok() : Status(read.error());
}

Result<std::unique_ptr<Server>> Server::start(const ListenAddress& address, const TlsFiles& files,
                                              Handler handler, const Limits& limits) {
  if (!address.unix_path.empty()) {
    return Error::usage("address '" + address.text() + "': HTTP needs IP:PORT, not a unix socket");
  }
  // Says which program has it, where one has.
  if (Status free = check_listen_address(address); !free) {
    return free.error();
  }
  std::unique_ptr<Certificate> certificate;
  if (!files.certificate.empty()) {
    auto read = read_tls(files);
    if (!read) {
      return read.error();
    }
    certificate = std::make_unique<Certificate>(files, std::move(*read));
  }
  auto state = std::make_unique<State>(std::move(handler), std::move(certificate), limits);
  error_code failed;
  const auto host = asio::ip::make_address(address.host, failed);
  const Tcp::endpoint at(host, address.port);
  Tcp::acceptor& acceptor = state->acceptor;
  failed || acceptor.open(at.protocol(), failed) ||
      acceptor.set_option(Tcp::acceptor::reuse_address(true), failed) || acceptor.bind(at, failed) ||
      acceptor.listen(asio::socket_base::max_listen_connections, failed);
  if (failed) {
    return Error::failed("cannot listen on " + address.text() + ": " + failed.message());
  }
  state->address = address;
  state->address.port = acceptor.local_endpoint().port();
  state->accept();
  state->thread = std::thread([&io = state->io] { io.run(); });
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  state_->io.stop();
  state_->thread.join();
}

const ListenAddress& Server::address() const {
  return state_->address;
}

}  // namespace ballast::http
