// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/client.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <utility>

#include "core/base/file.h"
#include "core/base/log.h"
#include "core/base/url.h"

namespace ballast::kube {
namespace {

namespace fs = std::filesystem;
using Ms = std::chrono::milliseconds;
using Steady = std::chrono::steady_clock;

constexpr std::size_t kMaxLine = 16U << 20;
constexpr std::size_t kMaxBody = 256U << 20;

std::string trimmed(std::string text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r' || text.back() == ' ')) {
    text.pop_back();
  }
  return text;
}

bool allowed_server(const std::string& server) {
  // A password is taken by no API server, and every message would show it.
  return server.find('@') == std::string::npos &&
         (server.starts_with("https://") || server.starts_with("http://127.0.0.1:") ||
          server.starts_with("http://[::1]:"));
}

bool worth_another(long status) {
  return status == 429 || status == 503;
}

/// What one transfer writes to.
struct Transfer {
  const std::function<bool(std::string_view)>* line = nullptr;
  bool objects = false;  ///< are told, and not lines
  const std::atomic<bool>* stopped = nullptr;
  CURL* curl = nullptr;
  Steady::time_point heard = Steady::now();
  std::chrono::seconds silence{0};  ///< 0: not looked at
  bool silent = false;
  std::string body;  ///< the whole body, or the part of a line that has come
  bool done = false;
  bool too_long = false;

  bool take_lines() {
    std::size_t begin = 0;
    for (std::size_t end; (end = body.find('\n', begin)) != std::string::npos; begin = end + 1) {
      if (end > begin && !(*line)(std::string_view(body).substr(begin, end - begin))) {
        done = true;
        return false;
      }
    }
    body.erase(0, begin);
    too_long = body.size() > kMaxLine;
    return !too_long;
  }

  std::size_t at = 0;  ///< as far as the body was looked at for objects
  std::size_t depth = 0;
  bool opened = false;
  bool in_text = false;
  bool in_list = false;

  /// The objects in arrays of the outermost object, which is how a list has its items.
  bool take_objects() {
    std::size_t begin = 0;
    for (; at < body.size(); ++at) {
      const char c = body[at];
      if (in_text) {
        at += c == '\\' ? 1 : 0;
        in_text = c != '"';
      } else if (c == '"') {
        in_text = true;
      } else if (c == '{' || c == '[') {
        in_list = depth == 1 ? c == '[' : in_list;
        begin = depth == 2 ? at : begin;
        opened = true;
        ++depth;
      } else if ((c == '}' || c == ']') && depth > 0) {
        --depth;
        if (depth == 2 && in_list && !(*line)(std::string_view(body).substr(begin, at + 1 - begin))) {
          done = true;
          return false;
        }
        begin = depth == 2 ? at + 1 : begin;
      }
    }
    begin = depth > 2 ? begin : body.size();
    body.erase(0, begin);
    at -= begin;
    too_long = body.size() > kMaxLine;
    return !too_long;
  }
};

std::size_t on_body(char* data, std::size_t size, std::size_t count, void* user) {
  auto& transfer = *static_cast<Transfer*>(user);
  transfer.heard = Steady::now();
  transfer.body.append(data, size * count);
  long status = 0;
  curl_easy_getinfo(transfer.curl, CURLINFO_RESPONSE_CODE, &status);
  if (transfer.line != nullptr && status == 200) {
    return (transfer.objects ? transfer.take_objects() : transfer.take_lines()) ? size * count : 0;
  }
  transfer.too_long = transfer.body.size() > kMaxBody;
  return transfer.too_long ? 0 : size * count;
}

int on_progress(void* user, curl_off_t, curl_off_t, curl_off_t, curl_off_t) {
  auto& transfer = *static_cast<Transfer*>(user);
  transfer.silent = transfer.silence.count() > 0 && Steady::now() - transfer.heard > transfer.silence;
  return *transfer.stopped || transfer.silent ? 1 : 0;
}

}  // namespace

