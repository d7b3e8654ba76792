// SPDX-License-Identifier: Apache-2.0
//
// What ballastd refuses before it touches the kernel. Needs no privilege.
#include "daemon.h"
#include "model/policy/parameters.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;

class Refused : public DaemonTest {
 protected:
  /// Runs ballastd with these flags and expects exit 2, all of `says` in the message, and that
  /// nothing was loaded.
  void refused(std::vector<std::string> flags, const std::vector<std::string>& says) {
    flags.insert(flags.begin(), {ballastd(), "--bpffs", bpffs_});
    const Ended ended = run(flags);
    EXPECT_EQ(ended.code, 2) << ended.output;
    for (const std::string& part : says) {
      EXPECT_THAT(ended.output, HasSubstr(part));
    }
    EXPECT_FALSE(fs::exists(bpffs_)) << "the kernel was touched";
  }
  void parameters_refused(const std::string& bytes, const std::string& says) {
    const fs::path file = write("parameters", bytes);
    refused({"--policy", "learned", "--parameters", file.string()}, {file.string(), says});
  }
};

TEST_F(Refused, AnUnknownKeyWithFileLineAndKey) {
  const fs::path file = write("c.yaml", "mode: off\nguard:\n  celing: 4\n");
  refused({"--config", file.string()}, {file.string() + ":3: guard.celing: unknown key"});
}

TEST_F(Refused, AWrongType) {
  const fs::path file = write("c.yaml", "tick_ms: fast\n");
  refused({"--config", file.string()}, {file.string() + ":1: tick_ms: "});
}

TEST_F(Refused, AWeightRangeInsideOut) {
  const fs::path file = write("c.yaml", "guard:\n  floor: 3\n  cap: 2\n");
  refused({"--config", file.string()},
          {file.string() + ":2: guard.floor: ", "out of range; give 0.001 to 1"});
}

TEST_F(Refused, AMissingFile) {
  refused({"--config", "/nowhere/c.yaml"}, {"/nowhere/c.yaml"});
}

TEST_F(Refused, AnUnknownFlag) {
  refused({"--wat"}, {"--wat"});
}

TEST_F(Refused, WhatIsNotBuiltYet) {
  refused({"--sink", "istio"},
          {"--sink: istio weighs the endpoints of Kubernetes Services", "identity: kubernetes"});
  refused({"--identity", "kubernetes", "--check-config"},
          {"identity: not in a cluster", "kubernetes.server"});
}

TEST_F(Refused, ABadIdentityFile) {
  const fs::path file = write("pods.yaml", "pods:\n- {cgroup: /a, pod: x, namespace: n, colour: red}\n");
  refused({"--identity", "static:" + file.string()}, {file.string() + ":2", "colour"});
}

TEST_F(Refused, ParametersThatAreNotWhole) {
  const std::string good = policy::serialize(policy::initial(1));
  parameters_refused(good.substr(0, good.size() / 2), "");
  parameters_refused("", "");
  std::string flipped = good;
  flipped[good.size() / 2] = static_cast<char>(flipped[good.size() / 2] ^ 0x10);
  parameters_refused(flipped, "checksum");
  std::string shape = good;
  shape[20] = static_cast<char>(shape[20] + 1);  // spec::kHidden
  parameters_refused(shape, "");
  parameters_refused("not parameters at all, but long enough to hold a header of its own kind", "");
}

TEST_F(Refused, CheckConfigPrintsWhatHoldsAndRefusesTheSame) {
  const fs::path file = write("c.yaml", "tick_ms: 500\n");
  const Ended good = run({ballastd(), "--config", file.string(), "--mode", "shadow", "--check-config"});
  EXPECT_EQ(good.code, 0) << good.output;
  EXPECT_THAT(good.output, HasSubstr("tick_ms: 500"));
  EXPECT_THAT(good.output, HasSubstr("mode: shadow"));
  const fs::path again = write("again.yaml", good.output);
  EXPECT_EQ(run({ballastd(), "--config", again.string(), "--check-config"}).output, good.output);
  refused({"--check-config", "--tick-ms", "1"}, {"--tick-ms: "});
  const fs::path bad = write("bad", "x");
  refused({"--check-config", "--policy", "learned", "--parameters", bad.string()}, {bad.string()});
}

TEST_F(Refused, CtlWithoutAFolderSaysWhatToDo) {
  const std::string ctl = (bin_ / "ballastctl").string();
  const Ended none = run({ctl, "--bpffs", bpffs_, "requests"});
  EXPECT_EQ(none.code, 1) << none.output;
  EXPECT_THAT(none.output, HasSubstr("start ballastd"));
  const Ended unknown = run({ctl, "nonsense"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.output, HasSubstr("known: status, requests"));
  EXPECT_EQ(run({ctl, "loss", "-o", "xml"}).code, 2);
  EXPECT_EQ(run({ctl, "explain"}).code, 2);
}

}  // namespace
}  // namespace ballast
