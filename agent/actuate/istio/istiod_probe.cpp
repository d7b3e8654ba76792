// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/istio/istiod_probe.h"

#include <fmt/format.h>
#include <google/protobuf/struct.pb.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <map>
#include <memory>
#include <utility>

#include "core/base/log.h"
#include "envoy/config/cluster/v3/cluster.pb.h"
#include "envoy/config/endpoint/v3/endpoint.pb.h"
#include "envoy/service/discovery/v3/discovery.grpc.pb.h"

namespace ballast::actuate::istio {
namespace {

namespace discovery = envoy::service::discovery::v3;
using envoy::config::endpoint::v3::ClusterLoadAssignment;
using std::chrono::milliseconds;

constexpr int kMetadataField = 3;
constexpr const char* kEndpointType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
constexpr const char* kClusterType = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
constexpr double kEnvoysMergeWindowS = 1.0;
constexpr std::size_t kKept = 16;
/// A write that istiod was not heard to tell of for so long was replaced by a later one.
constexpr MonotonicNs kLost = 5'000'000'000ULL;

/// Services that were late, beside one look.
constexpr std::size_t kAgainAtOnce = 20;

MonotonicNs in_ns(std::chrono::milliseconds time) {
  return static_cast<MonotonicNs>(time.count()) * 1'000'000ULL;
}

/// One stream, as a sidecar in namespace `ns` holds it; of one type of resource.
class Stream {
 public:
  Stream(const std::string& istiod, const std::string& ns, std::string type, std::string name,
         std::chrono::milliseconds timeout)
      : type_(std::move(type)), name_(std::move(name)) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(-1);  // every cluster of the mesh may be in one answer
    const auto channel = grpc::CreateCustomChannel(istiod, grpc::InsecureChannelCredentials(), arguments);
    stub_ = discovery::AggregatedDiscoveryService::NewStub(channel);
    context_.set_deadline(std::chrono::system_clock::now() + timeout);
    stream_ = stub_->StreamAggregatedResources(&context_);
    // As pilot-agent says who its Envoy is; the address is nobody's.
    auto* node = request_.mutable_node();
    node->set_id("sidecar~192.0.2.1~ballast-probe." + ns + "~" + ns + ".svc.cluster.local");
    google::protobuf::Struct metadata;
    (*metadata.mutable_fields())["NAMESPACE"].set_string_value(ns);
    (*metadata.mutable_fields())["CLUSTER_ID"].set_string_value("Kubernetes");
    // Node.metadata, which our part of Envoy's protocol leaves out.
    node->GetReflection()->MutableUnknownFields(node)->AddLengthDelimited(kMetadataField,
                                                                          metadata.SerializeAsString());
    request_.set_type_url(type_);
    if (!name_.empty()) {
      request_.add_resource_names(name_);
    }
  }
  ~Stream() { why(); }
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  /// The next answer; the one before is acknowledged. False: there is none, within the time.
  bool next(discovery::DiscoveryResponse& response) {
    if (!stream_->Write(request_) || !stream_->Read(&response)) {
      return false;
    }
    request_.clear_node();
    request_.set_version_info(response.version_info());
    request_.set_response_nonce(response.nonce());
    return true;
  }
  void cancel() { context_.TryCancel(); }
  /// Ends it; what it ended with.
  std::string why() {
    context_.TryCancel();
    if (!std::exchange(ended_, true)) {
      why_ = stream_->Finish().error_message();
    }
    return why_;
  }

 private:
  const std::string type_;
  const std::string name_;
  std::unique_ptr<discovery::AggregatedDiscoveryService::Stub> stub_;
  grpc::ClientContext context_;
  std::unique_ptr<grpc::ClientReaderWriter<discovery::DiscoveryRequest, discovery::DiscoveryResponse>>
      stream_;
  discovery::DiscoveryRequest request_;
  bool ended_ = false;
  std::string why_;
};

std::vector<ProbedEndpoint> endpoints_of(const discovery::DiscoveryResponse& response,
                                         const std::string& cluster) {
  std::vector<ProbedEndpoint> out;
  for (const auto& resource : response.resources()) {
    ClusterLoadAssignment assignment;
    if (!resource.UnpackTo(&assignment) || assignment.cluster_name() != cluster) {
      continue;
    }
    for (const auto& locality : assignment.endpoints()) {
      for (const auto& one : locality.lb_endpoints()) {
        const auto& socket = one.endpoint().address().socket_address();
        out.push_back({socket.address(), static_cast<std::uint16_t>(socket.port_value()),
                       one.load_balancing_weight().value()});
      }
    }
  }
  return out;
}

}  // namespace

