// SPDX-License-Identifier: Apache-2.0
#include "agent/guard/callers_watch.h"

#include <algorithm>
#include <cmath>

namespace ballast::guard {

namespace {

constexpr double kLeastCalm = 0.2;  // of a calm that has to have been seen: 2.7 s
constexpr double kLeastSeen = 20;   // answers, within the memory
constexpr double kSigmas = 3;

double usable(double rate) {
  return std::isfinite(rate) ? std::max(rate, 0.0) : 0;
}

}  // namespace

void CallersWatch::Means::learn(double answered, double had, double alpha) {
  answers += alpha * (answered - answers);
  seen += alpha * (had - seen);
  known += alpha * (1 - known);
}

void CallersWatch::learn(double answers, double seen, double elapsed_s, bool calm) {
  answers = usable(answers);
  seen = std::min(usable(seen), answers);
  now_.learn(answers, seen, 1 - std::exp(-elapsed_s / memory_s_));
  if (calm) {
    calm_.learn(answers, seen, 1 - std::exp(-elapsed_s / kCalmS));
    grown_ = 1;
  } else if (calm_.seen > 0) {
    grown_ = std::max(grown_, now_.seen / now_.known / (calm_.seen / calm_.known));
  }
}

std::optional<double> CallersWatch::fell() const {
  if (calm_.known < kLeastCalm || calm_.seen * memory_s_ < kLeastSeen * calm_.known ||
      now_.answers * memory_s_ < kLeastSeen * now_.known) {
    return std::nullopt;
  }
  const double before = calm_.seen / calm_.answers;
  const double part = std::max(now_.seen, now_.known / memory_s_) / now_.answers;  // one answer at least
  return std::max(before / part, 1.0);
}

double CallersWatch::over(double peers_fell) const {
  const double unseen = (calm_.answers - calm_.seen) / calm_.known;
  const double seen = now_.seen / now_.known;
  const double explained = seen + unseen * grown_;
  const double counted = now_.answers / now_.known;
  return std::max(1.0,
                  std::min(fell().value_or(1) / peers_fell, counted / std::max(explained, 1 / memory_s_)));
}

double CallersWatch::chance() const {
  const double due = now_.answers / now_.known * calm_.seen / calm_.answers;
  return kSigmas / std::sqrt(std::max(due * memory_s_, 1.0));
}

}  // namespace ballast::guard
