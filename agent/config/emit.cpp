// SPDX-License-Identifier: Apache-2.0
#include <yaml-cpp/yaml.h>

#include "agent/config/config.h"

namespace ballast::config {
namespace {

std::string text(const Identity& identity) {
  return identity.kind == IdentityKind::kStatic       ? "static:" + identity.file.string()
         : identity.kind == IdentityKind::kKubernetes ? "kubernetes"
                                                      : "none";
}

std::string text(const Sink& sink) {
  switch (sink.kind) {
    case SinkKind::kFile:
      return "file:" + sink.target;
    case SinkKind::kXds:
      return "xds:" + sink.target;
    case SinkKind::kIstio:
      return "istio";
    case SinkKind::kDryRun:
      break;
  }
  return "dry-run";
}

template <typename T>
void pair(YAML::Emitter& out, const char* key, const T& value) {
  out << YAML::Key << key << YAML::Value << value;
}

void emit(YAML::Emitter& out, const Kubernetes& kubernetes) {
  out << YAML::BeginMap;
  pair(out, "server", kubernetes.server);
  pair(out, "ca_file", kubernetes.ca_file.string());
  pair(out, "token_file", kubernetes.token_file.string());
  pair(out, "node", kubernetes.node);
  pair(out, "namespace", kubernetes.ns);
  pair(out, "lease", kubernetes.lease);
  pair(out, "lease_duration_s", kubernetes.lease_duration_s);
  pair(out, "cluster_domain", kubernetes.cluster_domain);
  pair(out, "weights_per_s", kubernetes.weights_per_s);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Guard& guard) {
  out << YAML::BeginMap;
  pair(out, "floor", guard.floor);
  pair(out, "cap", guard.cap);
  pair(out, "max_step", guard.max_step);
  pair(out, "deadband", guard.deadband);
  pair(out, "stale_after_s", guard.stale_after_s);
  pair(out, "neutral_after_s", guard.neutral_after_s);
  pair(out, "blend", guard.blend);
  pair(out, "trip_ratio", guard.trip_ratio);
  pair(out, "trip_windows", guard.trip_windows);
  pair(out, "window_s", guard.window_s);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Fleet& fleet) {
  out << YAML::BeginMap;
  pair(out, "remote", fleet.remote);
  pair(out, "node", fleet.node);
  pair(out, "interval_ms", fleet.interval_ms);
  pair(out, "max_age_s", fleet.max_age_s);
  pair(out, "tls_cert", fleet.tls_cert.string());
  pair(out, "tls_key", fleet.tls_key.string());
  pair(out, "tls_ca", fleet.tls_ca.string());
  pair(out, "server_name", fleet.server_name);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Learner& learner) {
  out << YAML::BeginMap;
  pair(out, "socket", learner.socket.empty() ? "" : "unix:" + learner.socket);
  pair(out, "exploration", learner.exploration);
  pair(out, "temperature", learner.temperature);
  pair(out, "rollout_steps", learner.rollout_steps);
  pair(out, "margin", learner.margin);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Gate& gate) {
  out << YAML::BeginMap;
  pair(out, "leave_ratio", gate.leave_ratio);
  pair(out, "return_ratio", gate.return_ratio);
  pair(out, "leave_spread", gate.leave_spread);
  pair(out, "return_spread", gate.return_spread);
  pair(out, "leave_ticks", gate.leave_ticks);
  pair(out, "return_ticks", gate.return_ticks);
  pair(out, "single_subscriber_leaves", gate.single_subscriber_leaves);
  pair(out, "level_spread", gate.level_spread);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Prior& prior) {
  out << YAML::BeginMap;
  pair(out, "time_constant_s", prior.time_constant_s);
  pair(out, "confirm_step", prior.confirm_step);
  pair(out, "immediate_step", prior.immediate_step);
  pair(out, "square_root", prior.square_root);
  out << YAML::EndMap;
}

void emit(YAML::Emitter& out, const Reward& reward) {
  out << YAML::BeginMap;
  pair(out, "p50", reward.p50);
  pair(out, "p99", reward.p99);
  pair(out, "errors", reward.errors);
  pair(out, "imbalance", reward.imbalance);
  pair(out, "churn", reward.churn);
  out << YAML::EndMap;
}

}  // namespace

std::string to_yaml(const Config& config) {
  YAML::Emitter out;
  out << YAML::BeginMap;
  pair(out, "bpffs", config.bpffs.string());
  pair(out, "identity", text(config.identity));
  pair(out, "sink", text(config.sink));
  pair(out, "mode", std::string(mode_name(config.mode)));
  pair(out, "tick_ms", config.tick_ms);
  pair(out, "window_s", config.window_s);
  pair(out, "cgroup_root", config.cgroup_root.string());
  pair(out, "log", config.log);
  pair(out, "metrics", config.metrics);
  out << YAML::Key << "kubernetes" << YAML::Value;
  emit(out, config.kubernetes);
  out << YAML::Key << "spans" << YAML::Value << YAML::BeginMap;
  pair(out, "every", config.spans.every);
  pair(out, "otlp", config.spans.otlp);
  out << YAML::EndMap;
  out << YAML::Key << "fleet" << YAML::Value;
  emit(out, config.fleet);
  out << YAML::Key << "policy" << YAML::Value << YAML::BeginMap;
  pair(out, "name", std::string(policy_name(config.policy.kind)));
  pair(out, "parameters", config.policy.parameters.string());
  out << YAML::EndMap;
  out << YAML::Key << "learner" << YAML::Value;
  emit(out, config.learner);
  out << YAML::Key << "guard" << YAML::Value;
  emit(out, config.guard);
  out << YAML::Key << "gate" << YAML::Value;
  emit(out, config.gate);
  out << YAML::Key << "prior" << YAML::Value;
  emit(out, config.prior);
  out << YAML::Key << "reward" << YAML::Value;
  emit(out, config.reward);
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

const char* mode_name(Mode mode) {
  switch (mode) {
    case Mode::kShadow:
      return "shadow";
    case Mode::kActive:
      return "active";
    case Mode::kOff:
      break;
  }
  return "off";
}

const char* policy_name(PolicyKind kind) {
  switch (kind) {
    case PolicyKind::kNeutral:
      return "neutral";
    case PolicyKind::kLearned:
      return "learned";
    case PolicyKind::kPrior:
      break;
  }
  return "prior";
}

}  // namespace ballast::config
