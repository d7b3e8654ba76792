// SPDX-License-Identifier: Apache-2.0
// Every way in which kubelets and runtimes lay out cgroups, from the path to the pod's entry. The fixture
// (tests/fixtures/identity) has paths as they are found; here all combinations are built by the rules.
#include <gtest/gtest.h>
#include <sys/stat.h>

#include <algorithm>
#include <filesystem>
#include <string>
#include <tuple>
#include <vector>

#include "agent/identity/cgroup_path.h"
#include "agent/identity/cgroup_path_source.h"
#include "agent/identity/kubernetes_source.h"
#include "core/base/file.h"

namespace ballast::identity {
namespace {

namespace fs = std::filesystem;

const std::string kUid = "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9";
const std::string kStaticUid = "00112233445566778899aabbccddeeff";
const std::string kFirst(64, 'a');
const std::string kSecond(64, 'b');

struct Layout {
  Runtime runtime;
  CgroupDriver driver;
  QosClass qos;
  bool kind;  ///< below a node container's cgroup and a "kubelet" slice or folder of its own
};

std::string class_name(QosClass qos) {
  return qos == QosClass::kBurstable ? "burstable" : qos == QosClass::kBestEffort ? "besteffort" : "";
}

std::string scope_prefix(Runtime runtime) {
  return runtime == Runtime::kContainerd ? "cri-containerd-"
         : runtime == Runtime::kCrio     ? "crio-"
                                         : "docker-";
}

// Slices are spelt with their whole ancestry, and with '_' for the '-' of the uid (systemd.slice(5)).
std::string systemd_path(const Layout& layout, std::string uid, const std::string& id) {
  std::replace(uid.begin(), uid.end(), '-', '_');
  std::string slice = layout.kind ? "kubelet-kubepods" : "kubepods";
  std::string path = layout.kind ? "/docker/" + std::string(64, 'f') + "/kubelet.slice" : "";
  path += "/" + slice + ".slice";
  if (const std::string qos = class_name(layout.qos); !qos.empty()) {
    slice += "-" + qos;
    path += "/" + slice + ".slice";
  }
  return path + "/" + slice + "-pod" + uid + ".slice/" + scope_prefix(layout.runtime) + id + ".scope";
}

std::string cgroupfs_path(const Layout& layout, const std::string& uid, const std::string& id) {
  const std::string qos = class_name(layout.qos);
  return (layout.kind ? "/docker/" + std::string(64, 'f') + "/kubelet" : std::string()) + "/kubepods/" +
         (qos.empty() ? "" : qos + "/") + "pod" + uid + "/" +
         (layout.runtime == Runtime::kCrio ? "crio-" : "") + id;
}

std::string path_of(const Layout& layout, const std::string& uid, const std::string& id) {
  return layout.driver == CgroupDriver::kSystemd ? systemd_path(layout, uid, id)
                                                 : cgroupfs_path(layout, uid, id);
}

class Layouts : public ::testing::TestWithParam<std::tuple<Runtime, CgroupDriver, QosClass, bool>> {
 protected:
  Layout layout() const {
    return {std::get<0>(GetParam()), std::get<1>(GetParam()), std::get<2>(GetParam()),
            std::get<3>(GetParam())};
  }
  // What the path alone can tell: with cgroupfs only CRI-O says its name.
  Runtime told() const {
    const bool silent = layout().driver == CgroupDriver::kCgroupfs && layout().runtime != Runtime::kCrio;
    return silent ? Runtime::kUnknown : layout().runtime;
  }
};

TEST_P(Layouts, ThePathTellsPodContainerAndClass) {
  for (const std::string& uid : {kUid, kStaticUid}) {
    const std::string path = path_of(layout(), uid, kFirst);
    // As a path of the unified tree, and as lines of /proc/PID/cgroup on v1, v2 and hybrid hosts.
    for (const std::string prefix : {"", "0::", "4:memory:", "7:cpu,cpuacct:", "1:name=systemd:"}) {
      const ContainerRef expected{uid, kFirst, told(), layout().qos, layout().driver, false};
      EXPECT_EQ(parse_cgroup_path(prefix + path), expected) << prefix + path;
      ContainerRef nested = expected;
      nested.nested = true;
      for (const char* below : {"/container", "/init.scope", "/system.slice/nginx.service"}) {
        EXPECT_EQ(parse_cgroup_path(prefix + path + below), nested) << prefix + path + below;
      }
    }
    EXPECT_FALSE(parse_cgroup_path(path.substr(0, path.rfind('/')))) << "the pod's own cgroup";
  }
}

TEST_P(Layouts, ARestartInPlaceIsFollowedInTheTree) {
  auto root = TempDir::create(fs::temp_directory_path(), "ballast-layout-");
  ASSERT_TRUE(root.ok());
  const auto make = [&](const std::string& id) {
    const fs::path folder = root->path().string() + path_of(layout(), kUid, id);
    fs::create_directories(folder / "container");  // as crun nests it
    struct stat info {};
    EXPECT_EQ(::stat(folder.c_str(), &info), 0);
    return std::pair<fs::path, std::uint64_t>(folder, info.st_ino);
  };
  const auto pod = [](const std::string& id) {
    return parse_pod(
        {{"metadata", {{"namespace", "shop"}, {"name", "web-0"}, {"uid", kUid}}},
         {"spec", {{"containers", {{{"name", "app"}}}}}},
         {"status", {{"containerStatuses", {{{"name", "app"}, {"containerID", "x://" + id}}}}}}});
  };
  ManualClock clock;
  CgroupPathSource source({.cgroup_root = root->path(), .refresh_ns = 1}, clock);
  const auto [first_folder, first] = make(kFirst);
  auto joined = join_pods({pod(kFirst)}, {}, source.pods());
  ASSERT_EQ(joined.size(), 1U);
  EXPECT_EQ(joined[0].cgroup_id, first);
  EXPECT_EQ(joined[0].cgroup, path_of(layout(), kUid, kFirst)) << "the container's own, not the one below";
  EXPECT_EQ(joined[0].container, "app");

  const auto [second_folder, second] = make(kSecond);
  fs::remove_all(first_folder);
  clock.advance(1);
  EXPECT_TRUE(join_pods({pod(kFirst)}, {}, source.pods()).empty()) << "the old one is gone";
  joined = join_pods({pod(kSecond)}, {}, source.pods());
  ASSERT_EQ(joined.size(), 1U);
  EXPECT_EQ(joined[0].cgroup_id, second);
  EXPECT_EQ(joined[0].pod, "web-0");
}

std::string layout_name(const ::testing::TestParamInfo<Layouts::ParamType>& info) {
  const auto [runtime, driver, qos, kind] = info.param;
  std::string name = std::string(runtime == Runtime::kCrio ? "crio" : runtime_name(runtime)) + "_" +
                     driver_name(driver) + "_" + qos_name(qos);
  return kind ? name + "_kind" : name;
}

INSTANTIATE_TEST_SUITE_P(
    All, Layouts,
    ::testing::Combine(::testing::Values(Runtime::kContainerd, Runtime::kCrio, Runtime::kDocker),
                       ::testing::Values(CgroupDriver::kCgroupfs, CgroupDriver::kSystemd),
                       ::testing::Values(QosClass::kGuaranteed, QosClass::kBurstable, QosClass::kBestEffort),
                       ::testing::Bool()),
    layout_name);

}  // namespace
}  // namespace ballast::identity
