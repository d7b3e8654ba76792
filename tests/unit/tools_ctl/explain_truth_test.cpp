// SPDX-License-Identifier: Apache-2.0
//
// `ballastctl explain` against the truth: proposals are driven through all of the guard's reasons, modes and
// roles, and what explain says of each endpoint is held against what the sink was given and what it did.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <set>

#include "agent/export/state_writer.h"
#include "agent/fleet/local.h"
#include "agent/guard/guard.h"
#include "agent/loop/handover.h"
#include "agent/turn/turn.h"
#include "pinned_folder.h"
#include "telemetry.h"
#include "tools/ctl/verbs.h"

namespace ballast::ctl {
namespace {

using guard::Outcome;
using ::testing::HasSubstr;

constexpr MonotonicNs kTick = 250'000'000;
const spec::ServiceId kWeb{"shop", "web"};

/// Proposes these log weights, or equal weights where there are none.
struct Scripted final : decide::Policy {
  std::string name() const override { return "scripted"; }
  decide::ServiceProposal decide(const spec::ServiceObservation& seen, const spec::LoopTiming&) override {
    decide::ServiceProposal p{.service = kWeb, .neutral = wanted.empty(), .why = "as the test says"};
    for (std::size_t i = 0; i < seen.endpoints.size(); ++i) {
      p.endpoints.push_back(
          {.id = seen.endpoints[i].telemetry.id, .log_prior = wanted.empty() ? 0 : std::log(wanted[i])});
    }
    return p;
  }
  std::vector<double> wanted;
};

/// A sink in a role, with the proxies behind it.
struct RoleSink final : actuate::WeightSink {
  std::string name() const override { return "role"; }
  Status publish(const guard::GuardedWeights& weights) override {
    if (role == Outcome::kRefused) {
      return Error::failed("admission webhook said no");
    }
    given = weights.endpoints();
    write();
    return ok();
  }
  Status withdraw(const spec::ServiceId&) override { return ok(); }
  guard::Answer answer(const spec::ServiceId&) const override {
    return {role, role == Outcome::kNotLeader  ? "node-1 leads"
                  : role == Outcome::kHeldBack ? "it waits"
                                               : ""};
  }
  guard::Word word(const spec::ServiceId&) const override { return said; }
  std::string leader() const override { return "node-1"; }
  /// What a sink of that role does with what it was given.
  void write() {
    for (const guard::WeightedEndpoint& e : given) {
      if (role == Outcome::kWritten || role == Outcome::kAcknowledged) {
        at_proxies[e.id.pod] = e.weight;
      }
    }
  }
  Outcome role = Outcome::kWritten;
  guard::Word said;
  std::vector<guard::WeightedEndpoint> given;
  std::map<std::string, std::uint32_t> at_proxies;
};

class ExplainTruth : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string reason;
    folder_ = PinnedFolder::create(reason);
    if (folder_ == nullptr) {
      GTEST_SKIP() << "needs CAP_BPF and CAP_SYS_ADMIN: " << reason;
    }
    state_.emplace(std::move(telemetry::StateWriter::create(folder_->maps())).value());
    begin({});
  }

  void begin(const guard::GuardOptions& options) {
    turn_.emplace(options);
    sink_ = {};
    handover_.emplace(sink_);
    mode_ = options.mode;
    p99_ns_ = 1e7;
    stale_ = {};
  }

  void tick(std::size_t times = 1) {
    for (std::size_t n = 0; n < times; ++n) {
      loop_.now += kTick;
      handover_->settle();
      std::vector<spec::EndpointTelemetry> own;
      const std::size_t pods = policy_.wanted.empty() ? 3 : policy_.wanted.size();
      for (std::size_t i = 0; i < pods; ++i) {
        spec::EndpointTelemetry& t = own.emplace_back();
        t.id = {kWeb, "web-" + std::to_string(i)};
        t.address = "127.1.0." + std::to_string(10 + i);
        t.port = 8080;
        t.known = true;
        t.taken = stale_.contains(i) ? loop_.now - 3'000'000'000 : loop_.now;
        t.qps = 50;
        t.p50_ns = p99_ns_ / 10;
        t.p99_ns = p99_ns_;
        t.latency = testing::latencies({p99_ns_});
        t.capacity_qps = 100;
      }
      write(turn_->decide(fleet_.exchange(turn_->report(std::move(own), loop_)), loop_, policy_,
                          [this](const spec::ServiceId& id) { return sink_.word(id); }));
    }
  }

  void write(std::vector<turn::Decision> decisions) {
    ASSERT_EQ(decisions.size(), 1U);
    last_status_ = handover_->take(decisions[0]);
    last_.emplace(decisions[0].weights);
    ASSERT_TRUE(
        state_->write_decisions(decisions, {.now = loop_.now, .mode = mode_, .policy = "scripted"}).ok());
  }

