// SPDX-License-Identifier: Apache-2.0
#include "tools/lab/pods.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "core/base/file.h"

namespace ballast::lab {

namespace {

constexpr std::uint16_t kPodPort = 8080;
constexpr int kStartMs = 10000;

bool accepts(const Endpoint& endpoint) {
  const auto fd = connect_nonblocking(endpoint);
  pollfd waiting{fd ? fd->get() : -1, POLLOUT, 0};
  int error = 1;
  socklen_t size = sizeof error;
  return fd && ::poll(&waiting, 1, 1000) == 1 &&
         ::getsockopt(fd->get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0;
}

}  // namespace

Status PodFleet::add(const PodSpec& spec) {
  const auto place = addresses_.try_emplace(spec.name, Endpoint{}).first;
  if (place->second.port == 0) {
    place->second = {space_.address(1, static_cast<int>(addresses_.size()) + 9), kPodPort};
  }
  const Endpoint endpoint = place->second;
  auto cgroup = PodCgroup::create(space_.layout(), space_.cgroup(spec.name));
  if (!cgroup) {
    return cgroup.error();
  }
  if (auto set = cgroup->set_quota(spec.quota, scenario_.period_ms); !set) {
    return set;
  }
  ProcessOptions options;
  options.argv = {"/proc/self/exe", "pod",
                  "--listen",       endpoint.text(),
                  "--server",       scenario_.server == ServerKind::kFifo ? "fifo" : "ps",
                  "--workers",      std::to_string(spec.workers),
                  "--wait-factor",  std::to_string(spec.wait_factor)};
  if (report_) {
    if (auto noted = note_quota(spec); !noted) {
      return noted;
    }
    options.argv.insert(options.argv.end(), {"--report", quota_file(spec.name)});
  }
  options.output = space_.folder() / (spec.name + ".log");
  options.cgroups = cgroup->folders();
  auto process = ChildProcess::spawn(options);
  if (!process) {
    return process.error().in("pod " + spec.name);
  }
  members_.push_back({spec, endpoint, std::move(*cgroup), std::move(*process), {}});
  if (auto added = add_tenants(members_.back()); !added) {
    return added;
  }
  known_.emplace_back(spec.name, endpoint);
  const auto deadline = std::chrono::steady_clock::now() + std::chrono::milliseconds(kStartMs);
  while (!accepts(endpoint)) {
    if (!members_.back().process.running() || std::chrono::steady_clock::now() > deadline) {
      return Error::failed("pod " + spec.name + " does not listen on " + endpoint.text() + "; its log is " +
                           options.output.string());
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(5));
  }
  return ok();
}

// In a cgroup below the pod's: they share its quota, and what they use is not the pod's own.
Status PodFleet::add_tenants(Member& member) const {
  int number = 0;
  for (const Tenant& tenant : scenario_.tenants) {
    if (tenant.pod != member.spec.name) {
      continue;
    }
    const std::string name = "tenant-" + std::to_string(number++);
    auto cgroup = PodCgroup::create(space_.layout(), space_.cgroup(member.spec.name) + "/" + name);
    if (!cgroup) {
      return cgroup.error();
    }
    ProcessOptions options;
    options.argv = {"/proc/self/exe", "tenant",
                    "--every",        std::to_string(tenant.every_s),
                    "--burn",         std::to_string(tenant.burn_s),
                    "--phase",        std::to_string(tenant.phase_s),
                    "--cores",        std::to_string(tenant.cores)};
    options.output = space_.folder() / (member.spec.name + "-" + name + ".log");
    options.cgroups = cgroup->folders();
    auto process = ChildProcess::spawn(options);
    if (!process) {
      return process.error().in(name + " of pod " + member.spec.name);
    }
    member.tenants.push_back(std::move(*process));
  }
  return ok();
}

Status PodFleet::note_quota(const PodSpec& spec) const {
  return write_file_atomic(quota_file(spec.name), std::to_string(spec.quota) + "\n");
}

Status PodFleet::reset(bool report) {
  report_ = report;
  members_.clear();
  known_.clear();
  for (const auto& spec : scenario_.pods) {
    if (auto added = add(spec); !added) {
      return added;
    }
  }
  return ok();
}

Status PodFleet::set_quota(const std::string& pod, double quota) {
  for (auto& member : members_) {
    if (member.spec.name == pod) {
      member.spec.quota = quota;
      if (auto noted = report_ ? note_quota(member.spec) : ok(); !noted) {
        return noted;
      }
      return member.cgroup.set_quota(quota, scenario_.period_ms);
    }
  }
  return Error::failed("there is no pod " + pod);
}

void PodFleet::kill(const std::string& pod) {
  std::erase_if(members_, [&](const Member& member) { return member.spec.name == pod; });
}

std::string PodFleet::name_of(const Endpoint& endpoint) const {
  for (const auto& [name, known] : known_) {
    if (known.address == endpoint.address && known.port == endpoint.port) {
      return name;
    }
  }
  return endpoint.text();
}

std::string PodFleet::identity_yaml() const {
  std::string text = "pods:\n";
  for (const auto& member : members_) {
    text += "- {cgroup: " + member.cgroup.identity() + ", pod: " + member.spec.name +
            ", namespace: " + scenario_.ns + ", service: " + scenario_.service +
            ", address: " + member.endpoint.address + ", port: " + std::to_string(member.endpoint.port) +
            "}\n";
  }
  return text;
}

}  // namespace ballast::lab