Result<std::vector<ProbedEndpoint>> ask_istiod(const std::string& istiod, const std::string& ns,
                                               const std::string& cluster,
                                               std::chrono::milliseconds timeout) {
  Stream stream(istiod, ns, kEndpointType, cluster, timeout);
  discovery::DiscoveryResponse response;
  if (!stream.next(response)) {
    return Error::failed("istiod at " + istiod + " does not tell of " + cluster + ": " + stream.why());
  }
  return endpoints_of(response, cluster);
}

Result<double> ask_merge_window(const std::string& istiod, const std::string& ns, const std::string& cluster,
                                std::chrono::milliseconds timeout) {
  Stream stream(istiod, ns, kClusterType, "", timeout);
  discovery::DiscoveryResponse response;
  if (!stream.next(response)) {
    return Error::failed("istiod at " + istiod + " does not tell of its clusters: " + stream.why());
  }
  for (const auto& resource : response.resources()) {
    envoy::config::cluster::v3::Cluster one;
    if (resource.UnpackTo(&one) && one.name() == cluster) {
      const auto& common = one.common_lb_config();
      return common.has_update_merge_window() ? static_cast<double>(common.update_merge_window().seconds()) +
                                                    1e-9 * common.update_merge_window().nanos()
                                              : kEnvoysMergeWindowS;
    }
  }
  return Error::failed("istiod at " + istiod + " gives " + ns + " no cluster " + cluster);
}

std::string cluster_of(const kube::Json& spec) {
  return fmt::format("outbound|{}||{}", spec.at("ports").at(0).at("number").get<int>(),
                     spec.at("hosts").at(0).get<std::string>());
}

bool tells_of(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen) {
  const auto endpoints = entry_endpoints(spec);
  return std::all_of(endpoints.begin(), endpoints.end(), [&](const ProbedEndpoint& endpoint) {
    return std::any_of(seen.begin(), seen.end(), [&](const ProbedEndpoint& one) {
      return one.address == endpoint.address && one.port == endpoint.port;
    });
  });
}

/// Is one of ours among them? A plain Service's endpoint weighs 1.
bool weighs(const std::vector<ProbedEndpoint>& seen) {
  return std::any_of(seen.begin(), seen.end(), [](const ProbedEndpoint& one) { return one.weight > 1; });
}

Takes compare(const kube::Json& spec, const std::vector<ProbedEndpoint>& seen) {
  std::map<std::pair<std::string, std::uint16_t>, std::uint32_t> first;
  for (const ProbedEndpoint& one : seen) {
    first.try_emplace({one.address, one.port}, one.weight);
  }
  Takes verdict = Takes::kUnknown;
  bool whole = true;
  bool plain = false;
  bool ours = false;
  for (const ProbedEndpoint& endpoint : entry_endpoints(spec)) {
    const auto found = first.find({endpoint.address, endpoint.port});
    ours = ours || (found != first.end() && found->second > 1);
    if (found == first.end() || found->second != endpoint.weight) {
      // What a plain Service's endpoint weighs. Anything else is of an earlier write, or on its way.
      plain = plain || found != first.end();
      whole = false;
    }
    verdict = Takes::kYes;
  }
  // Beside a weight of ours a plain one is a pod's that came since the last write that istiod has heard of.
  const Takes otherwise = plain && !ours ? Takes::kNo : Takes::kUnknown;
  return whole ? verdict : otherwise;
}

IstiodProbe::IstiodProbe(Options options, Sample sample, std::function<void(const kube::Json&, Takes)> told)
    : options_(std::move(options)), sample_(std::move(sample)), told_(std::move(told)) {
  thread_ = std::thread([this] { run(); });
}

IstiodProbe::~IstiodProbe() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
    if (hang_up_) {
      hang_up_();
    }
  }
  wake_.notify_all();
  thread_.join();
}

void IstiodProbe::written(const std::string& service, const kube::Json& spec, MonotonicNs at, bool whole) {
  const std::lock_guard lock(mutex_);
  histories_[service].add(entry_endpoints(spec), at, in_ns(options_.behind));
  if (whole && service == listens_to_ && !service.empty()) {
    spec_ = spec;
    written_at_ = at;
    match();
  }
}

void IstiodProbe::left(const std::string& service) {
  const std::lock_guard lock(mutex_);
  histories_.erase(service);
  late_.erase(service);
}

