// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "core/base/log.h"
#include "core/base/process.h"

namespace ballast::kube {
namespace {

constexpr long kGone = 410;
constexpr long kNotFound = 404;
/// So often in a row, and it is the version that the server does not take (as after a restore of etcd, whose
/// versions are older): only a list gives another.
constexpr int kRefusals = 3;
constexpr MonotonicNs kWholeWatch = 1'000'000'000ULL;

}  // namespace

std::string key_of(const Json& object) {
  return text_at(object, {"metadata", "namespace"}) + "/" + text_at(object, {"metadata", "name"});
}

Watch::Watch(Client& client, WatchOptions options, WatchHandler handler)
    : client_(client), options_(std::move(options)), handler_(std::move(handler)) {
  thread_ = std::thread([this] { run(); });
}

Watch::~Watch() {
  stopped_ = true;
  thread_.join();
}

std::string Watch::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_;
}

void Watch::note(const std::string& trouble) {
  const std::lock_guard lock(mutex_);
  if (!trouble.empty() && trouble_ != trouble && !client_.stopped()) {
    spdlog::warn("watch path={} state=\"{}\"", options_.path, trouble);
  }
  trouble_ = trouble;
}

void Watch::run() {
  if (options_.prompt) {
    ask_for_short_slices();
  }
  // Whose silence is noticed soon is tried again as soon.
  Backoff backoff(options_.backoff_least,
                  std::min<std::chrono::milliseconds>(options_.backoff_most, options_.silence / 2));
  bool listed = false;
  while (!stopped_ && !client_.stopped()) {
    advanced_ = false;
    if (!listed) {
      listed = list();
      if (!listed) {
        client_.sleep(backoff.next());
        continue;
      }
    }
    listed = watch() == End::kResume;
    if (advanced_) {
      backoff.reset();
    } else {
      client_.sleep(backoff.next());
    }
  }
  ended_ = true;
}

bool Watch::list() {
  std::set<std::string> now;
  std::string more;
  std::string version;
  do {
    // Of changes alone the version is wanted, which a page of one object tells as well.
    std::string path = fmt::format("{}?limit={}", options_.path, options_.changes_only ? 1 : options_.page);
    path += options_.query.empty() ? "" : "&" + options_.query;
    path += more.empty() ? "" : "&continue=" + encode(more);
    const Request request{.path = path, .accept = options_.metadata_only ? kMetadataList : kJsonBody};
    const Result<Reply> reply = client_.call(request);
    if (reply && reply->status == kNotFound && options_.optional) {
      heard_ = SystemClock().now();
      synced_ = true;
      note("");
      return false;
    }
    if (!reply || !reply->ok()) {
      note(reply ? api_error(request, *reply).message : reply.error().message);
      return false;
    }
    const Json page = reply->json();
    const Json& items = at(page, {"items"});
    if (!items.is_array() && !items.is_null()) {
      note("GET " + options_.path + ": the answer is no list");
      return false;
    }
    version = text_at(page, {"metadata", "resourceVersion"});
    if (options_.changes_only) {
      break;
    }
    for (const Json& object : items) {
      now.insert(key_of(object));
      handler_.changed(object);
    }
    more = text_at(page, {"metadata", "continue"});
  } while (!more.empty());
  if (version.empty()) {
    note("GET " + options_.path + ": the list has no resourceVersion");
    return false;
  }
  for (const std::string& key : known_) {
    if (!now.contains(key)) {
      handler_.deleted(key);
    }
  }
  known_ = std::move(now);
  version_ = std::move(version);
  refusals_ = 0;
  ++lists_;
  heard_ = SystemClock().now();
  synced_ = true;
  note("");
  handler_.settled();
  return true;
}

bool Watch::line(std::string_view text, End& end) {
  const Json event = Json::parse(text, nullptr, false);
  const std::string type = text_at(event, {"type"});
  const Json& object = at(event, {"object"});
  if (type == "ERROR") {
    // The version is forgotten, or the server says something that only a list can answer.
    spdlog::debug("watch path={} error=\"{}\"", options_.path, text_at(object, {"message"}));
    end = End::kRelist;
    return false;
  }
  const std::string version = text_at(object, {"metadata", "resourceVersion"});
  if (version.empty() || (type != "ADDED" && type != "MODIFIED" && type != "DELETED" && type != "BOOKMARK")) {
    note("a line that is no watch event");
    end = End::kRelist;
    return false;
  }
  version_ = version;
  advanced_ = true;
  heard_ = SystemClock().now();
  if (type == "DELETED") {
    known_.erase(key_of(object));
    handler_.deleted(key_of(object));
  } else if (type != "BOOKMARK") {
    if (!options_.changes_only) {
      known_.insert(key_of(object));
    }
    handler_.changed(object);
  }
  handler_.settled();
  return !stopped_;
}

Watch::End Watch::watch() {
  ++resumes_;
  std::string path = fmt::format("{}?watch=1&allowWatchBookmarks=true&timeoutSeconds={}&resourceVersion={}",
                                 options_.path, options_.length.count(), encode(version_));
  path += options_.query.empty() ? "" : "&" + options_.query;
  const Request request{
      .path = path, .accept = options_.metadata_only ? kMetadata : kJsonBody, .silence = options_.silence};
  End end = End::kResume;
  const MonotonicNs begun = SystemClock().now();
  const Result<Reply> reply = client_.stream(request, [&](std::string_view text) { return line(text, end); });
  if (!reply) {
    note(reply.error().message);
    // Of a stream that went silent nobody knows what it kept back: a list says, and that we are heard.
    const MonotonicNs last = std::max(begun, heard_.load());
    const bool silent = SystemClock().now() - last >=
                        static_cast<MonotonicNs>(std::chrono::nanoseconds(options_.silence).count());
    return silent ? End::kRelist : end;
  }
  if (reply->status == kGone) {
    return End::kRelist;
  }
  if (!reply->ok()) {
    note(api_error(request, *reply).message);
    return ++refusals_ >= kRefusals ? End::kRelist : End::kResume;
  }
  refusals_ = 0;
  if (end == End::kResume) {
    heard_ = SystemClock().now();
    // One that the server ended in its time is no failure to back off from, whether or not there was news.
    advanced_ = advanced_ || heard_ - begun > kWholeWatch;
    note("");
  }
  return end;
}

}  // namespace ballast::kube
