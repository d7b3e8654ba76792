// SPDX-License-Identifier: Apache-2.0
#include "agent/kube/installation.h"

#include <utility>

#include "core/base/log.h"

namespace ballast::kube {
namespace {

constexpr long kNotFound = 404;
constexpr std::chrono::milliseconds kCall{1000};
constexpr std::chrono::milliseconds kAgain{100};
/// Long: of an account there is nothing to hear until the end.
constexpr std::chrono::seconds kLength{600};
constexpr std::chrono::seconds kSilence{630};

}  // namespace

Result<std::unique_ptr<Installation>> Installation::follow(InstallationOptions options) {
  options.api.connect_timeout = kCall;
  options.api.request_timeout = kCall;
  options.api.retry_budget = kCall;
  auto client = Client::create(options.api);
  if (!client) {
    return client.error();
  }
  return std::unique_ptr<Installation>(new Installation(std::move(options), std::move(*client)));
}

Installation::Installation(InstallationOptions options, std::unique_ptr<Client> client)
    : options_(std::move(options)),
      daemon_set_("/apis/apps/v1/namespaces/" + options_.ns + "/daemonsets/" + options_.daemon_set),
      namespace_("/api/v1/namespaces/" + options_.ns),
      client_(std::move(client)) {
  const std::lock_guard lock(mutex_);  // its thread may ask for our trouble at once
  account_ = std::make_unique<Watch>(
      *client_,
      WatchOptions{.path = namespace_ + "/serviceaccounts",
                   .query = "fieldSelector=" + encode("metadata.name=" + options_.account),
                   .metadata_only = true,
                   .length = kLength,
                   .silence = kSilence},
      WatchHandler{[this](const Json&) { account_gone_ = false; },
                   [this](const std::string&) { account_gone_ = true; }, [this] { see(); }});
}

Installation::~Installation() {
  client_->stop();
}

void Installation::see() {
  if (seen_) {
    return;
  }
  seen_ = look(daemon_set_) == There::kYes && look(namespace_) == There::kYes;
  if (!seen_) {
    const std::string said = trouble();
    spdlog::warn("the programs may stay when it is uninstalled daemonset={}/{} reason=\"{}\"", options_.ns,
                 options_.daemon_set, said.empty() ? "it is not there, or is being deleted" : said);
  }
}

Installation::There Installation::look(const std::string& path) {
  const Request request{.path = path};
  const Result<Reply> reply = client_->call(request);
  const bool answered = reply && (reply->ok() || reply->status == kNotFound);
  std::string trouble = answered ? "" : reply ? api_error(request, *reply).message : reply.error().message;
  {
    const std::lock_guard lock(mutex_);
    trouble_ = std::move(trouble);
  }
  if (!answered) {
    return There::kUnknown;
  }
  if (!reply->ok()) {
    return There::kGone;
  }
  const Json object = reply->json();
  return text_at(object, {"metadata", "name"}).empty()                ? There::kUnknown
         : text_at(object, {"metadata", "deletionTimestamp"}).empty() ? There::kYes
                                                                      : There::kGoing;
}

std::string Installation::going() {
  const auto end = std::chrono::steady_clock::now() + options_.asking;
  do {
    const There set = look(daemon_set_);
    // Without it having been seen, its absence may be that of a name which is not ours.
    if (set == There::kGoing || (set == There::kGone && seen_)) {
      return "the DaemonSet " + options_.daemon_set + " is deleted";
    }
    const There ns = look(namespace_);
    if (ns == There::kGoing || (ns == There::kGone && seen_)) {
      return "the namespace " + options_.ns + " is deleted";
    }
    if (set != There::kUnknown && ns != There::kUnknown) {
      return {};
    }
    if (account_gone_) {
      return "the ServiceAccount " + options_.account + " was deleted";
    }
    // What the stream of the account has to tell may be on its way.
  } while (client_->sleep(kAgain) && std::chrono::steady_clock::now() < end);
  return {};
}

std::string Installation::trouble() const {
  const std::lock_guard lock(mutex_);
  return trouble_.empty() && account_ != nullptr ? account_->trouble() : trouble_;
}

}  // namespace ballast::kube
