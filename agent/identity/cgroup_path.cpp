// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/cgroup_path.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>
#include <vector>

namespace ballast::identity {
namespace {

constexpr std::size_t kContainerIdLength = 64;

struct PodPart {
  std::string uid;
  QosClass qos = QosClass::kGuaranteed;
  CgroupDriver driver = CgroupDriver::kCgroupfs;
};

struct ContainerPart {
  std::string id;
  Runtime runtime = Runtime::kUnknown;
};

bool is_hex(std::string_view text) {
  return std::all_of(text.begin(), text.end(),
                     [](unsigned char c) { return std::isdigit(c) != 0 || (c >= 'a' && c <= 'f'); });
}

bool consume_prefix(std::string_view& text, std::string_view prefix) {
  if (!text.starts_with(prefix)) {
    return false;
  }
  text.remove_prefix(prefix.size());
  return true;
}

bool consume_suffix(std::string_view& text, std::string_view suffix) {
  if (!text.ends_with(suffix)) {
    return false;
  }
  text.remove_suffix(suffix.size());
  return true;
}

// 8-4-4-4-12 with '-' (cgroupfs) or '_' (systemd, where '-' separates slices), or a static pod's
// 32 digits (the hash of its manifest).
std::optional<std::string> parse_uid(std::string_view text) {
  std::string uid(text);
  std::replace(uid.begin(), uid.end(), '_', '-');
  if (uid.size() == 32 && is_hex(uid)) {
    return uid;
  }
  if (uid.size() != 36) {
    return std::nullopt;
  }
  for (std::size_t i = 0; i < uid.size(); ++i) {
    const bool dash = i == 8 || i == 13 || i == 18 || i == 23;
    if (dash ? uid[i] != '-' : !is_hex(std::string_view(uid).substr(i, 1))) {
      return std::nullopt;
    }
  }
  return uid;
}

QosClass parse_qos(std::string_view text) {
  if (text == "burstable") {
    return QosClass::kBurstable;
  }
  return text == "besteffort" ? QosClass::kBestEffort : QosClass::kGuaranteed;
}

// kubepods-burstable-pod<uid>.slice, kubepods-pod<uid>.slice, with kind also kubelet-kubepods-...
std::optional<PodPart> parse_pod_slice(std::string_view name) {
  if (!consume_suffix(name, ".slice")) {
    return std::nullopt;
  }
  const auto kubepods = name.find("kubepods-");
  if (kubepods == std::string_view::npos || (kubepods != 0 && name[kubepods - 1] != '-')) {
    return std::nullopt;
  }
  name.remove_prefix(kubepods + std::string_view("kubepods-").size());
  QosClass qos = QosClass::kGuaranteed;
  for (const std::string_view known : {"burstable", "besteffort"}) {
    if (name.starts_with(known) && name.substr(known.size()).starts_with("-")) {
      qos = parse_qos(known);
      name.remove_prefix(known.size() + 1);
      break;
    }
  }
  if (!consume_prefix(name, "pod")) {
    return std::nullopt;
  }
  auto uid = parse_uid(name);
  if (!uid) {
    return std::nullopt;
  }
  return PodPart{std::move(*uid), qos, CgroupDriver::kSystemd};
}

// .../kubepods/[burstable/|besteffort/]pod<uid>
std::optional<PodPart> parse_pod_folder(const std::vector<std::string_view>& parts, std::size_t i) {
  std::string_view name = parts[i];
  if (i == 0 || !consume_prefix(name, "pod")) {
    return std::nullopt;
  }
  const std::string_view above = parts[i - 1];
  const bool classed = above == "burstable" || above == "besteffort";
  if (above != "kubepods" && !(classed && i >= 2 && parts[i - 2] == "kubepods")) {
    return std::nullopt;
  }
  auto uid = parse_uid(name);
  if (!uid) {
    return std::nullopt;
  }
  return PodPart{std::move(*uid), parse_qos(above), CgroupDriver::kCgroupfs};
}

std::optional<ContainerPart> parse_container(std::string_view name) {
  static constexpr std::array<std::pair<std::string_view, Runtime>, 3> kPrefixes = {
      {{"cri-containerd-", Runtime::kContainerd}, {"crio-", Runtime::kCrio}, {"docker-", Runtime::kDocker}}};
  consume_suffix(name, ".scope");
  Runtime runtime = Runtime::kUnknown;
  for (const auto& [prefix, known] : kPrefixes) {
    if (consume_prefix(name, prefix)) {
      runtime = known;
      break;
    }
  }
  if (name.size() != kContainerIdLength || !is_hex(name)) {
    return std::nullopt;
  }
  return ContainerPart{std::string(name), runtime};
}

ContainerRef join(PodPart pod, ContainerPart container, bool nested) {
  return {std::move(pod.uid), std::move(container.id), container.runtime, pod.qos, pod.driver, nested};
}

// <pod slice>:cri-containerd:<id>, one folder: a kubelet with the systemd driver above a containerd
// without it, which takes the slice's name for a plain folder name.
std::optional<ContainerRef> parse_mismatched(std::string_view name, bool nested) {
  const auto first = name.find(':');
  const auto last = name.rfind(':');
  if (first == std::string_view::npos || first == last) {
    return std::nullopt;
  }
  auto pod = parse_pod_slice(name.substr(0, first));
  auto container = parse_container(name.substr(last + 1));
  if (!pod || !container) {
    return std::nullopt;
  }
  const auto runtime = name.substr(first + 1, last - first - 1);
  container->runtime = runtime == "cri-containerd" ? Runtime::kContainerd : Runtime::kUnknown;
  return join(std::move(*pod), std::move(*container), nested);
}

// A /proc/PID/cgroup line is "N:controllers:/path"; gives the path.
std::string_view strip_hierarchy(std::string_view line) {
  while (!line.empty() && (line.back() == '\n' || line.back() == '/')) {
    line.remove_suffix(1);
  }
  if (line.empty() || std::isdigit(static_cast<unsigned char>(line.front())) == 0) {
    return line;
  }
  const auto path = line.find(":/");
  return path == std::string_view::npos ? line : line.substr(path + 1);
}

std::vector<std::string_view> split(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const auto slash = std::min(path.find('/'), path.size());
    if (slash > 0) {
      parts.push_back(path.substr(0, slash));
    }
    path.remove_prefix(std::min(slash + 1, path.size()));
  }
  return parts;
}

}  // namespace

