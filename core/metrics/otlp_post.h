// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <condition_variable>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

#include "core/base/result.h"

namespace ballast::metrics {

/// `endpoint` with `path` behind it where it has none of its own. kUsage: it is no http:// or https:// URL.
Result<std::string> otlp_url(const std::string& endpoint, const std::string& path);

enum class OtlpAnswer { kTaken, kTryAgain, kRefused };

/// One OTLP/HTTP export request in JSON. What fails is logged once, and once more when it works again:
/// `complaint` is what was logged last.
OtlpAnswer otlp_post(const std::string& url, const std::string& body, std::chrono::milliseconds timeout,
                     const char* what, std::string& complaint);

/// The thread that sends to a collector. It calls `step` at once, then whenever it is woken or what `step`
/// answered is over, and with `true` for the last time when it is to end; the destructor waits for that.
class OtlpSender {
 public:
  using Step = std::function<std::chrono::milliseconds(bool last)>;
  explicit OtlpSender(Step step);
  ~OtlpSender();
  OtlpSender(const OtlpSender&) = delete;
  OtlpSender& operator=(const OtlpSender&) = delete;
  void wake();

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  bool woken_ = false;
  bool stop_ = false;
  std::thread thread_;
};

}  // namespace ballast::metrics
