// SPDX-License-Identifier: Apache-2.0
#include "model/sync/server/stream_handler.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "core/spec/service_name.h"

namespace ballast::sync {

namespace {

using Clock = std::chrono::steady_clock;
constexpr std::size_t kLongestId = 256;

std::int64_t after(std::chrono::milliseconds wait) {
  return (Clock::now() + wait).time_since_epoch().count();
}

Ended reason_of(grpc::StatusCode code) {
  return code == grpc::PERMISSION_DENIED    ? Ended::kIdentity
         : code == grpc::RESOURCE_EXHAUSTED ? Ended::kTooLarge
                                            : Ended::kMalformed;
}

bool printable(const std::string& id) {
  return std::all_of(id.begin(), id.end(), [](char c) { return c > 0x20 && c < 0x7F; });
}

// The names that the other side's token or certificate carries, a SPIFFE id before the rest.
std::vector<std::string> identities(const grpc::CallbackServerContext& context) {
  std::vector<std::string> names;
  const auto auth = context.auth_context();
  for (const char* property :
       {kNodeProperty, "peer_spiffe_id", "peer_uri", "peer_dns", GRPC_X509_SAN_PROPERTY_NAME}) {
    for (const auto& value : auth->FindPropertyValues(property)) {
      names.emplace_back(value.data(), value.size());
    }
  }
  return names;
}

}  // namespace

StreamHandler::StreamHandler(ServerState& state, grpc::CallbackServerContext* context)
    : state_(state), context_(context) {
  if (!state_.options.tls.empty()) {
    identities_ = identities(*context);
  }
}

void StreamHandler::begin() {
  Ended why{};
  if (state_.join(this, &why)) {
    read(state_.options.hello);
    return;
  }
  end(why, why == Ended::kTooMany
               ? grpc::Status(grpc::RESOURCE_EXHAUSTED, "too many streams: the server takes " +
                                                            std::to_string(state_.options.most_workers))
               : grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
}

void StreamHandler::OnReadDone(bool ok) {
  if (!ok) {
    // gRPC ends the call itself where a message is larger than it may be.
    end(std::nullopt, grpc::Status::OK);
    return;
  }
  const auto status = answer(in_, out_);
  in_.Clear();
  if (!status.ok()) {
    end(reason_of(status.error_code()), status);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (!finished_) {
    writing_ = true;
    deadline_ = after(state_.options.write);
    StartWrite(&out_);
  }
}

void StreamHandler::OnWriteDone(bool ok) {
  out_.Clear();
  {
    const std::lock_guard lock(mutex_);
    writing_ = false;
  }
  if (!ok) {
    end(std::nullopt, grpc::Status::OK);
    return;
  }
  if (state_.draining()) {
    end(Ended::kDraining, grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
    return;
  }
  read(state_.options.idle);
}

void StreamHandler::OnDone() {
  state_.leave(this);
  delete this;
}

void StreamHandler::end_if_overdue(std::int64_t now) {
  const std::lock_guard lock(mutex_);
  if (now < deadline_) {
    return;
  }
  if (writing_) {
    deadline_ = INT64_MAX;
    state_.count(Ended::kNeverReads);
    context_->TryCancel();
  } else {
    finish(Ended::kSilent, grpc::Status(grpc::DEADLINE_EXCEEDED, "no whole message in time"));
  }
}

void StreamHandler::end_for_drain() {
  const std::lock_guard lock(mutex_);
  if (!writing_) {
    finish(Ended::kDraining, grpc::Status(grpc::UNAVAILABLE, "the server is stopping"));
  }
}

void StreamHandler::read(std::chrono::milliseconds wait) {
  const std::lock_guard lock(mutex_);
  if (!finished_) {
    deadline_ = after(wait);
    StartRead(&in_);
  }
}

void StreamHandler::end(std::optional<Ended> reason, const grpc::Status& status) {
  const std::lock_guard lock(mutex_);
  finish(reason, status);
}

void StreamHandler::finish(std::optional<Ended> reason, const grpc::Status& status) {
  if (!std::exchange(finished_, true)) {
    deadline_ = INT64_MAX;
    if (reason) {
      state_.count(*reason);
    }
    Finish(status);
  }
}

grpc::Status StreamHandler::too_large(std::size_t bytes, std::size_t most) {
  return {grpc::RESOURCE_EXHAUSTED,
          "a message of " + std::to_string(bytes) + " bytes where " + std::to_string(most) + " are the most"};
}

grpc::Status StreamHandler::check_identity(const std::string& id, const char* field) {
  const std::string name = field;
  if (!claimed_.empty()) {
    return id == claimed_ ? grpc::Status::OK
                          : grpc::Status(grpc::INVALID_ARGUMENT, name + " changed within the stream");
  }
  if (id.empty() || id.size() > kLongestId || !printable(id)) {
    return {grpc::INVALID_ARGUMENT, name + " has to be 1 to 256 printable characters"};
  }
  id_ = id;
  if (!state_.options.tls.empty()) {
    const auto fits = [&](const std::string& own) {
      return own.starts_with(state_.options.identity_prefix) &&
             (id == own || (id.starts_with(own) && id[own.size()] == '/'));
    };
    const auto proved = std::find_if(identities_.begin(), identities_.end(), fits);
    if (proved == identities_.end()) {
      return {grpc::PERMISSION_DENIED,
              name + " '" + id + "' is not the " +
                  (state_.options.proof != nullptr ? "token" : "certificate") + "'s: it carries " +
                  (identities_.empty() ? "no name" : "'" + identities_.front() + "'")};
    }
    id_ = *proved;  // one that may claim many names is one all the same
  }
  claimed_ = id;
  return grpc::Status::OK;
}

bool ServerState::join(StreamHandler* stream, Ended* why) {
  const std::lock_guard lock(mutex_);
  ++stats_.streams;
  if (draining_ || streams_.size() >= options.most_workers) {
    *why = draining_ ? Ended::kDraining : Ended::kTooMany;
    return false;
  }
  streams_.insert(stream);
  return true;
}

void ServerState::leave(StreamHandler* stream) {
  const std::lock_guard lock(mutex_);
  streams_.erase(stream);
}

void ServerState::count(Ended reason) {
  ended_[static_cast<std::size_t>(reason)].fetch_add(1, std::memory_order_relaxed);
}

void ServerState::count_answer(std::size_t in, std::size_t out, bool unchanged) {
  const std::lock_guard lock(mutex_);
  ++stats_.messages;
  stats_.unchanged += unchanged ? 1 : 0;
  stats_.bytes_in += in;
  stats_.bytes_out += out;
}

void ServerState::end_overdue() {
  const auto now = Clock::now().time_since_epoch().count();
  const std::lock_guard lock(mutex_);  // keeps every stream alive: OnDone has to leave() first
  for (StreamHandler* stream : streams_) {
    stream->end_if_overdue(now);
  }
}

void ServerState::drain() {
  const std::lock_guard lock(mutex_);
  draining_ = true;
  for (StreamHandler* stream : streams_) {
    stream->end_for_drain();
  }
}

bool ServerState::draining() const {
  return draining_;
}

ServerStats ServerState::stats() const {
  const std::lock_guard lock(mutex_);
  ServerStats out = stats_;
  out.workers = streams_.size();
  out.foreign = foreign_.load(std::memory_order_relaxed);
  for (std::size_t i = 0; i < kEnded; ++i) {
    out.ended[i] = ended_[i].load(std::memory_order_relaxed);
  }
  out.fleet = registry.stats(SystemClock().now());
  for (const auto& plane : planes_) {
    (plane == planes_.front() ? out.promotion : out.forecast_promotion) = plane->stats();
  }
  return out;
}

Plane* ServerState::plane(Network which, const std::string& service, const std::string& worker,
                          grpc::Status* why) {
  if (which != Network::kGains) {
    const auto at = static_cast<std::size_t>(which);
    if (at < planes_.size() && service.empty()) {
      return planes_[at].get();
    }
    *why = {grpc::INVALID_ARGUMENT, "network: not one that is served, or not one of a service"};
    return nullptr;
  }
  const auto id = spec::parse_service(service);
  if (options.owns != nullptr && !(id && registry.reports(worker, *id))) {
    *why = {grpc::PERMISSION_DENIED, "service: '" + service + "' has no endpoint that this node reports"};
    return nullptr;
  }
  const std::lock_guard lock(gains_mutex_);
  if (const auto known = gains_.find(service); known != gains_.end()) {
    return known->second.get();
  }
  GlobalNetwork* network = options.gains == nullptr ? nullptr : options.gains->open(service);
  if (network == nullptr) {
    *why = {grpc::INVALID_ARGUMENT, "service: gains are not served here, '" + service +
                                        "' is no NAMESPACE/NAME, or it is one too many"};
    return nullptr;
  }
  PromotionOptions promotion = options.promotion;
  promotion.window *= kGainsWindows;
  return (gains_[service] = std::make_unique<Plane>(*network, promotion)).get();
}

std::optional<Version> ServerState::released_gains(const std::string& service) const {
  const std::lock_guard lock(gains_mutex_);
  const auto known = gains_.find(service);
  return known == gains_.end() ? std::nullopt : std::optional(known->second->stats().released);
}

void ServerState::promote() {
  for (const auto& plane : planes_) {
    plane->promote();
  }
  const std::lock_guard lock(gains_mutex_);
  for (const auto& [service, plane] : gains_) {
    plane->promote();
  }
}

grpc::Slice Plane::parameters(const std::string& worker, Version* current) {
  const auto latest = network.snapshot();
  const std::lock_guard lock(mutex_);
  const auto given = promotion_.parameters_for(worker, latest, Clock::now());
  Piece& piece = given == latest ? newest_ : released_;
  if (piece.snapshot != given) {
    piece = {given, grpc::Slice(given->bytes)};
  }
  *current = given->version;
  return piece.slice;
}

void Plane::report(const std::string& worker, Version acted, double objective) {
  const std::lock_guard lock(mutex_);
  promotion_.report(worker, acted, objective, Clock::now());
}

PromotionStats Plane::stats() const {
  const std::lock_guard lock(mutex_);
  PromotionStats out = promotion_.stats();
  if (!out.on) {
    out.released = network.version();
  }
  return out;
}

void Plane::promote() {
  if (!promotion_.on()) {
    return;
  }
  const auto latest = network.snapshot();
  const std::lock_guard lock(mutex_);
  switch (promotion_.tick(latest, Clock::now())) {
    case Promotion::Step::kNone:
      return;
    case Promotion::Step::kPromoted:
      network.keep(promotion_.released());
      spdlog::info("parameters promoted version={}", latest->version.version);
      return;
    case Promotion::Step::kReturned:
      break;
  }
  const PromotionStats trial = promotion_.stats();
  const Status given = network.give_back(promotion_.released()->theta);
  if (given) {
    promotion_.given_back(network.snapshot());
    network.keep(promotion_.released());
  }
  spdlog::warn(
      "parameters given up: not proven better version={} back_to={} canary_objective={:.4g} "
      "rest_objective={:.4g} error=\"{}\"",
      latest->version.version, promotion_.released()->version.version, trial.canary_objective,
      trial.rest_objective, given ? "" : given.error().message);
}

}  // namespace ballast::sync