std::optional<ContainerRef> parse_cgroup_path(std::string_view path) {
  const auto parts = split(strip_hierarchy(path));
  // From the end: kind nests a kubelet's tree in a node's container, and the innermost pod is it.
  for (std::size_t i = parts.size(); i-- > 0;) {
    const bool last = i + 1 == parts.size();
    if (auto ref = parse_mismatched(parts[i], !last)) {
      return ref;
    }
    if (last) {
      continue;
    }
    auto pod = parse_pod_slice(parts[i]);
    if (!pod) {
      pod = parse_pod_folder(parts, i);
    }
    if (!pod) {
      continue;
    }
    auto container = parse_container(parts[i + 1]);
    if (!container) {
      return std::nullopt;
    }
    return join(std::move(*pod), std::move(*container), i + 2 < parts.size());
  }
  return std::nullopt;
}

const char* runtime_name(Runtime runtime) {
  switch (runtime) {
    case Runtime::kContainerd:
      return "containerd";
    case Runtime::kCrio:
      return "cri-o";
    case Runtime::kDocker:
      return "docker";
    case Runtime::kUnknown:
      break;
  }
  return "unknown";
}

const char* qos_name(QosClass qos) {
  switch (qos) {
    case QosClass::kBurstable:
      return "Burstable";
    case QosClass::kBestEffort:
      return "BestEffort";
    case QosClass::kGuaranteed:
      break;
  }
  return "Guaranteed";
}

const char* driver_name(CgroupDriver driver) {
  return driver == CgroupDriver::kSystemd ? "systemd" : "cgroupfs";
}

}  // namespace ballast::identity