/// One libcurl handle, whose connection outlives a call, and a multi handle for it alone: the one way to wake
/// a transfer that waits.
struct Client::Handle {
  Handle() : curl(curl_easy_init()), multi(curl_multi_init()) {}
  ~Handle() {
    curl_easy_cleanup(curl);
    curl_multi_cleanup(multi);
  }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  void wake() { curl_multi_wakeup(multi); }
  /// Until it is done or `stopped`; looks at the progress once a second.
  CURLcode perform(const std::atomic<bool>& stopped) {
    CURLcode code = CURLE_ABORTED_BY_CALLBACK;
    curl_multi_add_handle(multi, curl);
    for (int running = 1; running > 0 && !stopped;) {
      if (curl_multi_perform(multi, &running) != CURLM_OK ||
          (running > 0 && curl_multi_poll(multi, nullptr, 0, 1000, nullptr) != CURLM_OK)) {
        code = CURLE_FAILED_INIT;
        break;
      }
    }
    int left = 0;
    if (const CURLMsg* done = curl_multi_info_read(multi, &left)) {
      code = done->data.result;
    }
    curl_multi_remove_handle(multi, curl);
    return code;
  }
  CURL* curl;
  CURLM* multi;
};

/// A handle out of the pool for the length of a call.
class Client::Lent {
 public:
  explicit Lent(Client& client) : client_(client) {
    const std::lock_guard lock(client.mutex_);
    if (client.idle_.empty()) {
      handle_ = std::make_unique<Handle>();
    } else {
      handle_ = std::move(client.idle_.back());
      client.idle_.pop_back();
    }
    curl_easy_reset(handle_->curl);  // options go, the connection stays
    client.lent_.insert(handle_.get());
  }
  ~Lent() {
    const std::lock_guard lock(client_.mutex_);
    client_.lent_.erase(handle_.get());
    if (whole_) {
      client_.idle_.push_back(std::move(handle_));
    }
  }
  Lent(const Lent&) = delete;
  Lent& operator=(const Lent&) = delete;
  CURL* get() const { return handle_->curl; }
  CURLcode perform() {
    const CURLcode code = handle_->perform(client_.stopped_);
    whole_ = code == CURLE_OK;
    return code;
  }

 private:
  Client& client_;
  std::unique_ptr<Handle> handle_;
  /// Over HTTP/2 a call that timed out leaves its connection open, and the next would go over it: where
  /// packets are lost that is for as long as TCP tries, a quarter of an hour. So it goes with its handle.
  bool whole_ = true;
};

Result<ClientOptions> in_cluster(const fs::path& folder) {
  const char* host = std::getenv("KUBERNETES_SERVICE_HOST");
  const char* port = std::getenv("KUBERNETES_SERVICE_PORT");
  if (host == nullptr || port == nullptr) {
    return Error::usage(
        "not in a cluster: KUBERNETES_SERVICE_HOST and KUBERNETES_SERVICE_PORT are not set; set "
        "kubernetes.server, kubernetes.ca_file and kubernetes.token_file");
  }
  ClientOptions options;
  const std::string name = host;
  options.server =
      "https://" + (name.find(':') == std::string::npos ? name : "[" + name + "]") + ":" + std::string(port);
  options.ca_file = folder / "ca.crt";
  options.token_file = folder / "token";
  return options;
}

Result<std::unique_ptr<Client>> Client::create(ClientOptions options) {
  static const CURLcode started = curl_global_init(CURL_GLOBAL_DEFAULT);
  if (started != CURLE_OK) {
    return Error::failed(fmt::format("libcurl: {}", curl_easy_strerror(started)));
  }
  if (!allowed_server(options.server)) {
    return Error::usage("kubernetes.server: \"" + without_secrets(options.server) +
                        "\" is not https://HOST:PORT");
  }
  for (const fs::path& file : {options.ca_file, options.token_file}) {
    if (file.empty()) {
      continue;
    }
    if (const auto bytes = read_file(file); !bytes) {
      return Error::usage("credentials of the API server: " + bytes.error().message);
    }
  }
  return std::unique_ptr<Client>(new Client(std::move(options)));
}

Client::Client(ClientOptions options) : options_(std::move(options)) {}

Client::~Client() {
  stop();
}

void Client::stop() {
  {
    const std::lock_guard lock(mutex_);
    stopped_ = true;
    for (Handle* handle : lent_) {
      handle->wake();
    }
  }
  wake_.notify_all();
}

