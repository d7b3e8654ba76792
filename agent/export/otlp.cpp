// SPDX-License-Identifier: Apache-2.0
#include "agent/export/otlp.h"

#include <curl/curl.h>

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "core/base/log.h"

namespace ballast::telemetry {

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

std::string traces_url(const std::string& endpoint) {
  const std::size_t host = endpoint.find("://") + 3;
  const std::size_t path = endpoint.find('/', host);
  if (path == std::string::npos) {
    return endpoint + "/v1/traces";
  }
  return path + 1 == endpoint.size() ? endpoint + "v1/traces" : endpoint;
}

enum class Answer { kTaken, kTryAgain, kRefused };

}  // namespace

struct OtlpExporter::State {
  void run();
  Answer post(const std::vector<ExportSpan>& batch);
  /// REQUIRES: mutex is not held.
  bool wait_for(std::chrono::milliseconds time);

  OtlpOptions options;
  std::string url;
  std::string complaint;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<ExportSpan> queue;
  OtlpCounts counts;
  bool stop = false;
  std::thread thread;
};

Answer OtlpExporter::State::post(const std::vector<ExportSpan>& batch) {
  const std::unique_ptr<CURL, CurlDeleter> curl(::curl_easy_init());
  const std::unique_ptr<curl_slist, HeadersDeleter> headers(
      ::curl_slist_append(nullptr, "Content-Type: application/json"));
  if (curl == nullptr || headers == nullptr) {
    return Answer::kTryAgain;
  }
  const std::string body = otlp_json(batch);
  ::curl_easy_setopt(curl.get(), CURLOPT_URL, url.c_str());
  ::curl_easy_setopt(curl.get(), CURLOPT_PROTOCOLS_STR, "http,https");
  ::curl_easy_setopt(curl.get(), CURLOPT_NOSIGNAL, 1L);
  ::curl_easy_setopt(curl.get(), CURLOPT_PROXY, "");
  ::curl_easy_setopt(curl.get(), CURLOPT_TIMEOUT_MS, static_cast<long>(options.timeout.count()));
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
    spdlog::warn("spans exported to={} state=\"{}\"", url, wrong.empty() ? "works again" : wrong);
    complaint = wrong;
  }
  if (taken) {
    return Answer::kTaken;
  }
  const bool passing = done != CURLE_OK || status == 429 || (status >= 502 && status <= 504);
  return passing ? Answer::kTryAgain : Answer::kRefused;
}

void OtlpExporter::State::run() {
  std::vector<ExportSpan> batch;
  while (true) {
    bool last = false;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return stop || !queue.empty() || !batch.empty(); });
      last = stop;
      const std::size_t room = options.batch - std::min(options.batch, batch.size());
      const auto end = queue.begin() + static_cast<std::ptrdiff_t>(std::min(queue.size(), room));
      batch.insert(batch.end(), std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
      queue.erase(queue.begin(), end);
      counts.waiting = queue.size() + batch.size();
    }
    if (batch.empty()) {
      return;  // only when it is to stop
    }
    const Answer answer = post(batch);
    std::unique_lock lock(mutex);
    counts.failures += answer == Answer::kTaken ? 0 : 1;
    if (answer == Answer::kTryAgain && !last) {
      changed.wait_for(lock, options.retry, [&] { return stop; });
      continue;
    }
    (answer == Answer::kTaken ? counts.exported : counts.dropped) += batch.size();
    batch.clear();
    counts.waiting = queue.size();
    if (last && answer != Answer::kTaken) {
      counts.dropped += queue.size();
      return;
    }
  }
}

OtlpExporter::OtlpExporter(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->thread = std::thread([this] { state_->run(); });
}

OtlpExporter::~OtlpExporter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

Result<std::unique_ptr<OtlpExporter>> OtlpExporter::start(const OtlpOptions& options) {
  if (!options.endpoint.starts_with("http://") && !options.endpoint.starts_with("https://")) {
    return Error::usage("\"" + options.endpoint + "\" is no collector's URL: give http://HOST:PORT");
  }
  static const CURLcode global = ::curl_global_init(CURL_GLOBAL_DEFAULT);
  if (global != CURLE_OK) {
    return Error::failed(std::string("libcurl: ") + ::curl_easy_strerror(global));
  }
  auto state = std::make_unique<State>();
  state->options = options;
  state->url = traces_url(options.endpoint);
  return std::unique_ptr<OtlpExporter>(new OtlpExporter(std::move(state)));
}

void OtlpExporter::offer(std::vector<ExportSpan> spans) {
  {
    const std::lock_guard lock(state_->mutex);
    for (ExportSpan& span : spans) {
      if (state_->counts.waiting >= state_->options.queue) {
        ++state_->counts.dropped;
        continue;
      }
      state_->queue.push_back(std::move(span));
      ++state_->counts.waiting;
    }
  }
  state_->changed.notify_all();
}

OtlpCounts OtlpExporter::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

}  // namespace ballast::telemetry
