// SPDX-License-Identifier: Apache-2.0
//
// The demo's unequal pods through istiod: Ballast against plain Istio, which balances by LEAST_REQUEST, in
// interleaved arms. tools/demo.sh --istio is this test, made to be watched.
#include <fmt/format.h>

#include "tools/lab/kernel_view.h"
#include "tools/lab/live.h"
#include "whole_test.h"

namespace ballast::mesh {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using std::chrono::steady_clock;

constexpr double kQuotas[] = {0.40, 0.20, 0.10, 0.10};
constexpr double kLoad = 0.70;
constexpr double kMeanMs = 2;
constexpr double kWarmupS = 8;

class UnequalTest : public WholeTest {
 protected:
  struct Shown {
    double requests = 0;
    double cpu_s = 0;
    double at_s = 0;
  };
  struct Arm {
    double p50_ms = 0;
    double p99_ms = 0;
    std::uint64_t requests = 0;
    std::uint64_t failed = 0;
  };

  /// One arm: warm-up, then `measured_s` seconds that count. The same arrivals for the same seed.
  Arm run(bool ballast, double measured_s, std::uint64_t seed) {
    const double rate = kLoad * (0.40 + 0.20 + 0.10 + 0.10) / (kMeanMs * 1e-3);
    if (ballast) {
      const char* policy = std::getenv("BALLAST_MESH_POLICY");
      agent_ = start_agent({.policy = policy != nullptr ? policy : ""});
      EXPECT_NE(agent_, nullptr);
    }
    shown_.clear();
    load_ = Load::start(rate, kWarmupS + measured_s, kMeanMs, seed, gateway_ != nullptr ? kGatewayPort : 80);
    const auto begun = steady_clock::now();
    while (seconds_since(begun) < kWarmupS + measured_s) {
      std::this_thread::sleep_for(milliseconds(1000));
      show(ballast, seconds_since(begun));
    }
    if (ballast) {
      EXPECT_TRUE(weighted()) << agent_->log();
      for (std::size_t i = 0; i < node_->pods().size(); ++i) {
        shares_[i] = share(node_->pods()[i]);
      }
    }
    const auto outcome = load_->wait(kWarmupS);
    live_.settle();
    agent_.reset();  // hands back
    EXPECT_TRUE(eventually([&] { return plain(); }));
    return {quantile(outcome.latencies_ms, 0.5), quantile(outcome.latencies_ms, 0.99), outcome.requests,
            outcome.failed};
  }

  void show(bool ballast, double now_s) {
    if (live_.mode() == lab::LiveTable::Mode::kOff) {
      return;
    }
    const bool due = live_.mode() == lab::LiveTable::Mode::kRedraw || static_cast<int>(now_s) % 5 == 0;
    const std::string& host = kWeb;
    const auto requests = proxy_->requests(host);
    const auto weights = proxy_->weights(host);
    std::map<std::string, std::string> cgroups;
    for (const auto& pod : node_->pods()) {
      cgroups[pod] = node_->cgroup(pod);
    }
    std::map<std::string, lab::KernelPod> seen;
    if (due && ballast && agent_ != nullptr) {
      seen = kernel(*agent_).read(cgroups);
    }
    std::vector<lab::LiveRow> rows;
    for (std::size_t i = 0; i < node_->pods().size(); ++i) {
      const std::string pod = node_->pods()[i];
      const std::string address = node_->address(pod);
      lab::LiveRow row;
      row.service = "shop/web";
      row.pod = pod;
      row.quota = kQuotas[i];
      const auto total = requests.find(address);
      const double count = total == requests.end() ? 0 : static_cast<double>(total->second);
      // Envoy counts for each host apart. The first look in an arm is what the rates begin at.
      const Shown now{count, node_->cpu_seconds(pod), now_s};
      const Shown before = shown_.try_emplace({host, pod}, now).first->second;
      const double elapsed_s = std::max(0.1, now.at_s - before.at_s);
      row.rps = (now.requests - before.requests) / elapsed_s;
      row.cpu_cores = (now.cpu_s - before.cpu_s) / elapsed_s;
      if (due) {
        shown_[{host, pod}] = now;
      }
      const auto weight = weights.find(address);
      row.weight = weight == weights.end() ? 0 : static_cast<int>(weight->second);
      if (const auto found = seen.find(pod); found != seen.end()) {
        row.p50_ms = found->second.p50_ms;
        row.p99_ms = found->second.p99_ms;
        row.in_flight = found->second.in_flight;
        row.why = found->second.why;
      }
      rows.push_back(row);
    }
    if (!due) {
      return;
    }
    const auto all = load_->snapshot();
    live_.show(
        fmt::format("{} through istiod, {:.0f} s: {} requests, {} failed, p50 {:.1f} ms, p99 {:.1f} ms",
                    ballast ? "Ballast" : "plain Istio (LEAST_REQUEST)", now_s, all.done, all.errors,
                    all.p50_ms, all.p99_ms),
        rows);
  }
  lab::KernelView& kernel(Agent& agent) {
    if (view_of_ != agent.bpffs()) {
      view_of_ = agent.bpffs();
      view_ = std::make_unique<lab::KernelView>(view_of_, lab::detect_cgroup_layout()->v2);
    }
    return *view_;
  }