bool Client::sleep(Ms time) {
  std::unique_lock lock(mutex_);
  return !wake_.wait_for(lock, time, [this] { return stopped_.load(); });
}

std::string Client::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

bool Client::away_within(std::chrono::seconds time) const {
  const MonotonicNs at = away_at_;
  return at != 0 && std::chrono::nanoseconds(SystemClock().now() - at) < time;
}

void Client::note(const std::string& trouble) {
  std::string before;
  {
    const std::lock_guard lock(mutex_);
    before = std::exchange(trouble_, trouble);
  }
  if (trouble.empty() && !before.empty()) {
    spdlog::info("API server works again server={}", options_.server);
  } else if (!trouble.empty() && before.empty()) {
    spdlog::warn("API server trouble server={} reason=\"{}\"", options_.server, trouble);
  }
}

std::string Client::token() {
  if (options_.token_file.empty()) {
    return {};
  }
  std::error_code error;
  const auto time = fs::last_write_time(options_.token_file, error);
  const std::lock_guard lock(mutex_);
  // The kubelet swaps a link, and what is behind it has another time.
  if (!error && (token_.empty() || time != token_time_)) {
    if (const auto bytes = read_file(options_.token_file)) {
      token_ = trimmed(*bytes);
      token_time_ = time;
    }
  }
  return token_;
}

Result<Reply> Client::once(const Request& request, const std::function<bool(std::string_view)>* line,
                           Ms& retry_after) {
  Lent lent(*this);
  CURL* curl = lent.get();
  Transfer transfer{.line = line, .objects = request.objects_of_list, .stopped = &stopped_, .curl = curl};
  char reason[CURL_ERROR_SIZE] = "";
  curl_slist* headers = nullptr;
  const auto add = [&headers](const std::string& header) {
    headers = curl_slist_append(headers, header.c_str());
  };
  add("Accept: " + request.accept);
  add("Expect:");
  if (const std::string bearer = token(); !bearer.empty()) {
    add("Authorization: Bearer " + bearer);
  }
  if (!request.body.empty()) {
    add("Content-Type: " + request.content_type);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDSIZE, static_cast<long>(request.body.size()));
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, request.body.c_str());
  }
  const std::string url = options_.server + request.path;
  curl_easy_setopt(curl, CURLOPT_URL, url.c_str());
  curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, request.method.c_str());
  curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
  curl_easy_setopt(curl, CURLOPT_USERAGENT, "ballast");
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, reason);
  curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
  curl_easy_setopt(curl, CURLOPT_PROXY, "");
  curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
  curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, static_cast<long>(options_.connect_timeout.count()));
  if (!options_.ca_file.empty()) {
    curl_easy_setopt(curl, CURLOPT_CAINFO, options_.ca_file.c_str());
    curl_easy_setopt(curl, CURLOPT_CAPATH, nullptr);
  }
  if (line == nullptr) {
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, static_cast<long>(options_.request_timeout.count()));
  } else {
    // libcurl's own low-speed limit looks at an average of seconds, and so comes late.
    transfer.silence = request.silence;
  }
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
  curl_easy_setopt(curl, CURLOPT_WRITEDATA, &transfer);
  curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
  curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
  curl_easy_setopt(curl, CURLOPT_XFERINFODATA, &transfer);
  const CURLcode code = lent.perform();
  curl_slist_free_all(headers);

  Reply reply;
  curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &reply.status);
  if (curl_header* date = nullptr; curl_easy_header(curl, "Date", 0, CURLH_HEADER, -1, &date) == CURLHE_OK) {
    reply.date = curl_getdate(date->value, nullptr);
  }
  curl_off_t wait_s = 0;
  curl_easy_getinfo(curl, CURLINFO_RETRY_AFTER, &wait_s);
  retry_after = Ms(std::clamp<curl_off_t>(wait_s, 0, 3600) * 1000);
  if (stopped_) {
    return Error::failed(request.method + " " + request.path + ": stopped");
  }
  const bool cut = request.objects_of_list && line != nullptr && reply.status == 200 &&
                   (!transfer.opened || transfer.depth > 0);
  if ((code != CURLE_OK || cut) && !transfer.done) {
    const std::string said = transfer.too_long ? "answer too long"
                             : transfer.silent ? fmt::format("silent for {} s", request.silence.count())
                             : cut             ? "half of a list"
                             : reason[0] != 0  ? reason
                                               : curl_easy_strerror(code);
    away_at_ = SystemClock().now();
    return Error::failed(fmt::format("{} {}{}: {}", request.method, options_.server, request.path, said));
  }
  if (line == nullptr || reply.status != 200) {
    reply.body = std::move(transfer.body);
  }
  return reply;
}

