// SPDX-License-Identifier: Apache-2.0
#include "core/cli/program.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstring>

#include "core/cli/version.h"

namespace ballast::cli {
namespace {

constexpr const char* kHidden = "";

bool is_layered(const std::string& group) {
  return group == kTuning || group == kFaultFinding;
}

/// Hides the flags of the deeper layers; whether there were any.
bool hide_layers(CLI::App& app) {
  bool any = false;
  for (CLI::Option* option : app.get_options()) {
    if (is_layered(option->get_group())) {
      option->group(kHidden);
      any = true;
    }
  }
  for (CLI::App* command : app.get_subcommands([](CLI::App*) { return true; })) {
    any = hide_layers(*command) || any;
  }
  return any;
}

std::string footer(const About& about, bool more_layers) {
  std::string text = about.more;
  for (const Example& example : about.examples) {
    text += fmt::format("{}{}\n    {}\n", &example == about.examples.data() ? "\nExamples:\n" : "",
                        "  " + example.does + ":", example.command);
  }
  if (more_layers) {
    text += "\n--help-all shows the flags for tuning and for finding faults too.\n";
  }
  return text +
         "\nExit codes: 0 done, 1 failed, 2 wrong use or configuration, 3 missing privilege or kernel "
         "feature.";
}

/// All names that may follow `app` on the command line.
void names_of(const CLI::App& app, std::vector<std::string>& flags, std::vector<std::string>& commands) {
  for (const CLI::Option* option : shown_options(app)) {
    for (const std::string& name : option->get_lnames()) {
      flags.push_back("--" + name);
    }
  }
  for (const CLI::App* command : subcommands(app)) {
    commands.push_back(command->get_name());
    if (command->parsed()) {
      names_of(*command, flags, commands);
    }
  }
}

template <typename T>
bool is_number(const std::string& text) {
  T value{};
  const auto [stopped, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && stopped == text.data() + text.size() &&
         std::isfinite(static_cast<double>(value));
}

/// What CLI11 lets pass: numbers that are none (NaN is within every of its ranges), and whole numbers that
/// wrap around.
std::optional<std::string> wrong_number(const CLI::App& app) {
  for (const CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    for (const std::string& given : option->results()) {
      const bool right = type.starts_with("FLOAT")  ? is_number<double>(given)
                         : type.starts_with("UINT") ? is_number<std::uint64_t>(given)
                         : type.starts_with("INT")  ? is_number<std::int64_t>(given)
                                                    : true;
      if (!right) {
        return fmt::format("{}: {} is not a {}", option->get_name(), given,
                           type.starts_with("FLOAT")  ? "finite number"
                           : type.starts_with("UINT") ? "whole number of 0 or more"
                                                      : "whole number");
      }
    }
  }
  for (const CLI::App* command : app.get_subcommands()) {
    if (auto wrong = wrong_number(*command)) {
      return wrong;
    }
  }
  return std::nullopt;
}

}  // namespace

std::vector<const CLI::Option*> shown_options(const CLI::App& app) {
  return app.get_options([](const CLI::Option* option) { return !option->get_group().empty(); });
}

std::vector<const CLI::App*> subcommands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App* command) { return !command->get_group().empty(); });
}

Program::Program(About about)
    : about_(std::move(about)), app_(about_.summary + std::string("."), about_.name) {
  app_.set_version_flag("--version", fmt::format("{} {}", about_.name, version()),
                        "print the version and exit");
  app_.set_help_flag("-h,--help", "print the everyday flags and exit");
  app_.add_flag("--help-all", all_, "print all flags and exit");
  app_.add_option("--help-format", format_)->group(kHidden);
  pages_["man"] = [this] { return man_page(*this); };
  pages_["markdown"] = [this] { return markdown(*this); };
}

CLI::Option* Program::key_flag(const std::string& flag, const options::Key& key,
                               const std::function<void(const std::string&)>& given) {
  return app_.add_option_function<std::string>(flag, given, key.help)
      ->type_name(key.allowed)
      ->default_str(key.standard);
}

std::optional<int> Program::parse(int argc, char** argv) {
  const auto given = [&](const char* flag) {
    return std::any_of(argv + 1, argv + argc, [&](const char* arg) { return std::strcmp(arg, flag) == 0; });
  };
  // Before the parser, which would ask for what is required first.
  for (int i = 1; i + 1 < argc; ++i) {
    if (std::strcmp(argv[i], "--help-format") == 0) {
      const auto page = pages_.find(argv[i + 1]);
      if (page == pages_.end()) {
        return finish(Error::usage(fmt::format("--help-format {}: there is no such page", argv[i + 1])));
      }
      fmt::print("{}", page->second());
      return 0;
    }
  }
  if (given("--help-all")) {
    app_.footer(footer(about_, false));
    fmt::print("{}", app_.help("", CLI::AppFormatMode::All));
    return 0;
  }
  app_.footer(footer(about_, given("--help") || given("-h") ? hide_layers(app_) : false));
  try {
    app_.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) {
      return app_.exit(error);
    }
    return refuse(usage_error(error));
  }
  if (const auto wrong = wrong_number(app_)) {
    return refuse(*wrong);
  }
  return std::nullopt;
}

std::string Program::usage_error(const CLI::ParseError& error) const {
  std::vector<std::string> flags, commands;
  names_of(app_, flags, commands);
  // What is unknown is told before what is missing: it is mostly the same thing, misspelt.
  for (const std::string& word : app_.remaining(true)) {
    const std::string bare = word.substr(0, word.find('='));
    if (word.starts_with('-')) {
      return fmt::format("unknown flag {}{}", bare, options::did_you_mean(bare, flags));
    }
    if (!commands.empty() && app_.get_subcommands().empty()) {
      return fmt::format("unknown command {}{}; known: {}", word, options::did_you_mean(word, commands),
                         fmt::join(commands, ", "));
    }
  }
  if (const auto wrong = wrong_number(app_)) {
    return *wrong;
  }
  if (const std::string what = error.what(); what.find(": At Most 1 required but received") != what.npos) {
    return what.substr(0, what.find(':')) + " is given twice";
  }
  return error.what();
}

int Program::refuse(const std::string& what) const {
  fmt::print(stderr, "{}: {}\nRun with --help for more information.\n", about_.name, what);
  return 2;
}

int Program::finish(const Status& status) const {
  if (status) {
    return 0;
  }
  fmt::print(stderr, "{}: {}\n", about_.name, status.error().message);
  return status.error().exit_code();
}

}  // namespace ballast::cli
