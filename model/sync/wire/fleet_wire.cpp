// SPDX-License-Identifier: Apache-2.0
#include "model/sync/wire/fleet_wire.h"

#include <algorithm>
#include <string>

#include "core/spec/spec.h"

namespace ballast::sync {

namespace {

float narrow(double value) {
  return static_cast<float>(value);
}

void put(const fleet::EndpointReport& e, MonotonicNs now, v1::EndpointReport* out) {
  const spec::EndpointTelemetry& t = e.telemetry;
  out->set_namespace_(t.id.service.ns);
  out->set_service(t.id.service.name);
  out->set_pod(t.id.pod);
  out->set_address(t.address);
  out->set_port(t.port);
  out->set_age_ns(now > t.taken ? now - t.taken : 0);
  out->set_qps(narrow(t.qps));
  out->set_tick_requests(narrow(t.tick_requests));
  out->set_p50_ns(narrow(t.p50_ns));
  out->set_p99_ns(narrow(t.p99_ns));
  out->set_tick_p50_ns(narrow(t.tick_p50_ns));
  out->set_in_flight(narrow(t.in_flight));
  out->set_error_rate(narrow(t.error_rate));
  out->set_success(narrow(t.success));
  out->set_cpu_cores(narrow(t.cpu_cores));
  out->set_cpu_limit_cores(narrow(t.cpu_limit_cores));
  out->set_wait_share(narrow(t.wait_share));
  out->set_speed(narrow(t.speed));
  out->set_utilisation(narrow(t.utilisation));
  out->set_memory_bytes(narrow(t.memory_bytes));
  out->set_memory_share(narrow(t.memory_share));
  out->set_capacity_qps(narrow(t.capacity_qps));
  out->set_offset(narrow(e.offset));
}

fleet::EndpointReport get(const v1::EndpointReport& from, MonotonicNs now) {
  fleet::EndpointReport out;
  spec::EndpointTelemetry& t = out.telemetry;
  t.id = {{from.namespace_(), from.service()}, from.pod()};
  t.address = from.address();
  t.port = static_cast<std::uint16_t>(from.port());
  t.known = true;
  t.taken = now - std::min<MonotonicNs>(now, from.age_ns());
  t.qps = static_cast<double>(from.qps());
  t.tick_requests = static_cast<double>(from.tick_requests());
  t.p50_ns = static_cast<double>(from.p50_ns());
  t.p99_ns = static_cast<double>(from.p99_ns());
  t.tick_p50_ns = static_cast<double>(from.tick_p50_ns());
  t.in_flight = static_cast<double>(from.in_flight());
  t.error_rate = static_cast<double>(from.error_rate());
  t.success = static_cast<double>(from.success());
  t.cpu_cores = static_cast<double>(from.cpu_cores());
  t.cpu_limit_cores = static_cast<double>(from.cpu_limit_cores());
  t.wait_share = static_cast<double>(from.wait_share());
  t.speed = static_cast<double>(from.speed());
  t.utilisation = static_cast<double>(from.utilisation());
  t.memory_bytes = static_cast<double>(from.memory_bytes());
  t.memory_share = static_cast<double>(from.memory_share());
  t.capacity_qps = static_cast<double>(from.capacity_qps());
  out.offset = static_cast<double>(from.offset());
  return out;
}

void put(const spec::ServiceAggregate& a, v1::ServiceReport* out) {
  out->set_namespace_(a.service.ns);
  out->set_name(a.service.name);
  out->set_endpoints(static_cast<std::uint32_t>(a.endpoints));
  out->set_known(static_cast<std::uint32_t>(a.known));
  out->set_median_p50_ns(narrow(a.median_p50_ns));
  out->set_median_p99_ns(narrow(a.median_p99_ns));
  out->set_median_in_flight(narrow(a.median_in_flight));
  out->set_median_wait_share(narrow(a.median_wait_share));
  out->set_mean_qps(narrow(a.mean_qps));
  out->set_mean_utilisation(narrow(a.mean_utilisation));
  out->set_median_speed(narrow(a.median_speed));
  out->set_median_capacity_qps(narrow(a.median_capacity_qps));
  out->set_mean_capacity_qps(narrow(a.mean_capacity_qps));
  out->set_p50_ns(narrow(a.p50_ns));
  out->set_p99_ns(narrow(a.p99_ns));
  out->set_error_rate(narrow(a.error_rate));
  out->set_cpu_imbalance(narrow(a.cpu_imbalance));
  out->set_memory_imbalance(narrow(a.memory_imbalance));
  out->set_persistence_s(narrow(a.persistence_s));
  out->set_capacity_spread(narrow(a.capacity_spread));
  out->set_spec_version(spec::kVersion);
  out->mutable_mean()->Add(a.mean.begin(), a.mean.end());
  out->mutable_max()->Add(a.max.begin(), a.max.end());
}

bool get(const v1::ServiceReport& from, spec::ServiceAggregate& a) {
  if (from.spec_version() != spec::kVersion || from.mean_size() != static_cast<int>(a.mean.size()) ||
      from.max_size() != static_cast<int>(a.max.size())) {
    return false;
  }
  a.service = {from.namespace_(), from.name()};
  a.endpoints = from.endpoints();
  a.known = from.known();
  a.median_p50_ns = static_cast<double>(from.median_p50_ns());
  a.median_p99_ns = static_cast<double>(from.median_p99_ns());
  a.median_in_flight = static_cast<double>(from.median_in_flight());
  a.median_wait_share = static_cast<double>(from.median_wait_share());
  a.mean_qps = static_cast<double>(from.mean_qps());
  a.mean_utilisation = static_cast<double>(from.mean_utilisation());
  a.median_speed = static_cast<double>(from.median_speed());
  a.median_capacity_qps = static_cast<double>(from.median_capacity_qps());
  a.mean_capacity_qps = static_cast<double>(from.mean_capacity_qps());
  a.p50_ns = static_cast<double>(from.p50_ns());
  a.p99_ns = static_cast<double>(from.p99_ns());
  a.error_rate = static_cast<double>(from.error_rate());
  a.cpu_imbalance = static_cast<double>(from.cpu_imbalance());
  a.memory_imbalance = static_cast<double>(from.memory_imbalance());
  a.persistence_s = static_cast<double>(from.persistence_s());
  a.capacity_spread = static_cast<double>(from.capacity_spread());
  std::copy(from.mean().begin(), from.mean().end(), a.mean.begin());
  std::copy(from.max().begin(), from.max().end(), a.max.begin());
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

fleet::NodeReport from_wire(const v1::NodeReport& from, std::size_t most) {
  fleet::NodeReport out;
  out.node = from.node_id();
  out.session = from.session();
  out.sequence = from.sequence();
  out.sent = from.sent_ns();
  out.tick_s = static_cast<double>(from.tick_s());
  out.loop_delay_s = static_cast<double>(from.loop_delay_s());
  out.whole = from.whole();
  const auto count = static_cast<std::size_t>(from.endpoints_size());
  out.endpoints.resize(count);
  if (count <= most) {
    std::transform(from.endpoints().begin(), from.endpoints().end(), out.endpoints.begin(),
                   [&](const v1::EndpointReport& e) { return get(e, out.sent); });
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
      joined.others.push_back(get(e, now));
    }
    out.services.push_back(std::move(joined));
  }
  return out;
}

}  // namespace ballast::sync
