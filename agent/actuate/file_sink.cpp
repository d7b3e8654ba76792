// SPDX-License-Identifier: Apache-2.0
#include "agent/actuate/file_sink.h"

#include <nlohmann/json.hpp>

#include "core/base/file.h"

namespace ballast::actuate {

namespace {

std::string service_json(const guard::GuardedWeights& weights) {
  nlohmann::ordered_json endpoints = nlohmann::ordered_json::array();
  for (const guard::WeightedEndpoint& endpoint : weights.endpoints()) {
    endpoints.push_back({{"pod", endpoint.id.pod},
                         {"address", endpoint.address},
                         {"port", endpoint.port},
                         {"weight", endpoint.weight}});
  }
  const nlohmann::ordered_json service = {{"namespace", weights.service().ns},
                                          {"service", weights.service().name},
                                          {"neutral", weights.neutral()},
                                          {"endpoints", std::move(endpoints)}};
  // Names come from outside; bytes that are no UTF-8 must not throw.
  return service.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

Result<std::unique_ptr<WeightSink>> FileSink::create(std::filesystem::path path) {
  std::unique_ptr<FileSink> sink(new FileSink(std::move(path)));
  if (Status written = sink->write({}); !written) {
    return written.error().in("sink file");
  }
  return std::unique_ptr<WeightSink>(std::move(sink));
}

Status FileSink::publish(const guard::GuardedWeights& weights) {
  auto services = services_;
  services[weights.service()] = service_json(weights);
  Status written = write(services);
  if (written) {
    services_ = std::move(services);
  }
  return written;
}

Status FileSink::withdraw(const spec::ServiceId& service) {
  auto services = services_;
  if (services.erase(service) == 0) {
    return ok();
  }
  Status written = write(services);
  if (written) {
    services_ = std::move(services);
  }
  return written;
}

Status FileSink::write(const std::map<spec::ServiceId, std::string>& services) const {
  std::string json = "{\"services\":[";
  bool first = true;
  for (const auto& [id, service] : services) {
    json += first ? "\n" : ",\n";
    json += service;
    first = false;
  }
  json += "]}\n";
  return write_file_atomic(path_, json);
}

}  // namespace ballast::actuate
