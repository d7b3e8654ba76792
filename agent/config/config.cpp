// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include <fmt/format.h>
#include <sys/un.h>

#include "agent/config/reader.h"
#include "agent/config/values.h"
#include "core/base/file.h"
#include "core/base/listen_address.h"

namespace ballast::config {
namespace {

namespace fs = std::filesystem;

/// The rest of `text` behind `scheme:`; nullopt when it does not begin so.
std::optional<std::string> behind(const std::string& text, const std::string& scheme) {
  if (text.rfind(scheme + ":", 0) != 0) {
    return std::nullopt;
  }
  return text.substr(scheme.size() + 1);
}

Setter identity(Identity& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    if (text == "none") {
      target = {};
      return std::nullopt;
    }
    if (text == "kubernetes") {
      target = {IdentityKind::kKubernetes, {}};
      return std::nullopt;
    }
    const auto file = behind(text, "static");
    if (!file || file->empty()) {
      return fmt::format("\"{}\" is not one of none, static:FILE, kubernetes", text);
    }
    fs::path existing;
    if (auto wrong = existing_file(existing)(*file)) {
      return wrong;
    }
    target = {IdentityKind::kStatic, existing};
    return std::nullopt;
  };
}

Setter sink(Sink& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    if (text == "dry-run") {
      target = {};
      return std::nullopt;
    }
    if (text == "istio") {
      target = {SinkKind::kIstio, {}};
      return std::nullopt;
    }
    if (const auto file = behind(text, "file"); file && !file->empty()) {
      std::error_code ignored;
      const fs::path folder = fs::absolute(*file).parent_path();
      if (!fs::is_directory(folder, ignored)) {
        return fmt::format("there is no folder {}; make it, or name another file", folder.string());
      }
      target = {SinkKind::kFile, *file};
      return std::nullopt;
    }
    if (const auto address = behind(text, "xds")) {
      if (const auto parsed = parse_listen_address(*address, false); !parsed) {
        return parsed.error().message;
      }
      target = {SinkKind::kXds, *address};
      return std::nullopt;
    }
    return fmt::format("\"{}\" is not one of dry-run, file:PATH, xds:IP:PORT, istio", text);
  };
}

Setter unix_socket(std::string& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    if (text.empty()) {
      target.clear();
      return std::nullopt;
    }
    const auto file = behind(text, "unix");
    if (!file || file->empty()) {
      return fmt::format("\"{}\" is not unix:PATH", text);
    }
    if (file->size() >= sizeof(sockaddr_un::sun_path)) {
      return fmt::format("the path is {} characters long; a unix socket takes {}", file->size(),
                         sizeof(sockaddr_un::sun_path) - 1);
    }
    target = *file;
    return std::nullopt;
  };
}

Setter any_text(std::string& target) {
  return [&target](const std::string& text) -> std::optional<std::string> {
    target = text;
    return std::nullopt;
  };
}