  lab::LiveTable live_{lab::LiveTable::pick(asked("BALLAST_MESH_LIVE", 0) != 0)};
  std::map<std::pair<std::string, std::string>, Shown> shown_;  ///< by host and pod
  std::map<std::size_t, double> shares_;
  fs::path view_of_;
  std::unique_ptr<lab::KernelView> view_;
};

// BALLAST_MESH_GATEWAY: at an ingress gateway in the place of the sidecar.
TEST_F(UnequalTest, AgainstPlainIstioInInterleavedArms) {
  const double measured_s = asked("BALLAST_MESH_SECONDS", 6);
  const int pairs = asked("BALLAST_MESH_PAIRS", 1);
  if (const auto why = too_busy()) {
    GTEST_SKIP() << "*** SKIPPED, " << *why;
  }
  node_->add_service("web", "active");
  for (const double cpus : kQuotas) {
    node_->add_pod("web", {.cpus = cpus});
  }
  ASSERT_TRUE(eventually([&] { return proxy_->get(kWeb) == 200; }));
  if (std::getenv("BALLAST_MESH_GATEWAY") != nullptr) {
    ASSERT_NO_FATAL_FAILURE(start_gateway());
  }
  std::vector<double> ratios;
  std::uint64_t failed = 0;
  std::uint64_t plain_failed = 0;
  for (int pair = 0; pair < pairs; ++pair) {
    Arm arms[2];
    for (int i = 0; i < 2; ++i) {
      const bool ballast = (pair % 2 == 0) == (i == 1);
      arms[ballast ? 1 : 0] = run(ballast, measured_s, static_cast<std::uint64_t>(pair) + 1);
    }
    const auto& [plain, weighted] = arms;
    std::printf(
        "plain Istio: p50 %.1f ms, p99 %.1f ms, %lu of %lu failed; Ballast: p50 %.1f ms, p99 %.1f ms, "
        "%lu of %lu failed; p99 %.3f\n",
        plain.p50_ms, plain.p99_ms, plain.failed, plain.requests, weighted.p50_ms, weighted.p99_ms,
        weighted.failed, weighted.requests, weighted.p99_ms / plain.p99_ms);
    ratios.push_back(weighted.p99_ms / plain.p99_ms);
    failed += weighted.failed;
    plain_failed += plain.failed;
  }
  if (plain_failed > 0) {
    GTEST_SKIP() << "*** SKIPPED, the machine is too busy to compare on: plain Istio lost " << plain_failed
                 << " requests, at 70 % of what its pods can carry";
  }
  std::printf(
      "unequal pods through istiod at %.0f %% load: p99 of Ballast over plain Istio, median of %d pairs "
      "of %.0f s: %.2f\n",
      100 * kLoad, pairs, measured_s, quantile(ratios, 0.5));
  figure("unequal_p99_ratio", quantile(ratios, 0.5));
  for (std::size_t i = 0; i < ratios.size(); ++i) {
    figure("unequal_p99_ratio_" + std::to_string(i + 1), ratios[i]);
  }
  if (pairs >= 5) {
    EXPECT_LE(quantile(ratios, 0.5), 0.40) << "of plain Istio's p99";
  }
  EXPECT_EQ(failed, 0U);
  EXPECT_GT(shares_[0], shares_[1]);
  EXPECT_GT(shares_[1], shares_[2]);
  EXPECT_GT(shares_[1], shares_[3]);
}

}  // namespace
}  // namespace ballast::mesh
