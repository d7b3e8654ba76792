// SPDX-License-Identifier: Apache-2.0
#include "core/metrics/otlp_post.h"

#include <curl/curl.h>

#include <memory>
#include <utility>

#include "core/base/log.h"
#include "core/base/url.h"

namespace ballast::metrics {

namespace {

struct CurlDeleter {
  void operator()(CURL* curl) const { ::curl_easy_cleanup(curl); }
};
struct HeadersDeleter {
  void operator()(curl_slist* list) const { ::curl_slist_free_all(list); }
};

std::size_t swallow(char*, std::size_t size, std::size_t count, void*) {
  return size * count;
}

}  // namespace

Result<std::string> otlp_url(const std::string& endpoint, const std::string& path) {
  if (!endpoint.starts_with("http://") && !endpoint.starts_with("https://")) {
    return Error::usage("\"" + without_secrets(endpoint) + "\" is no collector's URL: give http://HOST:PORT");
  }
  static const CURLcode global = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK) {
    return Error::failed(std::string("libcurl: ") + ::curl_easy_strerror(global));
  }
  const std::size_t own = endpoint.find('/', endpoint.find("://") + 3);
  return own == std::string::npos || own + 1 == endpoint.size() ? endpoint.substr(0, own) + path : endpoint;
}

OtlpAnswer otlp_post(const std::string& url, const std::string& body, std::chrono::milliseconds timeout,
                     const char* what, std::string& complaint) {
  const std::unique_ptr<CURL, CurlDeleter> curl(::curl_easy_init());
  const std::unique_ptr<curl_slist, HeadersDeleter> headers(
      ::curl_slist_append(nullptr, "Content-Type: application/json"));
  if (curl == nullptr || headers == nullptr) {
    return OtlpAnswer::kTryAgain;
  }
  ::curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  ::curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  ::curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");
  ::curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(timeout.count()));
  ::curl_easy_setopt(curl.get(), CURLOPT_HTTPHEADER, headers.get());
  ::curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDS, body.c_str());
  ::curl_easy_setopt(curl.get(), CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
  ::curl_easy_setopt(curl.get(), CURLOPT_WRITEFUNCTION, swallow);
  const CURLcode done = ::curl_easy_perform(curl.get());
  long status = 0;
  ::curl_easy_getinfo(curl.get(), CURLINFO_RESPONSE_CODE, &status);
  const bool taken = done == CURLE_OK && status / 100 == 2;
  const std::string wrong = taken              ? ""
                            : done != CURLE_OK ? ::curl_easy_strerror(done)
                                               : "status " + std::to_string(status);
  if (wrong != complaint) {
    spdlog::warn("{} exported to={} state=\"{}\"", what, without_secrets(url),
                 wrong.empty() ? "works again" : wrong);
    complaint = wrong;
  }
  if (taken) {
    return OtlpAnswer::kTaken;
  }
  const bool passing = done != CURLE_OK || status == 429 || (status >= 502 && status <= 504);
  return passing ? OtlpAnswer::kTryAgain : OtlpAnswer::kRefused;
}

OtlpSender::OtlpSender(Step step) {
  thread_ = std::thread([this, step = std::move(step)] {
    while (true) {
      const auto pause = step(false);
      std::unique_lock lock(mutex_);
      changed_.wait_for(lock, pause, [this] { return stop_ || woken_; });
      woken_ = false;
      if (stop_) {
        break;
      }
    }
    step(true);
  });
}

OtlpSender::~OtlpSender() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void OtlpSender::wake() {
  {
    const std::lock_guard lock(mutex_);
    woken_ = true;
  }
  changed_.notify_all();
}

}  // namespace ballast::metrics