std::set<std::string> IstiodProbe::stale() const {
  const std::lock_guard lock(mutex_);
  std::set<std::string> out;
  for (const auto& [service, late] : late_) {
    out.insert(service);
  }
  return out;
}

std::string IstiodProbe::trouble() const {
  const std::lock_guard lock(mutex_);
  if (silent_ != 0 && SystemClock().now() - silent_ >= in_ns(options_.behind)) {
    return "whether proxies are given the weights is not known (kubernetes.istiod says who is asked): " +
           silent_why_;
  }
  if (late_.empty()) {
    return {};
  }
  const std::string others = late_.size() == 1 ? "" : fmt::format(" and {} more", late_.size() - 1);
  return fmt::format("istiod at {} tells proxies of {}{} nothing that was written in the last {:.0f} s",
                     options_.istiod, late_.begin()->first, others,
                     std::chrono::duration<double>(options_.behind).count());
}

WeightTravel IstiodProbe::travel() const {
  const std::lock_guard lock(mutex_);
  WeightTravel out{.istiod_s = {}, .least_istiod_s = {}, .merge_window_s = merge_window_s_};
  if (!delays_s_.empty()) {
    std::vector<double> sorted(delays_s_.begin(), delays_s_.end());
    std::sort(sorted.begin(), sorted.end());
    out.istiod_s = sorted[sorted.size() / 2];
    out.least_istiod_s = sorted.front();
  }
  return out;
}

/// istiod's word may come before the writer has told us of its write. With the lock. True: it was measured.
bool IstiodProbe::match() {
  if (written_at_ == 0) {
    return false;
  }
  for (const Heard& heard : heard_) {
    if (heard.at < written_at_ || compare(spec_, heard.endpoints) != Takes::kYes) {
      continue;
    }
    if (heard.at - written_at_ < kLost) {
      delays_s_.push_back(static_cast<double>(heard.at - written_at_) * 1e-9);
      if (delays_s_.size() > kKept) {
        delays_s_.pop_front();
      }
    }
    written_at_ = 0;
    return true;
  }
  return false;
}

/// Until one way was measured, or it is time for another look: who listens is one proxy more that istiod has
/// to tell of each change.
void IstiodProbe::listen(const kube::Json& sample, const std::string& cluster) {
  Stream stream(options_.istiod, sample.at("ns").get<std::string>(), kEndpointType, cluster, options_.again);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) {
      return;
    }
    hang_up_ = [&stream] { stream.cancel(); };
    listens_to_ = kube::text_at(sample, {"service"});
    written_at_ = 0;
    heard_.clear();
  }
  discovery::DiscoveryResponse response;
  while (stream.next(response)) {
    const std::lock_guard lock(mutex_);
    heard_.push_back({SystemClock().now(), endpoints_of(response, cluster)});
    if (heard_.size() > kKept) {
      heard_.pop_front();
    }
    if (match()) {
      break;
    }
  }
  const std::lock_guard lock(mutex_);
  hang_up_ = nullptr;
  listens_to_.clear();
}

void IstiodProbe::ask_window(const kube::Json& sample, const std::string& cluster) {
  const MonotonicNs now = SystemClock().now();
  {
    const std::lock_guard lock(mutex_);
    const bool as_wanted = !options_.window_wanted_s || merge_window_s_ == options_.window_wanted_s;
    if (merge_window_s_ && as_wanted && now - window_asked_ < in_ns(options_.window_again)) {
      return;
    }
  }
  window_asked_ = now;
  const auto window =
      ask_merge_window(options_.istiod, sample.at("ns").get<std::string>(), cluster, options_.timeout);
  if (!window) {
    spdlog::debug("merge window not seen reason=\"{}\"", window.error().message);
    return;
  }
  const std::lock_guard lock(mutex_);
  if (merge_window_s_ != *window) {
    spdlog::info("merge window seen cluster={} seconds={}", cluster, *window);
  }
  merge_window_s_ = *window;
}

/// Nothing is looked at: nothing is known.
void IstiodProbe::forget_trouble() {
  const std::lock_guard lock(mutex_);
  late_.clear();
  silent_ = 0;
}

/// It answered, or not, with why.
void IstiodProbe::note_answer(const std::string& error) {
  const std::lock_guard lock(mutex_);
  if (error.empty()) {
    silent_ = 0;
    return;
  }
  if (silent_ == 0) {
    silent_ = SystemClock().now();
    spdlog::warn("not verified that entries of own hosts take reason=\"{}\"", error);
  }
  silent_why_ = error;
}