Result<Reply> Client::call(const Request& request) {
  const auto end = Steady::now() + options_.retry_budget;
  Backoff backoff(options_.backoff_least, options_.backoff_most);
  bool token_tried = false;
  while (true) {
    Ms retry_after{0};
    Result<Reply> reply = once(request, nullptr, retry_after);
    bool again = false;
    if (stopped_) {
      return Error::failed(request.method + " " + request.path + ": stopped");
    }
    if (!reply) {
      again = request.method != "POST";
    } else if (reply->status == 401 && !token_tried) {
      token_tried = true;
      const std::lock_guard lock(mutex_);
      token_.clear();
      continue;
    } else {
      again = worth_another(reply->status) || (reply->status >= 500 && request.method != "POST");
    }
    const Ms wait = std::max(retry_after, again ? backoff.next() : Ms(0));
    if (!again || Steady::now() + wait > end) {
      const bool refused = reply && (reply->status == 401 || reply->status == 403 || reply->status == 429 ||
                                     reply->status >= 500);
      note(!reply ? reply.error().message : refused ? api_error(request, *reply).message : "");
      return reply;
    }
    note(reply ? api_error(request, *reply).message : reply.error().message);
    if (!sleep(wait)) {
      return Error::failed(request.method + " " + request.path + ": stopped");
    }
  }
}

Result<Json> Client::get(const std::string& path) {
  const Request request{.path = path};
  Result<Reply> reply = call(request);
  if (!reply) {
    return reply.error();
  }
  if (!reply->ok()) {
    return api_error(request, *reply);
  }
  Json json = reply->json();
  if (json.is_discarded()) {
    return Error::failed("GET " + path + ": the answer is no JSON");
  }
  return json;
}

Result<Reply> Client::stream(const Request& request, const std::function<bool(std::string_view)>& line) {
  Ms ignored{0};
  if (stopped_) {
    return Error::failed(request.method + " " + request.path + ": stopped");
  }
  return once(request, &line, ignored);
}

Error api_error(const Request& request, const Reply& reply) {
  const Json json = reply.json();
  std::string message = text_at(json, {"message"});
  if (message.empty()) {
    message = reply.body.substr(0, 200);
  }
  const char* hint = reply.status == 401   ? " (token refused or expired)"
                     : reply.status == 403 ? " (permission missing: see deploy/daemonset/base/rbac.yaml)"
                                           : "";
  const bool refused = reply.status == 401 || reply.status == 403;
  return {refused ? Error::Kind::kPrivilege : Error::Kind::kFailed,
          fmt::format("{} {}: {}{}: {}", request.method, request.path, reply.status, hint, message)};
}

std::string encode(const std::string& text) {
  std::string out;
  for (const unsigned char c : text) {
    if (std::isalnum(c) != 0 || c == '-' || c == '.' || c == '_' || c == '~') {
      out += static_cast<char>(c);
    } else {
      out += fmt::format("%{:02X}", c);
    }
  }
  return out;
}

const Json& at(const Json& object, std::initializer_list<const char*> path) {
  static const Json null;
  const Json* now = &object;
  for (const char* key : path) {
    if (!now->is_object()) {
      return null;
    }
    const auto found = now->find(key);
    if (found == now->end()) {
      return null;
    }
    now = &*found;
  }
  return *now;
}

std::string text_at(const Json& object, std::initializer_list<const char*> path) {
  const Json& found = at(object, path);
  return found.is_string() ? found.get<std::string>() : std::string();
}

}  // namespace ballast::kube
