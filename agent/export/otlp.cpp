// SPDX-License-Identifier: Apache-2.0
#include "agent/export/otlp.h"

#include <algorithm>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "agent/export/otlp_post.h"

namespace ballast::telemetry {

struct OtlpExporter::State {
  void run();
  OtlpAnswer post(const std::vector<ExportSpan>& batch);

  OtlpOptions options;
  std::string url;
  std::string complaint;
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<ExportSpan> queue;
  OtlpCounts counts;
  bool stop = false;
  std::thread thread;
};

OtlpAnswer OtlpExporter::State::post(const std::vector<ExportSpan>& batch) {
  return otlp_post(url, otlp_json(batch), options.timeout, "spans", complaint);
}

void OtlpExporter::State::run() {
  std::vector<ExportSpan> batch;
  while (true) {
    bool last = false;
    {
      std::unique_lock lock(mutex);
      changed.wait(lock, [&] { return stop || !queue.empty() || !batch.empty(); });
      last = stop;
      const std::size_t room = options.batch - std::min(options.batch, batch.size());
      const auto end = queue.begin() + static_cast<std::ptrdiff_t>(std::min(queue.size(), room));
      batch.insert(batch.end(), std::make_move_iterator(queue.begin()), std::make_move_iterator(end));
      queue.erase(queue.begin(), end);
      counts.waiting = queue.size() + batch.size();
    }
    if (batch.empty()) {
      return;  // only when it is to stop
    }
    const OtlpAnswer answer = post(batch);
    std::unique_lock lock(mutex);
    counts.failures += answer == OtlpAnswer::kTaken ? 0 : 1;
    if (answer == OtlpAnswer::kTryAgain && !last) {
      changed.wait_for(lock, options.retry, [&] { return stop; });
      continue;
    }
    (answer == OtlpAnswer::kTaken ? counts.exported : counts.dropped) += batch.size();
    batch.clear();
    counts.waiting = queue.size();
    if (last && answer != OtlpAnswer::kTaken) {
      counts.dropped += queue.size();
      return;
    }
  }
}

OtlpExporter::OtlpExporter(std::unique_ptr<State> state) : state_(std::move(state)) {
  state_->thread = std::thread([this] { state_->run(); });
}

OtlpExporter::~OtlpExporter() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->changed.notify_all();
  state_->thread.join();
}

Result<std::unique_ptr<OtlpExporter>> OtlpExporter::start(const OtlpOptions& options) {
  auto url = otlp_url(options.endpoint, "/v1/traces");
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
  state_->changed.notify_all();
}

OtlpCounts OtlpExporter::counts() const {
  const std::lock_guard lock(state_->mutex);
  return state_->counts;
}

}  // namespace ballast::telemetry
