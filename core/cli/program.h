// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/options.h"
#include "core/base/result.h"

/// What the command lines of all programs have in common: --version, help in layers, the pages made from
/// it, and how wrong use is told.
namespace ballast::cli {

/// Flags of these groups are left out of --help and shown by --help-all.
inline constexpr const char* kTuning = "Tuning";
inline constexpr const char* kFaultFinding = "Finding faults";

struct Example {
  std::string command;
  std::string does;
};

struct About {
  const char* name;
  int man_section;      ///< 8 for daemons, 1 for the others
  const char* summary;  ///< a sentence without its full stop
  std::string more;     ///< paragraphs for --help and the pages
  std::vector<Example> examples;
  std::vector<std::string> see_also = {};  ///< "ballastctl(1)"
};

class Program {
 public:
  explicit Program(About about);

  CLI::App& app() { return app_; }
  const CLI::App& app() const { return app_; }
  const About& about() const { return about_; }

  /// A flag that sets a key of `schema`: its help and range are the key's. `given` takes what was given;
  /// the key's own check comes later, when the file has been read.
  CLI::Option* key_flag(const std::string& flag, const options::Key& key,
                        const std::function<void(const std::string&)>& given);

  /// Another page of --help-format, beside man and markdown.
  void page(const std::string& format, std::function<std::string()> text) {
    pages_[format] = std::move(text);
  }

  /// An exit code where there is nothing more to do: 0 after --help, --version and --help-format, 2 after
  /// wrong use, which names the nearest flag or command where it looks like a slip.
  std::optional<int> parse(int argc, char** argv);

  /// The exit code of `status`; an error is told on stderr.
  int finish(const Status& status) const;

 private:
  std::string usage_error(const CLI::ParseError& error) const;
  int refuse(const std::string& what) const;

  About about_;
  CLI::App app_;
  bool all_ = false;
  std::string format_;
  std::map<std::string, std::function<std::string()>> pages_;
};

/// The program's page in roff(7), for man(1).
std::string man_page(const Program& program);
/// Its chapter of docs/cli.md.
std::string markdown(const Program& program);

/// The flags that were given a name and are not hidden, in order.
std::vector<const CLI::Option*> shown_options(const CLI::App& app);
std::vector<const CLI::App*> subcommands(const CLI::App& app);

}  // namespace ballast::cli
