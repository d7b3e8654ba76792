// SPDX-License-Identifier: Apache-2.0
#include "model/cluster/leadership.h"

#include <spdlog/spdlog.h>

namespace ballast::cluster {

Leadership::Leadership(kube::Client& client, kube::LeaseOptions options)
    : client_(client),
      lease_(client, options),
      interval_(std::chrono::seconds(options.duration_s) / 5),
      thread_([this](const std::stop_token& stop) { run(stop); }) {}

Leadership::~Leadership() {
  thread_.request_stop();
  thread_.join();
  valid_until_ = 0;
  if (auto gone = lease_.give_up(); !gone) {
    spdlog::warn("Lease not given up, it lapses error=\"{}\"", gone.error().message);
  }
}

void Leadership::run(const std::stop_token& stop) {
  std::string holder;
  auto next = std::chrono::steady_clock::now();
  while (!stop.stop_requested()) {
    if (std::chrono::steady_clock::now() < next) {
      if (!client_.sleep(std::chrono::milliseconds(50))) {
        return;
      }
      continue;
    }
    next = std::chrono::steady_clock::now() + interval_;
    const auto view = lease_.step(SystemClock().now(), true);
    valid_until_ = lease_.valid_until();
    if (view && view->took) {
      spdlog::info("leading: the Lease is ours");
    } else if (view && !view->leading && view->holder != holder) {
      spdlog::info("following: another ballast-global leads holder={}", view->holder);
    }
    holder = view ? view->holder : holder;
  }
}

}  // namespace ballast::cluster
