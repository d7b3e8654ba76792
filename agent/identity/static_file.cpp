// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/static_file.h"

#include <arpa/inet.h>
#include <yaml-cpp/yaml.h>

#include <charconv>
#include <map>
#include <set>
#include <tuple>

namespace ballast::identity {
namespace {

// Inside this file a finding is thrown, because yaml-cpp throws as well; parse_static_pods turns
// both into a value.
struct Finding {
  int line;
  std::string text;
};

int line_of(const YAML::Node& node) {
  return node.Mark().line + 1;
}

[[noreturn]] void fail(const YAML::Node& node, const std::string& key, const std::string& what) {
  throw Finding{line_of(node), "key '" + key + "' " + what};
}

// The key says the line: an empty value has that of what follows it.
[[noreturn]] void fail(const YAML::Node& key, const std::string& what) {
  fail(key, key.Scalar(), what);
}

std::string text_of(const YAML::Node& key, const YAML::Node& value) {
  if (!value.IsScalar() || value.Scalar().empty()) {
    fail(key, "must be a non-empty string");
  }
  return value.Scalar();
}

std::string parse_cgroup(const YAML::Node& key, const YAML::Node& value) {
  std::string path = text_of(key, value);
  while (path.size() > 1 && path.back() == '/') {
    path.pop_back();
  }
  const std::string parts = path + "/";
  if (path.front() != '/' || path == "/" || parts.find("//") != std::string::npos ||
      parts.find("/../") != std::string::npos || parts.find("/./") != std::string::npos) {
    fail(key, "'" + value.Scalar() + "' must be a path below the cgroup v2 root, like /lab/web-0");
  }
  return path;
}

std::string parse_address(const YAML::Node& key, const YAML::Node& value) {
  std::string address = text_of(key, value);
  unsigned char bytes[sizeof(in6_addr)];
  if (::inet_pton(AF_INET, address.c_str(), bytes) != 1 &&
      ::inet_pton(AF_INET6, address.c_str(), bytes) != 1) {
    fail(key, "'" + address + "' is not an IPv4 or IPv6 address");
  }
  return address;
}

std::uint16_t parse_port(const YAML::Node& key, const YAML::Node& value) {
  const std::string text = text_of(key, value);
  std::uint16_t port = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
  if (error != std::errc{} || end != text.data() + text.size() || port == 0) {
    fail(key, "'" + text + "' is not a port, 1 to 65535");
  }
  return port;
}

void set_field(Pod& pod, const YAML::Node& key, const YAML::Node& value) {
  const std::string& name = key.Scalar();
  if (name == "cgroup") {
    pod.cgroup = parse_cgroup(key, value);
  } else if (name == "pod") {
    pod.pod = text_of(key, value);
  } else if (name == "namespace") {
    pod.ns = text_of(key, value);
  } else if (name == "service") {
    pod.service = text_of(key, value);
  } else if (name == "address") {
    pod.address = parse_address(key, value);
  } else if (name == "port") {
    pod.port = parse_port(key, value);
  } else if (name == "container") {
    pod.container = text_of(key, value);
  } else {
    fail(key, "is unknown; known are cgroup, pod, namespace, service, address, port, container");
  }
}

Pod parse_pod(const YAML::Node& entry) {
  if (!entry.IsMap()) {
    fail(entry, "pods", "must be a list of maps");
  }
  Pod pod;
  std::set<std::string> seen;
  for (const auto& field : entry) {
    if (!seen.insert(field.first.Scalar()).second) {
      fail(field.first, "is given twice in one entry");
    }
    set_field(pod, field.first, field.second);
  }
  for (const char* needed : {"pod", "namespace"}) {
    if (!seen.contains(needed)) {
      fail(entry, needed, "is missing");
    }
  }
  pod.local = seen.contains("cgroup");
  if (!pod.local && !seen.contains("service")) {
    fail(entry, "service", "is missing: an entry without a cgroup is an endpoint of a service");
  }
  for (const char* endpoint : {"address", "port"}) {
    if (seen.contains("service") != seen.contains(endpoint)) {
      fail(entry, seen.contains("service") ? endpoint : "service",
           "is missing: service, address and port go together");
    }
  }
  return pod;
}

// Several containers of a pod are several entries; they must agree on where the pod is.
class Duplicates {
 public:
  void add(const Pod& pod, const YAML::Node& entry) {
    const auto id = std::tuple(pod.ns, pod.service, pod.pod);
    const auto [first, is_new] = pods_.try_emplace(id, pod.address, pod.port, line_of(entry));
    const std::string line = std::to_string(std::get<2>(first->second));
    const bool repeated = !containers_.insert(std::tuple_cat(id, std::tuple(pod.container))).second;
    const bool elsewhere =
        std::get<0>(first->second) != pod.address || std::get<1>(first->second) != pod.port;
    if (repeated || (!is_new && elsewhere)) {
      fail(entry, "pod", "'" + pod.pod + "' of service '" + pod.service + "' is already on line " + line);
    }
  }

 private:
  std::map<std::tuple<std::string, std::string, std::string>, std::tuple<std::string, std::uint16_t, int>>
      pods_;
  std::set<std::tuple<std::string, std::string, std::string, std::string>> containers_;
};

std::vector<Pod> parse_document(const YAML::Node& document) {
  for (const auto& field : document) {
    if (document.IsMap() && field.first.Scalar() != "pods") {
      fail(field.first, "is unknown; the one known key is pods");
    }
  }
  if (!document.IsMap() || document.size() == 0) {
    throw Finding{1, "key 'pods' is missing"};
  }
  const YAML::Node list = document["pods"];
  if (!list.IsSequence()) {
    fail(list, "pods", "must be a list of maps");
  }
  std::vector<Pod> pods;
  Duplicates duplicates;
  for (const auto& entry : list) {
    pods.push_back(parse_pod(entry));
    duplicates.add(pods.back(), entry);
  }
  return pods;
}

}  // namespace

Result<std::vector<Pod>> parse_static_pods(const std::string& text, const std::string& file) {
  try {
    return parse_document(YAML::Load(text));
  } catch (const Finding& finding) {
    return Error::usage(file + ":" + std::to_string(finding.line) + ": " + finding.text);
  } catch (const YAML::Exception& error) {
    return Error::usage(file + ":" + std::to_string(error.mark.line + 1) + ": " + error.msg);
  }
}

}  // namespace ballast::identity
