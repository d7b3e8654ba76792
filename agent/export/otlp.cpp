// SPDX-License-Identifier: Apache-2.0
#include "agent/export/otlp.h"

#include <algorithm>
#include <deque>
#include <iterator>
#include <mutex>
#include <optional>

#include "core/metrics/otlp_post.h"

namespace ballast::telemetry {

namespace {
constexpr std::chrono::milliseconds kUntilWoken = std::chrono::hours(1);
}

struct OtlpExporter::State {
  /// Sends batches until nothing waits, or until one has to be tried again: then after how long.
  std::chrono::milliseconds send(bool last);
  bool fill_batch();

  OtlpOptions options;
  std::string url;
  std::string complaint;
  std::vector<ExportSpan> batch;
  std::chrono::steady_clock::time_point not_before;
  std::mutex mutex;  ///< of what is below
  std::deque<ExportSpan> queue;
  OtlpCounts counts;
  std::optional<metrics::OtlpSender> sender;  ///< goes first
};

bool OtlpExporter::State::fill_batch() {
  const std::lock_guard lock(mutex);
  const std::size_t room = options.batch - std::min(options.batch, batch.size());
  const auto end = queue.begin() + static_cast<std::ptrdiff_t>(std::min(queue.size(), room));
  batch.insert(batch.end(), std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
  queue.erase(queue.begin(), end);
  return !batch.empty();
}

std::chrono::milliseconds OtlpExporter::State::send(bool last) {
  const auto now = std::chrono::steady_clock::now();
  if (!last && now < not_before) {  // spans that came meanwhile do not hurry it
    return std::chrono::ceil<std::chrono::milliseconds>(not_before - now);
  }
  while (fill_batch()) {
    const metrics::OtlpAnswer answer =
        metrics::otlp_post(url, otlp_json(batch), options.timeout, "spans", complaint);
    const std::lock_guard lock(mutex);
    counts.failures += answer == metrics::OtlpAnswer::kTaken ? 0 : 1;
    if (answer == metrics::OtlpAnswer::kTryAgain && !last) {
      not_before = std::chrono::steady_clock::now() + options.retry;
      return options.retry;
    }
    (answer == metrics::OtlpAnswer::kTaken ? counts.exported : counts.dropped) += batch.size();
    batch.clear();
    if (last && answer != metrics::OtlpAnswer::kTaken) {
      counts.dropped += queue.size();
      queue.clear();
    }
    counts.waiting = queue.size();
  }
  return kUntilWoken;
}

OtlpExporter::OtlpExporter(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->sender.emplace([state = state_.get()](bool last) { return state->send(last); });
}

OtlpExporter::~OtlpExporter() = default;

Result<std::unique_ptr<OtlpExporter>> OtlpExporter::start(const OtlpOptions& options) {
  auto url = metrics::otlp_url(options.endpoint, "/v1/traces");
  if (!url) {
    return url.error();
  }
  auto state = std::make_unique<State>();
  state->options = options;
  state->url = std::move(*url);
  return std::unique_ptr<OtlpExporter>(new OtlpExporter(std::move(state)));
}

void OtlpExporter::offer(std::vector<ExportSpan> spans) {
  {
    const std::lock_guard lock(state_->mutex);
    for (ExportSpan& span : spans) {
      if (state_->counts.waiting >= state_->options.queue) {
        ++state_->counts.dropped;
        continue;
      }
      state_->queue.push_back(std::move(span));
      ++state_->counts.waiting;
    }
  }
  state_->sender->wake();
}

OtlpCounts OtlpExporter::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

}  // namespace ballast::telemetry
