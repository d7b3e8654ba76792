// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <termios.h>

#include <chrono>
#include <cstddef>
#include <string>

#include "core/base/result.h"
#include "core/base/unique_fd.h"

namespace ballast::ctl {

/// A terminal taken over for a live table: alternate screen, no cursor, keys without Enter. It is
/// given back when the object goes, whatever ended the program short of SIGKILL.
class Screen {
 public:
  enum class Event { kTimeout, kQuit, kResized };

  /// Error: kFailed when stdin or stdout is no terminal.
  static Result<Screen> open();
  Screen(Screen&& other) noexcept;
  Screen& operator=(Screen&&) = delete;
  Screen(const Screen&) = delete;
  Screen& operator=(const Screen&) = delete;
  ~Screen();

  std::size_t width() const;
  /// Draws from the top left; lines beyond the last of the screen are cut.
  void draw(const std::string& text) const;
  /// Waits for a key, a signal or the time, whichever is first. q, Ctrl-C and signals that end a
  /// program are kQuit.
  Event wait(std::chrono::milliseconds timeout) const;

 private:
  Screen(termios before, UniqueFd signals) : before_(before), signals_(std::move(signals)) {}
  termios before_{};
  UniqueFd signals_;
  bool owns_ = true;
};

}  // namespace ballast::ctl
