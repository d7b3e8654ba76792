// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/static_file.h"

#include <arpa/inet.h>

#include <map>
#include <set>
#include <tuple>
#include <utility>

#include "core/yaml/section.h"

namespace ballast::identity {
namespace {

std::string cgroup_of(YamlSection& entry) {
  std::string path = entry.text("cgroup", "/");
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  const std::string parts = path + "/";
  if (path.front() != '/' || path == "/" || parts.find("//") != std::string::npos ||
      parts.find("/../") != std::string::npos || parts.find("/./") != std::string::npos) {
    entry.fail("cgroup", "'" + path + "' has to be a path below the cgroup v2 root, like /lab/web-0");
  }
  return path;
}

Pod parse_pod(YamlSection& entry) {
  Pod pod;
  for (const auto& [key, field] : {std::pair{"pod", &pod.pod},
                                   {"namespace", &pod.ns},
                                   {"service", &pod.service},
                                   {"address", &pod.address},
                                   {"container", &pod.container}}) {
    *field = entry.text(key, "");
    if (entry.has(key) && field->empty()) {
      entry.fail(key, "must not be empty");
    }
  }
  unsigned char bytes[sizeof(in6_addr)];
  if (!pod.address.empty() && ::inet_pton(AF_INET, pod.address.c_str(), bytes) != 1 &&
      ::inet_pton(AF_INET6, pod.address.c_str(), bytes) != 1) {
    entry.fail("address", "'" + pod.address + "' is not an IPv4 or IPv6 address");
  }
  pod.port = static_cast<std::uint16_t>(entry.whole("port", 0, 1, 65535));
  pod.local = entry.has("cgroup");
  if (pod.local) {
    pod.cgroup = cgroup_of(entry);
  }
  entry.refuse_unknown();
  entry.require("pod");
  entry.require("namespace");
  if (!pod.local && !entry.has("service")) {
    entry.fail("service", "is missing: an entry without a cgroup is an endpoint of a service");
  }
  for (const char* endpoint : {"address", "port"}) {
    if (entry.has("service") != entry.has(endpoint)) {
      entry.fail(entry.has("service") ? endpoint : "service",
                 "is missing: service, address and port go together");
    }
  }
  return pod;
}

// Several containers of a pod are several entries; they must agree on where the pod is.
class Duplicates {
 public:
  void add(const Pod& pod, YamlSection& entry) {
    const auto id = std::tuple(pod.ns, pod.service, pod.pod);
    const auto [first, is_new] = pods_.try_emplace(id, pod.address, pod.port, entry.line());
    const std::string line = std::to_string(std::get<2>(first->second));
    const bool repeated = !containers_.insert(std::tuple_cat(id, std::tuple(pod.container))).second;
    const bool elsewhere =
        std::get<0>(first->second) != pod.address || std::get<1>(first->second) != pod.port;
    if (repeated || (!is_new && elsewhere)) {
      entry.fail("pod", "'" + pod.pod + "' of service '" + pod.service + "' is already on line " + line);
    }
  }

 private:
  std::map<std::tuple<std::string, std::string, std::string>, std::tuple<std::string, std::uint16_t, int>>
      pods_;
  std::set<std::tuple<std::string, std::string, std::string, std::string>> containers_;
};

}  // namespace

Result<std::vector<Pod>> parse_static_pods(const std::string& text, const std::string& file) {
  YamlErrors errors(file);
  const auto document = load_yaml(text, errors);
  if (!document) {
    return document.error();
  }
  YamlSection root(*document, "", errors);
  root.require("pods");
  std::vector<Pod> pods;
  Duplicates duplicates;
  for (YamlSection& entry : root.list("pods")) {
    pods.push_back(parse_pod(entry));
    duplicates.add(pods.back(), entry);
  }
  root.refuse_unknown();
  if (errors.first()) {
    return *errors.first();
  }
  return pods;
}

}  // namespace ballast::identity
