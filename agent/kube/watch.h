// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <mutex>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/kube/client.h"
#include "core/base/clock.h"

namespace ballast::kube {

struct WatchOptions {
  std::string path;            ///< of the collection: /api/v1/pods
  std::string query;           ///< selectors, percent-encoded: fieldSelector=spec.nodeName%3Dn1
  bool metadata_only = false;  ///< PartialObjectMetadata: labels and names, nothing else
  /// A kind that need not be installed: then there is nothing of it, and it is asked for again now and then.
  bool optional = false;
  /// What changes from now on alone: what is there already is neither read nor kept, whatever its number.
  bool changes_only = false;
  bool prompt = false;  ///< what it tells others wait for: ask_for_short_slices()
  int page = 500;       ///< objects a page of the list
  /// The server ends each watch after so long, and it is resumed; shorter than the silence after which the
  /// client takes a connection for dead.
  std::chrono::seconds length{120};
  /// A stream without a byte for so long is dead. The server sends a bookmark two seconds before the end of
  /// each watch, so that a short watch is never silent for long.
  std::chrono::seconds silence{150};
  std::chrono::milliseconds backoff_least{200};
  std::chrono::milliseconds backoff_most{10'000};
};

/// What a watch tells; from the watch's own thread, one call at a time.
struct WatchHandler {
  std::function<void(const Json& object)> changed;      ///< added or modified; also for each of a list
  std::function<void(const std::string& key)> deleted;  ///< NAMESPACE/NAME
  std::function<void()> settled;                        ///< all that is known has been told for now
};

/// NAMESPACE/NAME of an object; /NAME without a namespace.
std::string key_of(const Json& object);

/// Keeps a reader up to date with one collection: lists it in pages, then watches from the list's
/// version on, resumes where a stream broke off, takes bookmarks, and lists again when the server has
/// forgotten the version (410) or refuses it again and again, the stream is garbage, or it went silent. After
/// a new list `deleted` tells what is not there any more. While the server is away the reader keeps what it
/// had.
class Watch {
 public:
  /// Starts the thread. `client` must outlive this.
  Watch(Client& client, WatchOptions options, WatchHandler handler);
  ~Watch();  ///< ends the thread; stop the client first, or this waits for the next line
  Watch(const Watch&) = delete;
  Watch& operator=(const Watch&) = delete;

  /// It tells nothing more once what it reads has ended, of itself or by its silence; ended() then.
  void end() { stopped_ = true; }
  bool ended() const { return ended_; }
  bool synced() const { return synced_; }
  /// Empty while all is well; else the reason why what is known may be old.
  std::string trouble() const;
  /// When the server last told something of this collection, if only that there is nothing new; 0: never.
  MonotonicNs heard() const { return heard_; }
  std::uint64_t lists() const { return lists_; }
  std::uint64_t resumes() const { return resumes_; }

 private:
  enum class End { kResume, kRelist };
  void run();
  bool list();
  End watch();
  bool line(std::string_view text, End& end);
  void note(const std::string& trouble);

  Client& client_;
  const WatchOptions options_;
  const WatchHandler handler_;
  std::atomic<bool> stopped_{false};
  std::atomic<bool> ended_{false};
  std::atomic<bool> synced_{false};
  std::atomic<MonotonicNs> heard_{0};
  std::atomic<std::uint64_t> lists_{0};
  std::atomic<std::uint64_t> resumes_{0};
  std::string version_;
  std::set<std::string> known_;  ///< empty with changes_only
  int refusals_ = 0;             ///< watches in a row that the server answered with an error
  bool advanced_ = false;        ///< something has come since the watch began
  mutable std::mutex mutex_;
  std::string trouble_;
  std::thread thread_;
};

}  // namespace ballast::kube
