// SPDX-License-Identifier: Apache-2.0
#include "agent/config/config.h"

#include <fmt/format.h>
#include <sys/un.h>
#include <yaml-cpp/yaml.h>

#include <algorithm>

#include "agent/config/reader.h"
#include "core/base/file.h"
#include "core/base/listen_address.h"
#include "core/base/url.h"

namespace ballast::config {
namespace {

namespace fs = std::filesystem;
using options::Wrong;

/// The rest of `text` behind `scheme:`; nullopt when it does not begin so, or nothing follows.
std::optional<std::string> behind(const std::string& text, const std::string& scheme) {
  const bool begins = text.starts_with(scheme + ":") && text.size() > scheme.size() + 1;
  return begins ? std::optional(text.substr(scheme.size() + 1)) : std::nullopt;
}

/// What may be read by others: whoever declares an URL need not think of the password that it may hold.
std::string shown(const options::Key& key) {
  const std::string text = key.get();
  return text.find("://") == std::string::npos ? text : without_secrets(text);
}

std::string section_of(const options::Key& key) {
  const auto dot = key.name.find('.');
  return dot == std::string::npos ? "" : key.name.substr(0, dot);
}

/// The sections in the order in which they first appear, and the keys of each.
std::vector<std::pair<std::string, std::vector<const options::Key*>>> by_section(
    const options::Schema& schema) {
  std::vector<std::pair<std::string, std::vector<const options::Key*>>> out;
  for (const options::Key& key : schema.keys()) {
    const std::string section = section_of(key);
    auto found = std::find_if(out.begin(), out.end(), [&](const auto& one) { return one.first == section; });
    if (found == out.end()) {
      found = out.insert(out.end(), {section, {}});
    }
    found->second.push_back(&key);
  }
  return out;
}

}  // namespace

Wrong identity_form(const std::string& text) {
  if (text == "none" || text == "kubernetes") {
    return std::nullopt;
  }
  const auto file = behind(text, "static");
  return file ? options::existing_file(*file)
              : Wrong(fmt::format("\"{}\" is not one of none, static:FILE, kubernetes{}", text,
                                  options::did_you_mean(text, {"none", "static:FILE", "kubernetes"})));
}

Wrong sink_form(const std::string& text) {
  if (text == "dry-run" || text == "istio") {
    return std::nullopt;
  }
  if (const auto file = behind(text, "file")) {
    std::error_code ignored;
    const fs::path folder = fs::absolute(*file).parent_path();
    return fs::is_directory(folder, ignored)
               ? std::nullopt
               : Wrong(fmt::format("there is no folder {}; make it, or name another file", folder.string()));
  }
  if (const auto address = behind(text, "xds")) {
    const auto parsed = parse_listen_address(*address, false);
    return parsed ? std::nullopt : Wrong(parsed.error().message);
  }
  return fmt::format("\"{}\" is not one of dry-run, file:PATH, xds:IP:PORT, xds:unix:PATH, istio{}", text,
                     options::did_you_mean(text, {"dry-run", "istio"}));
}

Wrong absolute_path(const std::string& text) {
  return fs::path(text).is_absolute() ? std::nullopt : Wrong("\"" + text + "\" is not an absolute path");
}

Wrong unix_socket(const std::string& text) {
  constexpr std::size_t kMost = sizeof(sockaddr_un::sun_path) - 1;
  const auto file = behind(text, "unix");
  if (!file) {
    return text.empty() ? std::nullopt : Wrong(fmt::format("\"{}\" is not unix:PATH", text));
  }
  return file->size() <= kMost ? std::nullopt
                               : Wrong(fmt::format("the path is {} characters long; a unix socket takes {}",
                                                   file->size(), kMost));
}

void Config::rules(options::Schema& s) {
  s.rule({"guard.stale_after_s", ".tick_ms"}, [this]() -> Wrong {
    // A loop by name brings its own (assembly::loop_options).
    if (loop != "custom" || guard.stale_after_s * 1000 >= 2 * static_cast<double>(tick.count())) {
      return std::nullopt;
    }
    return fmt::format("{} s is less than two ticks of {} ms, so that everything would be stale; give more",
                       guard.stale_after_s, tick.count());
  });
  s.rule({".tick_ms", ".loop"}, [this]() -> Wrong {
    return loop != "custom" && tick != Config().tick
               ? Wrong("loop: " + loop + " sets the tick; leave one of both out")
               : std::nullopt;
  });
  s.rule({".tick_ms", ".loop", ".sink"}, [this]() -> Wrong {
    return sink == "istio" && tick_in_force() < std::chrono::milliseconds(100)
               ? Wrong("Istio cannot be written to so often; give 100 ms or more, or loop: istio")
               : std::nullopt;
  });
  s.rule({".sink", ".identity"}, [this]() -> Wrong {
    return sink == "istio" && identity != "kubernetes"
               ? Wrong("istio weighs the endpoints of Kubernetes Services; set identity: kubernetes")
               : std::nullopt;
  });
  s.rule({".role", ".sink", "fleet.remote"}, [this]() -> Wrong {
    return role != "both" && (sink != "istio" || fleet_client.address.empty())
               ? Wrong("role " + role + " is one of many machines'; set sink: istio and fleet.remote")
               : std::nullopt;
  });
  s.rule({"policy.parameters", "policy.name"}, [this]() -> Wrong {
    return acting() != "learned" && acting() != "forecast_rule" && !parameters.empty()
               ? Wrong("policy " + policy + " takes no parameters; set policy.name: learned or forecast_rule")
               : std::nullopt;
  });
  s.rule({"learner.socket", "policy.name"}, [this]() -> Wrong {
    // Beside the rule a learner may wait: it is given nothing and nothing of it acts.
    return acting() != "learned" && acting() != "queue_rule" && acting() != "forecast_rule" &&
                   !learner.empty()
               ? Wrong("policy " + policy + " cannot be taught; set policy.name: learned or forecast_rule")
               : std::nullopt;
  });
  s.rule({"spans.otlp", "spans.every"}, [this]() -> Wrong {
    return !spans.endpoint.empty() && spans_every == 0
               ? Wrong(
                     "a collector is named, but spans.every is 0, so that no span is sampled; give 1 to 1000")
               : std::nullopt;
  });
}

Result<Config> load(const std::optional<fs::path>& file, const std::vector<Override>& flags) {
  Config config;
  options::Schema schema;
  config.declare(schema);
  Reader reader(file ? file->string() : "", schema);
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
  if (Status status = reader.check_rules(); !status) {
    return status.error();
  }
  return config;
}

std::string to_yaml(Config config) {
  options::Schema schema;
  config.declare(schema);
  YAML::Emitter out;
  out << YAML::BeginMap;
  for (const auto& [section, keys] : by_section(schema)) {
    if (!section.empty()) {
      out << YAML::Key << section << YAML::Value << YAML::BeginMap;
    }
    for (const options::Key* key : keys) {
      out << YAML::Key << key->name.substr(key->name.find('.') + 1) << YAML::Value << shown(*key);
    }
    if (!section.empty()) {
      out << YAML::EndMap;
    }
  }
  out << YAML::EndMap;
  return std::string(out.c_str()) + "\n";
}

std::string to_markdown() {
  Config config;
  options::Schema schema;
  config.declare(schema);
  std::string out =
      "# Configuration of ballastd\n\n"
      "Generated from the options that each part of the program declares (`tools/dev/docs.sh`); do not "
      "edit.\n\n"
      "One YAML file, named by `--config`; flags override it. Every key has a default, so an empty file is a "
      "right one. `ballastd --config FILE --check-config` prints the configuration in force and exits 0, or "
      "exits 2 and names file, line, key and range of what is wrong. Nothing that it accepts is replaced "
      "later.\n";
  for (const auto& [section, keys] : by_section(schema)) {
    out += section.empty() ? "\n" : fmt::format("\n## {}\n\n", section);
    out += "| key | value | default | |\n| --- | --- | --- | --- |\n";
    for (const options::Key* key : keys) {
      out += fmt::format("| `{}` | {}{} | {} | {} |\n", key->name, key->allowed,
                         key->unit.empty() ? "" : " " + key->unit,
                         key->standard.empty() ? "empty" : "`" + key->standard + "`", key->help);
    }
  }
  return out;
}

std::string value(Config config, const std::string& key) {
  options::Schema schema;
  config.declare(schema);
  const options::Key* found = schema.find(key);
  return found != nullptr ? shown(*found) : "";
}

}  // namespace ballast::config
