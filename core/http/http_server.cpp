// SPDX-License-Identifier: Apache-2.0
#include "core/http/http_server.h"

#include <httplib.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/stat.h>

#include <array>
#include <mutex>
#include <system_error>
#include <thread>
#include <tuple>
#include <utility>

#include "core/base/log.h"

namespace ballast::http {

namespace {

using Context = std::shared_ptr<SSL_CTX>;

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

void answer(const httplib::Request& in, httplib::Response& out, const Server::Handler& handler) {
  std::string query;
  if (!in.params.empty()) {
    const auto& [key, value] = *in.params.begin();
    query = value.empty() ? key : key + "=" + value;
  }
  Response said =
      handler({in.path, std::move(query), in.get_header_value("Host"), in.get_header_value("Accept")});
  out.status = said.status;
  out.set_header("Cache-Control", "no-store");
  out.set_content(std::move(said.body), said.type.c_str());
}

}  // namespace

struct Server::State {
  std::unique_ptr<Certificate> certificate;
  std::unique_ptr<httplib::Server> server;
  ListenAddress address;
  std::thread thread;
};

Status check_tls(const TlsFiles& files) {
  if (files.certificate.empty() && files.key.empty()) {
    return ok();
  }
  const auto read = read_tls(files);
  return read ? ok() : Status(read.error());
}

Result<std::unique_ptr<Server>> Server::start(const ListenAddress& address, const TlsFiles& files,
                                              Handler handler) {
  if (!address.unix_path.empty()) {
    return Error::usage("address '" + address.text() + "': HTTP needs IP:PORT, not a unix socket");
  }
  // The library says only that it could not start.
  if (Status free = check_listen_address(address); !free) {
    return free.error();
  }
  auto state = std::make_unique<State>();
  if (files.certificate.empty()) {
    state->server = std::make_unique<httplib::Server>();
  } else {
    auto read = read_tls(files);
    if (!read) {
      return read.error();
    }
    state->certificate = std::make_unique<Certificate>(files, std::move(*read));
    state->server = std::make_unique<httplib::SSLServer>([&](SSL_CTX& context) {
      ::SSL_CTX_set_min_proto_version(&context, TLS1_2_VERSION);
      ::SSL_CTX_set_cert_cb(&context, give_certificate, state->certificate.get());
      return true;
    });
  }
  httplib::Server& server = *state->server;
  // Two threads: a scraper that hangs does not keep the next one out.
  server.new_task_queue = [] { return new httplib::ThreadPool(2); };
  server.set_keep_alive_max_count(1);
  server.set_read_timeout(5);
  server.set_write_timeout(5);
  server.set_payload_max_length(0);
  // Its own would share the port with whoever asks for it.
  server.set_socket_options([](int socket) {
    const int on = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  });
  server.Get(".*", [handler = std::move(handler)](const httplib::Request& in, httplib::Response& out) {
    answer(in, out, handler);
  });
  state->address = address;
  const int port = address.port == 0                                 ? server.bind_to_any_port(address.host)
                   : server.bind_to_port(address.host, address.port) ? address.port
                                                                     : -1;
  if (port <= 0) {
    return Error::failed("cannot listen on " + address.text());
  }
  state->address.port = static_cast<std::uint16_t>(port);
  state->thread = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::unique_ptr<Server>(new Server(std::move(state)));
}

Server::Server(std::unique_ptr<State> state) : state_(std::move(state)) {}

Server::~Server() {
  state_->server->stop();
  state_->thread.join();
}

const ListenAddress& Server::address() const {
  return state_->address;
}

}  // namespace ballast::http
