// SPDX-License-Identifier: Apache-2.0
#include "agent/export/metrics_server.h"

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

namespace ballast::telemetry {

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
        spdlog::info("metrics certificate=\"{}\" state=\"taken over\"", files_.certificate.string());
      } else {
        spdlog::error("metrics certificate=\"{}\" state=\"the last good one stays\" reason=\"{}\"",
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

void answer(const httplib::Request& request, httplib::Response& response,
            const std::function<std::string(bool)>& text) {
  const bool open_metrics =
      request.get_header_value("Accept").find("application/openmetrics-text") != std::string::npos;
  response.set_content(text(open_metrics), open_metrics
                                               ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                                               : "text/plain; version=0.0.4; charset=utf-8");
}

}  // namespace

struct MetricsServer::State {
  std::unique_ptr<Certificate> certificate;
  std::unique_ptr<httplib::Server> server;
  int port = -1;
  std::thread thread;
};

Status check_tls(const TlsFiles& files) {
  if (files.certificate.empty() && files.key.empty()) {
    return ok();
  }
  const auto read = read_tls(files);
  return read ? ok() : Status(read.error());
}

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const ListenAddress& address,
                                                            const TlsFiles& files,
                                                            std::function<std::string(bool)> text) {
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
  server.Get("/metrics",
             [text = std::move(text)](const httplib::Request& request, httplib::Response& response) {
               answer(request, response, text);
             });
  state->port = address.port;
  const bool bound = address.port == 0 ? (state->port = server.bind_to_any_port(address.host)) > 0
                                       : server.bind_to_port(address.host, address.port);
  if (!bound) {
    return Error::failed("cannot listen on " + address.text());
  }
  state->thread = std::thread([&server] { server.listen_after_bind(); });
  while (!server.is_running()) {
    std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }
  return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(state)));
}

MetricsServer::MetricsServer(std::unique_ptr<State> state) : state_(std::move(state)) {}

MetricsServer::~MetricsServer() {
  state_->server->stop();
  state_->thread.join();
}

int MetricsServer::port() const {
  return state_->port;
}

}  // namespace ballast::telemetry
