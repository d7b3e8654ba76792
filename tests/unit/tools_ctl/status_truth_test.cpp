// SPDX-License-Identifier: Apache-2.0
//
// The way of a sample that cannot be, from the loop to `ballastctl status`.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/loop/loop.h"
#include "pinned_folder.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using ::testing::HasSubstr;

constexpr MonotonicNs kTick = 250'000'000;

struct OnePod final : identity::IdentitySource {
  const std::vector<identity::Pod>& pods() override { return all; }
  std::vector<identity::Pod> all{{.cgroup_id = 10,
                                  .cgroup = "/lab/web-0",
                                  .pod = "web-0",
                                  .ns = "shop",
                                  .service = "web",
                                  .address = "127.1.0.10",
                                  .port = 8080}};
};

struct Nowhere final : actuate::WeightSink {
  std::string name() const override { return "nowhere"; }
  Status publish(const guard::GuardedWeights&) override { return ok(); }
  Status withdraw(const spec::ServiceId&) override { return ok(); }
};

TEST(StatusTruth, NamesThePodWhoseTelemetryCannotBeUntilAMinuteAfter) {
  std::string reason;
  const auto folder = PinnedFolder::create(reason);
  if (folder == nullptr) {
    GTEST_SKIP() << reason;
  }
  loop::LoopOptions options;
  options.observer.machine_cores = 2;
  loop::LoopDoors doors;
  doors.identity = std::make_unique<OnePod>();
  doors.sink = std::make_unique<Nowhere>();
  doors.state.emplace(std::move(telemetry::StateWriter::create(folder->maps())).value());
  loop::Loop loop(options,
                  std::move(loop::ActingPolicy::create(loop::PolicyKind::kPrior, {}, std::nullopt)).value(),
                  std::move(doors));
  MonotonicNs now = 1'000'000'000;
  const auto tick = [&](std::uint64_t on_cpu_ns) {
    sample::Sample sample;
    sample.taken = now += kTick;
    sample.interval_ns = kTick;
    sample::CgroupSample c;
    c.id = 10;
    c.cpu_limit_cores = 1;
    c.requests = c.responses = 10;
    c.on_cpu_ns = on_cpu_ns;
    sample.cgroups.push_back(c);
    loop.tick(sample);
  };
  const auto said = [&] {
    auto view = open_view(folder->path());
    const auto report = view ? status(*view, "") : Result<Report>(view.error());
    return report ? report->json.dump() : report.error().message;
  };
  tick(20'000'000);
  EXPECT_THAT(said(), Not(HasSubstr("not believed")));
  tick(60'000'000'000);  // a minute of CPU in a quarter of a second, on two CPUs
  EXPECT_THAT(said(), HasSubstr("telemetry not believed: shop/web-0: more CPU time than the machine has "
                                "(1 samples so far)"));
  now += 30'000'000'000;
  tick(20'000'000);
  EXPECT_THAT(said(), HasSubstr("not believed")) << "who looks now has to see it";
  now += 40'000'000'000;
  tick(20'000'000);
  EXPECT_THAT(said(), Not(HasSubstr("not believed")));
}

}  // namespace
}  // namespace ballast::ctl
