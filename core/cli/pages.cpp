// SPDX-License-Identifier: Apache-2.0
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>

#include "core/cli/program.h"
#include "core/cli/version.h"

namespace ballast::cli {
namespace {

constexpr const char* kExitCodes[] = {"done", "failed", "wrong use or configuration",
                                      "missing privilege or kernel feature, which the message names"};

/// "-o,--output" as it is written on the command line: "-o, --output".
std::string names(const CLI::Option& option) {
  std::string text;
  for (const std::string& name : option.get_snames()) {
    text += (text.empty() ? "-" : ", -") + name;
  }
  for (const std::string& name : option.get_lnames()) {
    text += (text.empty() ? "--" : ", --") + name;
  }
  return text.empty() ? option.get_name(true) : text;
}

/// What follows the flag, in words; empty where nothing does. CLI11 tells a type and what checks it:
/// "FLOAT:FLOAT in [0 - 1]".
std::string value(const CLI::Option& option) {
  if (option.get_items_expected_max() == 0) {
    return "";
  }
  static const std::map<std::string, std::string> kWords = {
      {"TEXT", "text"},         {"FLOAT", "number"},     {"INT", "whole number"},
      {"UINT", "whole number"}, {"POSITIVE", "above 0"}, {"NONNEGATIVE", "0 or more"}};
  const std::string told = option.get_type_name();
  std::string text;
  for (std::size_t at = 0; at < told.size();) {
    // A colon within a range or an address is none between parts.
    const auto colon = std::min(told.find(':', at), told.size());
    std::string part = told.substr(at, colon - at);
    if (const auto range = part.find(" in ["); range != std::string::npos) {
      part = part.substr(range + 5, part.size() - range - 6);
      part.replace(part.find(" - "), 3, " to ");
    }
    const auto word = kWords.find(part);
    text += (text.empty()                                                ? ""
             : at > 0 && kWords.contains(told.substr(0, told.find(':'))) ? ", "
                                                                         : ":") +
            (word == kWords.end() ? part : word->second);
    at = colon + 1;
  }
  return text + (option.get_items_expected_max() > 1 ? "[,...]" : "");
}

std::string standard(const CLI::Option& option) {
  return option.get_required() ? "required" : option.get_default_str();
}

std::string command_line(const Program& program, const CLI::App& app) {
  const bool root = &app == &program.app();
  std::string text = program.about().name + (root ? std::string() : " " + app.get_name());
  for (const CLI::Option* option : shown_options(app)) {
    if (option->get_required() && !option->get_positional()) {
      text += fmt::format(" {} {}", names(*option), "...");
    }
  }
  text += " [FLAG ...]";
  for (const CLI::Option* option : shown_options(app)) {
    if (option->get_positional()) {
      const std::string name = option->get_name(true);
      text += option->get_required() ? " " + name : " [" + name + "]";
    }
  }
  return text + (subcommands(app).empty() ? "" : " COMMAND ...");
}

std::vector<std::string> groups_of(const CLI::App& app) {
  std::vector<std::string> groups;
  for (const CLI::Option* option : shown_options(app)) {
    if (std::find(groups.begin(), groups.end(), option->get_group()) == groups.end()) {
      groups.push_back(option->get_group());
    }
  }
  return groups;
}

std::string cell(std::string text) {
  for (std::size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) {
    text.insert(at, "\\");
  }
  return text;
}

std::string code(const std::string& text) {
  return text.empty() ? "" : "`" + cell(text) + "`";
}

std::string flags_table(const CLI::App& app) {
  std::string text;
  for (const std::string& group : groups_of(app)) {
    text += group == "Options" ? "" : fmt::format("{}:\n\n", group);
    text += "| flag | value | default | |\n| --- | --- | --- | --- |\n";
    for (const CLI::Option* option : shown_options(app)) {
      if (option->get_group() == group) {
        const std::string fallback = standard(*option);
        text +=
            fmt::format("| {} | {} | {} | {} |\n", code(names(*option)), cell(value(*option)),
                        fallback == "required" ? fallback : code(fallback), cell(option->get_description()));
      }
    }
    text += "\n";
  }
  return text;
}

/// For roff: a backslash, a leading dot or quote, and hyphens that are to be copied.
std::string roff(const std::string& text) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool first = i == 0 || text[i - 1] == '\n';
    if (first && (text[i] == '.' || text[i] == '\'')) {
      out += "\\&";
    }
    out += text[i] == '\\' ? "\\e" : text[i] == '-' ? "\\-" : std::string(1, text[i]);
  }
  return out;
}