  /// What explain says is what was decided, handed over and done; `outcome` and `mode` are the truth by the
  /// set-up, and `names` are reasons that some endpoint at least must have.
  std::string expect_truth(Outcome outcome, guard::Mode mode, const std::set<std::string>& names) {
    auto view = open_view(folder_->path());
    EXPECT_TRUE(view.ok());
    const auto report = explain(*view, "web");
    EXPECT_TRUE(report.ok());
    std::set<std::string> said;
    const auto& decided = last_->endpoints();
    EXPECT_EQ(report->json.size(), decided.size());
    for (std::size_t i = 0; i < decided.size(); ++i) {
      const Json& row = report->json.at(i);
      EXPECT_EQ(row["pod"], decided[i].id.pod);
      EXPECT_EQ(row["weight"], decided[i].weight);
      EXPECT_EQ(row["in_force"], sink_.at_proxies[decided[i].id.pod]);
      EXPECT_EQ(row["outcome"], guard::to_string(outcome));
      EXPECT_EQ(row["mode"], mode == guard::Mode::kActive   ? "active"
                             : mode == guard::Mode::kShadow ? "shadow"
                                                            : "off");
      EXPECT_EQ(row["neutral"], last_->neutral());
      EXPECT_EQ(row["proposed_neutral"], policy_.wanted.empty());
      EXPECT_EQ(row["why"], last_->why().substr(0, 159));
      EXPECT_NEAR(row["proposed_share"].get<double>(), decided[i].proposed_share, 1e-6);
      EXPECT_NEAR(row["shadow_share"].get<double>(), decided[i].guarded_share, 1e-6);
      EXPECT_NEAR(row["blend"].get<double>(), last_->blend(), 1e-6);
      for (const auto& reason : row["guard"]) {
        said.insert(reason);
      }
    }
    EXPECT_EQ(said, names);
    if (outcome == Outcome::kWritten || outcome == Outcome::kAcknowledged) {
      // What the sink has is what was decided: nothing is told that it was not given.
      EXPECT_EQ(sink_.given.size(), decided.size());
      for (std::size_t i = 0; i < std::min(sink_.given.size(), decided.size()); ++i) {
        EXPECT_EQ(sink_.given[i].weight, decided[i].weight);
      }
    }
    return report->text;
  }

  std::unique_ptr<PinnedFolder> folder_;
  std::optional<telemetry::StateWriter> state_;
  fleet::LocalFleet fleet_;
  Scripted policy_;
  RoleSink sink_;
  std::optional<turn::Turn> turn_;
  std::optional<loop::Handover> handover_;
  std::optional<guard::GuardedWeights> last_;
  Status last_status_ = ok();
  spec::LoopTiming loop_{.now = 1'000'000'000'000, .subscribers = 3};
  guard::Mode mode_ = guard::Mode::kActive;
  double p99_ns_ = 1e7;
  std::set<std::size_t> stale_;
};

constexpr auto kActive = guard::Mode::kActive;
constexpr auto kShadow = guard::Mode::kShadow;
constexpr auto kOff = guard::Mode::kOff;

TEST_F(ExplainTruth, EveryReasonOfTheGuard) {
  tick();
  expect_truth(Outcome::kWritten, kActive, {"neutral"});

  policy_.wanted = {4, 2, 1};
  tick();
  expect_truth(Outcome::kWritten, kActive, {"step"});
  tick(20);
  EXPECT_THAT(expect_truth(Outcome::kWritten, kActive, {}), HasSubstr("it changed nothing"));

  policy_.wanted = {4.05, 2, 1};
  tick();
  expect_truth(Outcome::kWritten, kActive, {"deadband"});

  policy_.wanted = {1000, 1, 1, 1, 1, 1};
  tick(20);
  expect_truth(Outcome::kWritten, kActive, {"cap"});
  policy_.wanted = {1000, 1000, 1};
  tick(20);
  expect_truth(Outcome::kWritten, kActive, {"floor"});

  policy_.wanted = {4, 2, 1};
  tick(20);
  stale_ = {1};
  tick();
  expect_truth(Outcome::kWritten, kActive, {"stale"});
  stale_ = {};

  policy_.wanted = {std::numeric_limits<double>::quiet_NaN(), 2, 1};
  tick();
  expect_truth(Outcome::kWritten, kActive, {"garbage"});

  policy_.wanted = {4, 2, 1};
  sink_.said = {.released = true, .why = "ballastctl release"};
  tick();
  EXPECT_THAT(expect_truth(Outcome::kWritten, kActive, {"kill_switch"}), HasSubstr("ballastctl release"));
  sink_.said = {};

  begin({.blend = 0.5});
  tick(20);
  expect_truth(Outcome::kWritten, kActive, {"blend"});
}

TEST_F(ExplainTruth, ATrip) {
  policy_.wanted = {};
  tick(100);  // 25 s of its own reference
  policy_.wanted = {4, 2, 1};
  tick(20);
  p99_ns_ = 5e9;
  tick(120);
  const std::string text = expect_truth(Outcome::kWritten, kActive, {"tripped"});
  EXPECT_THAT(text, HasSubstr("tripped: p99 or errors were worse"));
  EXPECT_THAT(text, HasSubstr("it proposed 57.1 %")) << "and not the equal weights that the guard made of it";
}

