// SPDX-License-Identifier: Apache-2.0
#include "model/sync/wire/fleet_wire.h"

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/wire_format_lite.h>

#include <algorithm>
#include <string>
#include <utility>

#include "bpf/wire/histogram.h"
#include "core/spec/spec.h"

namespace ballast::sync {

namespace {

float narrow(double value) {
  return static_cast<float>(value);
}

// The numbers that travel as floats, each by the name that it has on both sides.
// clang-format off
#define BALLAST_ENDPOINT_NUMBERS(NUMBER) \
  NUMBER(qps) NUMBER(tick_requests) NUMBER(p50_ns) NUMBER(p99_ns) NUMBER(tick_p50_ns) NUMBER(in_flight) \
  NUMBER(error_rate) NUMBER(success) NUMBER(cpu_cores) NUMBER(cpu_limit_cores) NUMBER(wait_share) \
  NUMBER(speed) NUMBER(utilisation) NUMBER(running_share) NUMBER(usable_cores) NUMBER(cpu_evidence) \
  NUMBER(memory_bytes) NUMBER(memory_share) NUMBER(capacity_qps) \
  NUMBER(answers_per_s) NUMBER(seen_per_s) NUMBER(seen_p99_ns) \
  NUMBER(p50_stretch) NUMBER(mean_stretch)
#define BALLAST_SERVICE_NUMBERS(NUMBER) \
  NUMBER(median_p50_ns) NUMBER(median_p99_ns) NUMBER(median_in_flight) NUMBER(median_wait_share) \
  NUMBER(mean_qps) NUMBER(mean_utilisation) NUMBER(median_speed) NUMBER(median_capacity_qps) \
  NUMBER(mean_capacity_qps) NUMBER(p50_ns) NUMBER(p99_ns) NUMBER(error_rate) NUMBER(cpu_imbalance) \
  NUMBER(memory_imbalance) NUMBER(persistence_s) NUMBER(capacity_spread)
#define BALLAST_PUT(name) to->set_##name(static_cast<float>(ours.name));
#define BALLAST_GET(name) ours.name = static_cast<double>(from.name());
// clang-format on

void put(const fleet::EndpointReport& e, MonotonicNs now, v1::EndpointReport* to) {
  const spec::EndpointTelemetry& ours = e.telemetry;
  to->set_namespace_(ours.id.service.ns);
  to->set_service(ours.id.service.name);
  to->set_pod(ours.id.pod);
  to->set_address(ours.address);
  to->set_port(ours.port);
  to->set_age_ns(now > ours.taken ? now - ours.taken : 0);
  BALLAST_ENDPOINT_NUMBERS(BALLAST_PUT)
  to->set_offset(narrow(e.offset));
  std::uint32_t before = 0;
  for (const spec::LatencyBucket& bucket : ours.latency) {
    to->add_latency_gaps(bucket.index - before);
    to->add_latency_counts(bucket.count);
    before = bucket.index;
  }
}

// False for what is no histogram; nothing is reserved before its size is known to be one's.
bool get(const v1::EndpointReport& from, spec::LatencyBuckets& out) {
  const auto& gaps = from.latency_gaps();
  const auto& counts = from.latency_counts();
  if (gaps.size() != counts.size() || gaps.size() > BALLAST_HIST_BUCKETS) {
    return false;
  }
  out.reserve(static_cast<std::size_t>(gaps.size()));
  std::uint64_t index = 0;
  for (int i = 0; i < gaps.size(); ++i) {
    index += gaps[i];
    if (index >= BALLAST_HIST_BUCKETS || counts[i] == 0 || (i > 0 && gaps[i] == 0)) {
      return false;
    }
    out.push_back({static_cast<std::uint16_t>(index), counts[i]});
  }
  return true;
}

std::optional<fleet::EndpointReport> get(const v1::EndpointReport& from, MonotonicNs now) {
  fleet::EndpointReport out;
  if (!get(from, out.telemetry.latency)) {
    return std::nullopt;
  }
  spec::EndpointTelemetry& ours = out.telemetry;
  ours.id = {{from.namespace_(), from.service()}, from.pod()};
  ours.address = from.address();
  ours.port = static_cast<std::uint16_t>(from.port());
  ours.known = true;
  ours.taken = now - std::min<MonotonicNs>(now, from.age_ns());
  BALLAST_ENDPOINT_NUMBERS(BALLAST_GET)
  out.offset = static_cast<double>(from.offset());
  return out;
}

void put(const spec::ServiceAggregate& ours, v1::ServiceReport* to) {
  to->set_namespace_(ours.service.ns);
  to->set_name(ours.service.name);
  to->set_endpoints(static_cast<std::uint32_t>(ours.endpoints));
  to->set_known(static_cast<std::uint32_t>(ours.known));
  BALLAST_SERVICE_NUMBERS(BALLAST_PUT)
  to->set_spec_version(spec::kVersion);
  to->mutable_mean()->Add(ours.mean.begin(), ours.mean.end());
  to->mutable_max()->Add(ours.max.begin(), ours.max.end());
}

bool get(const v1::ServiceReport& from, spec::ServiceAggregate& ours) {
  if (from.spec_version() != spec::kVersion || from.mean_size() != static_cast<int>(ours.mean.size()) ||
      from.max_size() != static_cast<int>(ours.max.size())) {
    return false;
  }
  ours.service = {from.namespace_(), from.name()};
  ours.endpoints = from.endpoints();
  ours.known = from.known();
  BALLAST_SERVICE_NUMBERS(BALLAST_GET)
  std::copy(from.mean().begin(), from.mean().end(), ours.mean.begin());
  std::copy(from.max().begin(), from.max().end(), ours.max.begin());
  return true;
}

}  // namespace

void to_wire(const fleet::NodeReport& report, v1::NodeReport* out) {
  out->set_node_id(report.node);
  out->set_session(report.session);
  out->set_sequence(report.sequence);
  out->set_sent_ns(report.sent);
  out->set_tick_s(narrow(report.tick_s));
  out->set_loop_delay_s(narrow(report.loop_delay_s));
  out->set_whole(report.whole);
  for (const fleet::EndpointReport& e : report.endpoints) {
    put(e, report.sent, out->add_endpoints());
  }
}

std::size_t endpoints_in(google::protobuf::io::ZeroCopyInputStream& report) {
  using google::protobuf::internal::WireFormatLite;
  constexpr std::uint32_t kEndpoints = WireFormatLite::MakeTag(v1::NodeReport::kEndpointsFieldNumber,
                                                               WireFormatLite::WIRETYPE_LENGTH_DELIMITED);
  google::protobuf::io::CodedInputStream in(&report);
  std::size_t count = 0;
  for (std::uint32_t tag = in.ReadTag(); tag != 0 && WireFormatLite::SkipField(&in, tag);
       tag = in.ReadTag()) {
    count += tag == kEndpoints ? 1 : 0;
  }
  return count;
}

Result<fleet::NodeReport> from_wire(const v1::NodeReport& from) {
  fleet::NodeReport out;
  out.node = from.node_id();
  out.session = from.session();
  out.sequence = from.sequence();
  out.sent = from.sent_ns();
  out.tick_s = static_cast<double>(from.tick_s());
  out.loop_delay_s = static_cast<double>(from.loop_delay_s());
  out.whole = from.whole();
  out.endpoints.reserve(static_cast<std::size_t>(from.endpoints_size()));
  for (const v1::EndpointReport& e : from.endpoints()) {
    auto endpoint = get(e, out.sent);
    if (!endpoint) {
      return Error::failed("malformed: the latencies of " + e.pod() + " are no histogram");
    }
    out.endpoints.push_back(std::move(*endpoint));
  }
  return out;
}

void to_wire(const fleet::FleetView& view, MonotonicNs now, v1::FleetAnswer* out) {
  out->set_nodes(static_cast<std::uint32_t>(view.nodes));
  out->set_whole(view.whole);
  for (const fleet::ServiceReport& service : view.services) {
    v1::ServiceReport* to = out->add_services();
    put(service.aggregate, to);
    for (const fleet::EndpointReport& e : service.others) {
      put(e, now, to->add_others());
    }
  }
}

fleet::FleetView from_wire(const v1::FleetAnswer& from, MonotonicNs now) {
  fleet::FleetView out;
  out.received = now;
  out.whole = from.whole();
  out.nodes = from.nodes();
  for (const v1::ServiceReport& service : from.services()) {
    fleet::ServiceReport joined;
    if (!get(service, joined.aggregate)) {
      continue;
    }
    joined.others.reserve(static_cast<std::size_t>(service.others_size()));
    for (const v1::EndpointReport& e : service.others()) {
      if (auto other = get(e, now)) {
        joined.others.push_back(std::move(*other));
      }
    }
    out.services.push_back(std::move(joined));
  }
  return out;
}

}  // namespace ballast::sync