std::string roff_flags(const CLI::App& app) {
  std::string text;
  for (const std::string& group : groups_of(app)) {
    text += group == "Options" ? "" : fmt::format(".SS {}\n", roff(group));
    for (const CLI::Option* option : shown_options(app)) {
      if (option->get_group() == group) {
        const std::string fallback = standard(*option);
        text +=
            fmt::format(".TP\n\\fB{}\\fR {}\n{}{}\n", roff(names(*option)), roff(value(*option)),
                        roff(option->get_description()),
                        fallback.empty()
                            ? ""
                            : "\n(" + roff(fallback == "required" ? fallback : "default: " + fallback) + ")");
      }
    }
  }
  return text;
}

}  // namespace

std::string markdown(const Program& program) {
  const About& about = program.about();
  const CLI::App& app = program.app();
  std::string text =
      fmt::format("## {}\n\n{}.\n\n```\n{}\n```\n\n", about.name, about.summary, command_line(program, app));
  if (!about.more.empty()) {
    text += about.more + "\n";
  }
  text += flags_table(app);
  for (const CLI::App* command : subcommands(app)) {
    text += fmt::format("### {} {}\n\n{}.\n\n```\n{}\n```\n\n{}", about.name, command->get_name(),
                        command->get_description(), command_line(program, *command), flags_table(*command));
  }
  if (!about.examples.empty()) {
    text += fmt::format("Examples of {}:\n\n", about.name);
    for (const Example& example : about.examples) {
      text += fmt::format("- {}: `{}`\n", example.does, example.command);
    }
    text += "\n";
  }
  return text;
}

std::string man_page(const Program& program) {
  const About& about = program.about();
  const CLI::App& app = program.app();
  std::string text = fmt::format(
      ".TH {0} {1} \"\" \"Ballast {2}\"\n.SH NAME\n{3} \\- {4}\n.SH SYNOPSIS\n{5}\n", about.name,
      about.man_section, version(), roff(about.name), roff(about.summary), roff(command_line(program, app)));
  if (!about.more.empty()) {
    text += ".SH DESCRIPTION\n.nf\n" + roff(about.more) + ".fi\n";
  }
  text += ".SH OPTIONS\n" + roff_flags(app);
  if (const auto commands = subcommands(app); !commands.empty()) {
    text += ".SH COMMANDS\n";
    for (const CLI::App* command : commands) {
      text += fmt::format(".SS {}\n{}\n{}", roff(command_line(program, *command)),
                          roff(command->get_description()), roff_flags(*command));
    }
  }
  if (!about.examples.empty()) {
    text += ".SH EXAMPLES\n";
    for (const Example& example : about.examples) {
      text += fmt::format(".TP\n{}\n.B {}\n", roff(example.does), roff(example.command));
    }
  }
  text += ".SH EXIT STATUS\n";
  for (int exit = 0; exit < 4; ++exit) {
    text += fmt::format(".TP\n{}\n{}\n", exit, kExitCodes[exit]);
  }
  if (!about.see_also.empty()) {
    text += fmt::format(".SH SEE ALSO\n{}\n", fmt::join(about.see_also, ", "));
  }
  return text;
}

}  // namespace ballast::cli
