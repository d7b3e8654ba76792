// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <chrono>
#include <concepts>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/base/result.h"

/// What an operator may set. A room declares each of its options once, beside the field that holds it:
///
///   struct GuardOptions {
///     double floor = 0.1;
///     double cap = 4;
///     void declare(options::Schema& s) {
///       s.section("guard");
///       s.number("floor", floor, 0.001, 1, "", "least weight, relative to fair share");
///       s.number("cap", cap, 1, 1000, "", "greatest weight, relative to fair share");
///     }
///   };
///
/// Parser, emitter, checks, --help and docs/configuration.md come from it. The default is what the
/// field holds when it is declared.
namespace ballast::options {

/// What is wrong and what to give instead; nullopt: nothing.
using Wrong = std::optional<std::string>;

/// Checks of texts.
Wrong existing_file(const std::string& path);  ///< empty is none, and right
Wrong not_empty(const std::string& text);
Wrong http_url(const std::string& url);      ///< empty is right
Wrong loopback(const std::string& address);  ///< IP:PORT of this machine alone; empty is right

struct Key {
  std::string name;      ///< with its section: "guard.floor"
  std::string type;      ///< "number", "whole number", "word" or "text"
  std::string allowed;   ///< what may be given: "0.001 to 1", "off, shadow, active", "IP:PORT"
  std::string unit;      ///< empty: none
  std::string help;      ///< one line
  std::string standard;  ///< the default, as text
  std::function<std::string()> get;
  /// From text; leaves the field as it was where it answers.
  std::function<Wrong(const std::string&)> set;
};

/// What must hold between keys. Its error stands at the first of them that was given.
struct Rule {
  std::vector<std::string> keys;
  std::function<Wrong()> check;
};

/// The keys of one or more objects, bound to their fields. The objects outlive it and stay where they are.
class Schema {
 public:
  /// Keys and rules declared from here on belong to it; empty: to none. May be taken up again.
  void section(std::string name) { section_ = std::move(name); }

  template <typename T>
  requires std::floating_point<T> ||
      (std::integral<T> && !std::same_as<T, bool>)void number(const char* name, T& field, double least,
                                                              double most, const char* unit,
                                                              const char* help) {
    add_number(
        name, std::integral<T>, least, most, unit, help, [&field] { return static_cast<double>(field); },
        [&field](double value) { field = static_cast<T>(value); }, std::same_as<T, float>);
  }
  /// A duration that is given in milliseconds, and one that is given in seconds.
  void milliseconds(const char* name, std::chrono::milliseconds& field, double least, double most,
                    const char* help);
  void seconds(const char* name, std::chrono::milliseconds& field, double least, double most,
               const char* help);

  /// One of some words.
  template <typename T>
  void word(const char* name, T& field, std::vector<std::pair<std::string, T>> words, const char* help) {
    std::vector<std::string> names;
    for (const auto& one : words) {
      names.push_back(one.first);
    }
    const auto get = [&field, words]() -> std::string {
      for (const auto& [text, value] : words) {
        if (value == field) {
          return text;
        }
      }
      return "?";
    };
    add_word(name, names, help, get, [&field, words](const std::string& given) {
      for (const auto& [text, value] : words) {
        if (text == given) {
          field = value;
          return true;
        }
      }
      return false;
    });
  }
  void one_of(const char* name, std::string& field, const std::vector<std::string>& words, const char* help) {
    std::vector<std::pair<std::string, std::string>> pairs;
    for (const std::string& one : words) {
      pairs.emplace_back(one, one);
    }
    word<std::string>(name, field, std::move(pairs), help);
  }
  void flag(const char* name, bool& field, const char* help) {
    word<bool>(name, field, {{"true", true}, {"false", false}}, help);
  }

  /// Text that `check` finds nothing wrong with. `allowed` tells its form, e.g. "IP:PORT".
  void text(const char* name, std::string& field, const char* allowed, const char* help,
            const std::function<Wrong(const std::string&)>& check = {});
  void path(const char* name, std::filesystem::path& field, const char* allowed, const char* help,
            const std::function<Wrong(const std::string&)>& check = {});
  /// Empty, or the path of a file that is there.
  template <typename Path>
  void file(const char* name, Path& field, const char* help) {
    if constexpr (std::same_as<Path, std::string>) {
      text(name, field, "FILE", help, existing_file);
    } else {
      path(name, field, "FILE", help, existing_file);
    }
  }
  /// The names are of the current section, or whole where they hold a dot or begin with one (".tick_ms"
  /// is the key tick_ms of no section).
  void rule(std::vector<std::string> keys, std::function<Wrong()> check);
  /// low <= high.
  void ordered(const char* low_name, const double& low, const char* high_name, const double& high);

  const std::vector<Key>& keys() const { return keys_; }
  const std::vector<Rule>& rules() const { return rules_; }
  const Key* find(const std::string& name) const;

  /// What the fields hold now, each by itself and all together. kUsage, naming the key.
  Status check() const;

 private:
  Key& add(const char* name, const char* type, std::string allowed, const char* help);
  void add_number(const char* name, bool whole, double least, double most, const char* unit, const char* help,
                  std::function<double()> get, std::function<void(double)> set, bool single = false);
  void add_word(const char* name, const std::vector<std::string>& words, const char* help,
                std::function<std::string()> get, const std::function<bool(const std::string&)>& set);
  std::string full(const std::string& name) const;

  std::string section_;
  std::vector<Key> keys_;
  std::vector<Rule> rules_;
};

/// The candidate that `given` is most likely a slip of; nullopt: none is near.
std::optional<std::string> nearest(const std::string& given, const std::vector<std::string>& candidates);

/// As ", did you mean NAME?", or nothing.
std::string did_you_mean(const std::string& given, const std::vector<std::string>& candidates);

/// kUsage, naming the key, where `options` do not hold what they declare.
template <typename T>
Status validate(T options) {
  Schema schema;
  options.declare(schema);
  return schema.check();
}

[[noreturn]] void refuse_constant(const Error& error);

/// Options that hold what they declare. What is made of options takes them so: nobody has to mend or to
/// refuse what --check-config let pass.
template <typename T>
class Checked {
 public:
  static Result<Checked> of(T options) {
    Status status = validate(options);
    return status ? Result<Checked>(Checked(std::move(options), Unit{})) : status.error();
  }
  /// Of options that the program wrote itself: wrong ones are a fault of it, and end it with their key.
  Checked(T options) : Checked(std::move(options), Unit{}) {  // NOLINT(google-explicit-constructor)
    if (const Status status = validate(options_); !status) {
      refuse_constant(status.error());
    }
  }

  const T& operator*() const { return options_; }
  const T* operator->() const { return &options_; }

 private:
  Checked(T options, Unit) : options_(std::move(options)) {}
  T options_;
};

}  // namespace ballast::options