TEST_F(ExplainTruth, EveryRole) {
  policy_.wanted = {4, 2, 1};
  tick(20);
  sink_.role = Outcome::kAcknowledged;
  tick();
  EXPECT_THAT(expect_truth(Outcome::kAcknowledged, kActive, {}),
              HasSubstr("every proxy that asked for it has acknowledged it"));

  // Held back: those of before stay in force, and it says so.
  sink_.role = Outcome::kHeldBack;
  policy_.wanted = {1, 2, 4};
  tick(20);
  std::string text = expect_truth(Outcome::kHeldBack, kActive, {});
  EXPECT_THAT(text, HasSubstr("web-0 at 127.1.0.10:8080 would have weight 429"));
  EXPECT_THAT(text, HasSubstr("but weight 1714 is in force"));
  EXPECT_THAT(text, HasSubstr("it is held back: it waits."));
  // Written between two ticks.
  sink_.role = Outcome::kWritten;
  sink_.write();
  tick();
  expect_truth(Outcome::kWritten, kActive, {});

  sink_.role = Outcome::kRefused;
  policy_.wanted = {1, 1, 4};
  tick(20);
  EXPECT_FALSE(last_status_.ok());
  EXPECT_THAT(expect_truth(Outcome::kRefused, kActive, {}), HasSubstr("refused: admission webhook said no."));
  sink_.role = Outcome::kWritten;
  tick();
  EXPECT_TRUE(last_status_.ok()) << "what was refused is tried again";
  expect_truth(Outcome::kWritten, kActive, {});
}

TEST_F(ExplainTruth, AStandbyDoesNotLookAsIfItPublished) {
  sink_.role = Outcome::kNotLeader;
  policy_.wanted = {4, 2, 1};
  tick(20);
  const std::string text = expect_truth(Outcome::kNotLeader, kActive, {});
  EXPECT_THAT(text, HasSubstr("no weight of ours is in force"));
  EXPECT_THAT(text, HasSubstr("it is not written here, for another process writes: node-1 leads."));
  // It becomes the leader, and then does not lead any more.
  sink_.role = Outcome::kWritten;
  sink_.write();
  tick();
  expect_truth(Outcome::kWritten, kActive, {});
}

TEST_F(ExplainTruth, ModesOfAllAndOfOneService) {
  struct Case {
    guard::Mode options;
    std::optional<guard::Mode> label;
    guard::Mode in_force;
    const char* why;
  };
  const Case cases[] = {
      {kOff, {}, kOff, "neutral: mode off"},
      {kShadow, {}, kShadow, "neutral: mode shadow, nothing is acted on"},
      {kActive, {}, kActive, "as the test says"},
      {kActive, kActive, kActive, "as the test says"},
      {kActive, kShadow, kShadow, "neutral: mode shadow, nothing is acted on (its label)"},
      {kActive, kOff, kOff, "neutral: mode off (its label)"},
      {kShadow, kActive, kShadow, "neutral: mode shadow, nothing is acted on"},
      {kShadow, kOff, kOff, "neutral: mode off (its label)"},
      {kOff, kActive, kOff, "neutral: mode off"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.why);
    begin({.mode = c.options});
    policy_.wanted = {4, 2, 1};
    sink_.said = {.mode = c.label, .why = "its label"};
    tick(20);
    const std::string text = expect_truth(Outcome::kWritten, c.in_force, {});
    EXPECT_EQ(last_->why(), c.why);
    EXPECT_EQ(last_->neutral(), c.in_force != kActive);
    EXPECT_EQ(text.find("it kept weights equal, as the mode says") != std::string::npos,
              c.in_force != kActive);
    EXPECT_EQ(text.find("active, it would go towards 57.1 %") != std::string::npos, c.in_force != kActive);
  }
}

TEST_F(ExplainTruth, ShutdownIsNotAnOperator) {
  for (const Outcome role : {Outcome::kWritten, Outcome::kNotLeader}) {
    begin({});
    sink_.role = role;
    policy_.wanted = {4, 2, 1};
    tick(20);
    policy_.wanted = {};  // no policy speaks at shutdown
    write(turn_->release());
    auto view = open_view(folder_->path());
    const auto report = explain(*view, "web");
    ASSERT_TRUE(report.ok());
    for (const Json& row : report->json) {
      EXPECT_EQ(row["guard"], (Json{"shutdown"}));
      EXPECT_EQ(row["weight"], guard::GuardedWeights::kWeightScale);
      EXPECT_EQ(row["in_force"], sink_.at_proxies[row["pod"].get<std::string>()]);
      EXPECT_EQ(row["in_force"], role == Outcome::kWritten ? guard::GuardedWeights::kWeightScale : 0);
      EXPECT_EQ(row["outcome"], guard::to_string(role));
      EXPECT_EQ(row["why"], "shutdown: equal weights");
    }
    EXPECT_THAT(report->text, HasSubstr("made them equal, because ballastd ended"));
    EXPECT_THAT(report->text, HasSubstr("it proposed 57.1 %"));
    EXPECT_EQ(report->text.find("operator"), std::string::npos);
  }
}

}  // namespace
}  // namespace ballast::ctl
