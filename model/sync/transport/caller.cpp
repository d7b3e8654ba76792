// SPDX-License-Identifier: Apache-2.0
#include "model/sync/transport/caller.h"

#include <spdlog/spdlog.h>

#include <utility>

#include "core/base/file.h"
#include "model/sync/transport/channel.h"
#include "model/sync/transport/credentials.h"

namespace ballast::sync {

Caller::Caller(CallerOptions options)
    : options_(std::move(options)), backoff_(options_.first_wait, options_.longest_wait) {}

Caller::~Caller() = default;

void Caller::start(Talk talk, std::function<void()> ended) {
  talk_ = std::move(talk);
  ended_ = std::move(ended);
  thread_ = std::thread([this] { run(); });
}

void Caller::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (context_ != nullptr) {
      context_->TryCancel();
    }
  }
  changed_.notify_all();
  thread_.join();
}

void Caller::reached(const std::string& more) {
  backoff_.reset();
  if (!std::exchange(answered_, true)) {
    spdlog::info("{} reached address={}{}", options_.what, options_.address, more);
    told_ = false;
  }
}

grpc::Status Caller::call() {
  const bool shows = !options_.token_file.empty();
  if (shows && options_.tls.empty()) {
    return {grpc::FAILED_PRECONDITION, "a token is never sent in the clear"};
  }
  const auto credentials = channel_credentials(options_.tls, shows);
  if (!credentials) {
    return {grpc::FAILED_PRECONDITION, credentials.error().message};
  }
  const auto channel = make_channel(options_.address, *credentials, options_.server_name);
  grpc::ClientContext context;
  if (shows) {
    const auto token = read_file(options_.token_file);  // it is renewed in its place
    if (!token) {
      return {grpc::FAILED_PRECONDITION, token.error().message};
    }
    context.AddMetadata("authorization", "Bearer " + token->substr(0, token->find_last_not_of(" \r\n") + 1));
  }
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      return grpc::Status::OK;
    }
    context_ = &context;
  }
  answered_ = false;
  const grpc::Status status = talk_(channel, &context);
  const std::lock_guard lock(mutex_);
  context_ = nullptr;
  return status;
}

void Caller::run() {
  while (true) {
    const std::string wrong = call().error_message();
    std::unique_lock lock(mutex_);
    ended_();
    if (stopping_) {
      return;
    }
    const auto wait = backoff_.next();
    spdlog::log(std::exchange(told_, true) ? spdlog::level::debug : spdlog::level::warn,
                "{} away address={} error=\"{}\" retry_ms={}", options_.what, options_.address, wrong,
                wait.count());
    changed_.wait_for(lock, wait, [&] { return stopping_; });
  }
}

}  // namespace ballast::sync
