// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <utility>
#include <variant>

namespace ballast {

/// What went wrong, in the words an operator needs: what, on which file or key, and what to do.
/// The kind decides the exit code of every binary.
struct Error {
  enum class Kind {
    kFailed = 1,     ///< the work could not be done
    kUsage = 2,      ///< wrong flags or configuration
    kPrivilege = 3,  ///< a capability or kernel feature is missing; the message names it
  };

  Kind kind = Kind::kFailed;
  std::string message;

  static Error failed(std::string message) { return {Kind::kFailed, std::move(message)}; }
  static Error usage(std::string message) { return {Kind::kUsage, std::move(message)}; }
  static Error privilege(std::string message) { return {Kind::kPrivilege, std::move(message)}; }

  int exit_code() const { return static_cast<int>(kind); }

  /// The same error with the caller's context in front: "loading policy: no such file".
  Error in(const std::string& context) const { return {kind, context + ": " + message}; }
};

struct Unit {};

/// A value or an Error. Ours is an alias-sized stand-in for C++23's std::expected and can be
/// replaced by it. REQUIRES ok() before value(), !ok() before error().
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : state_(std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : state_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return std::holds_alternative<T>(state_); }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<T>(state_); }
  const T& value() const& { return std::get<T>(state_); }
  T&& value() && { return std::get<T>(std::move(state_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const { return std::get<Error>(state_); }

 private:
  std::variant<T, Error> state_;
};

/// Result of work that returns nothing: `return ok();` or `return Error::failed("...")`.
using Status = Result<Unit>;
inline Status ok() {
  return Unit{};
}

}  // namespace ballast