bool IstiodProbe::is_late(const std::string& service, const std::vector<ProbedEndpoint>& seen,
                          bool whole) const {
  const std::lock_guard lock(mutex_);
  const auto history = histories_.find(service);
  return history != histories_.end() &&
         history->second.behind(seen, whole, SystemClock().now()) >= in_ns(options_.behind);
}

/// Of Services that were late some are asked about beside each look, so that it is soon known when they are
/// late no more, however many Services there are.
void IstiodProbe::look_again_at_late(const std::string& but) {
  for (std::size_t i = 0; i < kAgainAtOnce; ++i) {
    std::string service;
    Late late;
    {
      const std::lock_guard lock(mutex_);
      if (stopping_ || i >= late_.size()) {
        return;
      }
      auto next = late_.upper_bound(again_);
      next = next == late_.end() ? late_.begin() : next;
      again_ = service = next->first;
      late = next->second;
    }
    if (service == but) {
      continue;
    }
    const auto seen = ask_istiod(options_.istiod, late.ns, late.cluster, options_.timeout);
    if (!seen) {
      return;
    }
    if (!is_late(service, *seen, late.whole)) {
      const std::lock_guard lock(mutex_);
      late_.erase(service);
    }
  }
}

/// One look, and what of the Service is told; nothing yet: kUnknown, with `looks.unknown` not at its end.
Takes IstiodProbe::look(const kube::Json& sample, const std::string& cluster, Looks& looks) {
  const std::string ns = sample.at("ns").get<std::string>();
  const std::string service = kube::text_at(sample, {"service"});
  const bool whole = kube::at(sample, {"whole"}) != false;
  if (looks.at != service) {
    looks = {.at = service, .refuted = looks.refuted, .heard = looks.heard};
  }
  const auto seen = ask_istiod(options_.istiod, ns, cluster, options_.timeout);
  note_answer(seen ? "" : seen.error().message);
  Takes takes = seen ? compare(sample.at("spec"), *seen) : Takes::kUnknown;
  looks.refuted = takes == Takes::kNo ? looks.refuted + 1 : 0;
  looks.heard = takes == Takes::kNo && (looks.heard || weighs(*seen));
  if (takes == Takes::kNo) {
    // It may have been on its way.
    const int enough = looks.heard ? options_.refutations : options_.refutations_unheard;
    return looks.refuted < enough ? Takes::kUnknown : Takes::kNo;
  }
  if (seen && is_late(service, *seen, whole)) {
    takes = Takes::kUnknown;  // the weights of who is there may be right, and who left be there still
    ++looks.late;
  } else if (seen) {
    looks.late = 0;
    const std::lock_guard lock(mutex_);
    late_.erase(service);
  }
  looks.unknown = takes == Takes::kUnknown ? looks.unknown + 1 : 0;
  if (looks.late >= options_.unknowns) {
    const std::lock_guard lock(mutex_);
    late_[service] = {.ns = ns, .cluster = cluster, .whole = whole};
  }
  return takes;
}

void IstiodProbe::run() {
  Takes said = Takes::kUnknown;
  Looks looks;
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    lock.unlock();
    std::chrono::milliseconds pause = options_.pause;
    if (const kube::Json sample = sample_(); !sample.is_null()) {
      const kube::Json& spec = sample.at("spec");
      const std::string cluster = cluster_of(spec);
      const Takes takes = look(sample, cluster, looks);
      look_again_at_late(looks.at);
      if (takes != Takes::kUnknown) {
        pause = takes == Takes::kYes ? std::chrono::milliseconds(0) : options_.again;
        if (takes != said) {
          spdlog::log(takes == Takes::kYes ? spdlog::level::info : spdlog::level::warn,
                      "entries of own hosts {} cluster={} istiod={}",
                      takes == Takes::kYes ? "take" : "do not take: Services go by route", cluster,
                      options_.istiod);
        }
        said = takes;
        told_(sample, takes);
        if (takes == Takes::kYes) {
          ask_window(sample, cluster);
          const auto begun = std::chrono::steady_clock::now();
          listen(sample, cluster);
          // A stream that ended early is no reason to ask without end.
          pause = std::max(milliseconds(0), options_.again - std::chrono::duration_cast<milliseconds>(
                                                                 std::chrono::steady_clock::now() - begun));
        }
      } else if (looks.unknown >= options_.unknowns) {
        looks = {};
        told_(sample, takes);
      }
    } else {
      looks = {};
      forget_trouble();
    }
    lock.lock();
    wake_.wait_for(lock, pause, [this] { return stopping_; });
  }
}

}  // namespace ballast::actuate::istio