std::vector<Key> keys_of(Config& c) {
  return {
      {"bpffs", path(c.bpffs)},
      {"identity", identity(c.identity)},
      {"sink", sink(c.sink)},
      {"mode",
       word<Mode>(c.mode, {{"off", Mode::kOff}, {"shadow", Mode::kShadow}, {"active", Mode::kActive}})},
      {"tick_ms", whole(c.tick_ms, 100, 60'000)},
      {"window_s", number(c.window_s, 1, 3600)},
      {"cgroup_root", path(c.cgroup_root)},
      {"log", one_of(c.log, {"trace", "debug", "info", "warn", "error", "off"})},
      {"metrics", loopback(c.metrics)},
      {"kubernetes.server", any_text(c.kubernetes.server)},
      {"kubernetes.ca_file", existing_file(c.kubernetes.ca_file)},
      {"kubernetes.token_file", existing_file(c.kubernetes.token_file)},
      {"kubernetes.node", any_text(c.kubernetes.node)},
      {"kubernetes.namespace", any_text(c.kubernetes.ns)},
      {"kubernetes.lease", any_text(c.kubernetes.lease)},
      {"kubernetes.lease_duration_s", whole(c.kubernetes.lease_duration_s, 3, 3600)},
      {"kubernetes.cluster_domain", any_text(c.kubernetes.cluster_domain)},
      {"kubernetes.weights_per_s", number(c.kubernetes.weights_per_s, 0.1, 1000)},
      {"spans.every", whole(c.spans.every, 0, 1000)},
      {"spans.otlp", http_url(c.spans.otlp)},
      {"fleet.remote", any_text(c.fleet.remote)},
      {"fleet.node", any_text(c.fleet.node)},
      {"fleet.interval_ms", whole(c.fleet.interval_ms, 100, 60'000)},
      {"fleet.max_age_s", number(c.fleet.max_age_s, 0.5, 3600)},
      {"fleet.tls_cert", existing_file(c.fleet.tls_cert)},
      {"fleet.tls_key", existing_file(c.fleet.tls_key)},
      {"fleet.tls_ca", existing_file(c.fleet.tls_ca)},
      {"fleet.server_name", any_text(c.fleet.server_name)},
      {"policy.name", word<PolicyKind>(c.policy.kind, {{"neutral", PolicyKind::kNeutral},
                                                       {"prior", PolicyKind::kPrior},
                                                       {"learned", PolicyKind::kLearned}})},
      {"policy.parameters", existing_file(c.policy.parameters)},
      {"learner.socket", unix_socket(c.learner.socket)},
      {"learner.exploration", number(c.learner.exploration, 0, 1)},
      {"learner.temperature", number(c.learner.temperature, 0.01, 100)},
      {"learner.rollout_steps", whole(c.learner.rollout_steps, 1, 1000)},
      {"learner.margin", number(c.learner.margin, 1, 1000)},
      {"guard.floor", number(c.guard.floor, 0.001, 1000)},
      {"guard.cap", number(c.guard.cap, 0.001, 1000)},
      {"guard.max_step", number(c.guard.max_step, 0.001, 10)},
      {"guard.deadband", number(c.guard.deadband, 0, 1)},
      {"guard.stale_after_s", number(c.guard.stale_after_s, 0.1, 3600)},
      {"guard.neutral_after_s", number(c.guard.neutral_after_s, 0.1, 3600)},
      {"guard.blend", number(c.guard.blend, 0, 1)},
      {"guard.trip_ratio", number(c.guard.trip_ratio, 1, 1000)},
      {"guard.trip_windows", whole(c.guard.trip_windows, 1, 1000)},
      {"guard.window_s", number(c.guard.window_s, 0.5, 3600)},
      {"gate.leave_ratio", number(c.gate.leave_ratio, 0, 10'000)},
      {"gate.return_ratio", number(c.gate.return_ratio, 0, 10'000)},
      {"gate.leave_spread", number(c.gate.leave_spread, 0, 10)},
      {"gate.return_spread", number(c.gate.return_spread, 0, 10)},
      {"gate.leave_ticks", whole(c.gate.leave_ticks, 1, 10'000)},
      {"gate.return_ticks", whole(c.gate.return_ticks, 1, 10'000)},
      {"gate.single_subscriber_leaves",
       word<bool>(c.gate.single_subscriber_leaves, {{"true", true}, {"false", false}})},
      {"gate.level_spread", number(c.gate.level_spread, 0, 10)},
      {"prior.time_constant_s", number(c.prior.time_constant_s, 0, 3600)},
      {"prior.confirm_step", number(c.prior.confirm_step, 0, 10)},
      {"prior.immediate_step", number(c.prior.immediate_step, 0, 10)},
      {"prior.square_root", number(c.prior.square_root, 0, 1)},
      {"reward.p50", number(c.reward.p50, 0, 1000)},
      {"reward.p99", number(c.reward.p99, 0, 1000)},
      {"reward.errors", number(c.reward.errors, 0, 1000)},
      {"reward.imbalance", number(c.reward.imbalance, 0, 1000)},
      {"reward.churn", number(c.reward.churn, 0, 1000)},
  };
}

using Wrong = std::optional<std::pair<const char*, std::string>>;

Wrong swapped(const char* low_key, double low, const char* high_key, double high) {
  if (low <= high) {
    return std::nullopt;
  }
  return {{low_key, fmt::format("{} is above {} {}; swap them", low, high_key, high)}};
}

Wrong check_guard(const Guard& guard, int tick_ms) {
  if (guard.floor > guard.cap) {
    return {{"guard.floor", fmt::format("the weight range is inside out: floor {} is above cap {}; swap them",
                                        guard.floor, guard.cap)}};
  }
  if (guard.floor > 1) {
    return {{"guard.floor", fmt::format("{} is above fair share, which is 1; give 0.001 to 1", guard.floor)}};
  }
  if (guard.cap < 1) {
    return {{"guard.cap", fmt::format("{} is below fair share, which is 1; give 1 to 1000", guard.cap)}};
  }
  if (guard.stale_after_s * 1000 < 2 * tick_ms) {
    return {{"guard.stale_after_s",
             fmt::format("{} s is less than two ticks of {} ms, so that everything would be "
                         "stale; give more",
                         guard.stale_after_s, tick_ms)}};
  }
  return swapped("guard.stale_after_s", guard.stale_after_s, "guard.neutral_after_s", guard.neutral_after_s);
}

Wrong check_policy(const Config& c) {
  if (c.policy.kind == PolicyKind::kLearned) {
    return std::nullopt;
  }
  if (!c.policy.parameters.empty()) {
    return {{"policy.parameters", fmt::format("policy {} takes no parameters; set policy.name: learned",
                                              policy_name(c.policy.kind))}};
  }
  if (!c.learner.socket.empty()) {
    return {{"learner.socket", fmt::format("policy {} cannot be taught; set policy.name: learned",
                                           policy_name(c.policy.kind))}};
  }
  return std::nullopt;
}

Wrong check_kubernetes(const Config& c) {
  const Kubernetes& k = c.kubernetes;
  if (c.sink.kind == SinkKind::kIstio && c.identity.kind != IdentityKind::kKubernetes) {
    return {{"sink", "istio weighs the endpoints of Kubernetes Services; set identity: kubernetes"}};
  }
  if (k.server.empty() && !(k.ca_file.empty() && k.token_file.empty())) {
    return {{"kubernetes.server", "empty, though a CA or a token is given; give https://HOST:PORT"}};
  }
  for (const auto& [key, value] :
       {std::pair("kubernetes.namespace", &k.ns), std::pair("kubernetes.lease", &k.lease),
        std::pair("kubernetes.cluster_domain", &k.cluster_domain)}) {
    if (value->empty()) {
      return {{key, "must not be empty"}};
    }
  }
  return std::nullopt;
}

Wrong check_fleet(const Fleet& fleet) {
  if (fleet.max_age_s * 1000 < 2 * fleet.interval_ms) {
    return {{"fleet.max_age_s", fmt::format("{} s is less than two intervals of {} ms, so that nothing would "
                                            "be young enough; give more",
                                            fleet.max_age_s, fleet.interval_ms)}};
  }
  const int given = !fleet.tls_cert.empty() + !fleet.tls_key.empty() + !fleet.tls_ca.empty();
  if (given != 0 && given != 3) {
    return {{"fleet.tls_cert", "TLS needs tls_cert, tls_key and tls_ca; give all three, or none"}};
  }
  return std::nullopt;
}

/// What no key can know alone. The error stands at the key that an operator would change first.
Wrong check_together(const Config& c) {
  if (c.bpffs.empty() || !c.bpffs.is_absolute()) {
    return {{"bpffs", fmt::format("\"{}\" is not an absolute path", c.bpffs.string())}};
  }
  for (Wrong wrong :
       {check_guard(c.guard, c.tick_ms), check_policy(c), check_kubernetes(c), check_fleet(c.fleet),
        swapped("gate.return_ratio", c.gate.return_ratio, "gate.leave_ratio", c.gate.leave_ratio),
        swapped("gate.return_spread", c.gate.return_spread, "gate.leave_spread", c.gate.leave_spread),
        swapped("prior.confirm_step", c.prior.confirm_step, "prior.immediate_step",
                c.prior.immediate_step)}) {
    if (wrong) {
      return wrong;
    }
  }
  return std::nullopt;
}

}  // namespace

Result<Config> load(const std::optional<fs::path>& file, const std::vector<Override>& flags) {
  Config config;
  Reader reader(file ? file->string() : "", keys_of(config));
  if (file) {
    auto text = read_file(*file);
    if (!text) {
      return Error::usage("--config " + file->string() + ": " + text.error().message +
                          "; give the path of a readable YAML file");
    }
    if (Status status = reader.read(*text); !status) {
      return status.error();
    }
  }
  for (const Override& flag : flags) {
    if (Status status = reader.apply(flag.flag, flag.key, flag.value); !status) {
      return status.error();
    }
  }
  if (const Wrong wrong = check_together(config)) {
    return Error::usage(reader.origin(wrong->first) + ": " + wrong->second);
  }
  return config;
}

}  // namespace ballast::config
