// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <initializer_list>
#include <map>
#include <memory>
#include <mutex>
#include <utility>

namespace ballast {

/// A value that many have, such as the labels of a Service's pods: those that are equal are one in memory.
/// For containers, whose empty ones take none. Thread-safe as a `const T` is.
template <typename T>
class Shared {
 public:
  Shared() = default;
  Shared(T value) : value_(value.empty() ? nullptr : one_of(std::move(value))) {}
  Shared(std::initializer_list<typename T::value_type> list) : Shared(T(list)) {}

  const T& operator*() const {
    static const T none;
    return value_ == nullptr ? none : *value_;
  }
  const T* operator->() const { return &**this; }
  operator const T&() const { return **this; }
  bool operator==(const Shared& other) const { return value_ == other.value_; }

 private:
  struct Less {
    bool operator()(const T* a, const T* b) const { return *a < *b; }
  };
  struct Pool {
    std::mutex mutex;
    std::map<const T*, std::weak_ptr<const T>, Less> all;
  };
  /// Outlives whatever is static.
  static Pool& pool() {
    static auto& pool = *new Pool;
    return pool;
  }
  static std::shared_ptr<const T> one_of(T value) {
    const std::lock_guard lock(pool().mutex);
    auto& all = pool().all;
    if (const auto found = all.find(&value); found != all.end()) {
      if (auto alive = found->second.lock()) {
        return alive;
      }
      all.erase(found);  // its end waits for the lock
    }
    std::shared_ptr<const T> made(new T(std::move(value)), [](const T* gone) {
      {
        const std::lock_guard end(pool().mutex);
        if (const auto found = pool().all.find(gone); found != pool().all.end() && found->first == gone) {
          pool().all.erase(found);
        }
      }
      delete gone;
    });
    all[made.get()] = made;
    return made;
  }

  std::shared_ptr<const T> value_;
};

}  // namespace ballast
