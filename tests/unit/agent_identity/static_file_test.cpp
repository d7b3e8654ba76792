// SPDX-License-Identifier: Apache-2.0
#include "agent/identity/static_file.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace ballast::identity {
namespace {

using ::testing::HasSubstr;
using ::testing::StartsWith;

TEST(StaticFile, ReadsLocalAndRemoteEndpoints) {
  const auto pods = parse_static_pods(
      "pods:\n"
      "- {cgroup: /lab/web-0/, pod: web-0, namespace: shop, service: web, address: 127.1.0.10, port: 8080}\n"
      "- {pod: web-1, namespace: shop, service: web, address: 'fd00::1', port: 8081, container: app}\n"
      "- {cgroup: /lab/job, pod: job, namespace: shop}\n",
      "pods.yaml");
  ASSERT_TRUE(pods) << pods.error().message;
  const std::vector<Pod> expected = {{.cgroup = "/lab/web-0",
                                      .pod = "web-0",
                                      .ns = "shop",
                                      .service = "web",
                                      .address = "127.1.0.10",
                                      .port = 8080},
                                     {.pod = "web-1",
                                      .ns = "shop",
                                      .container = "app",
                                      .service = "web",
                                      .address = "fd00::1",
                                      .port = 8081,
                                      .local = false},
                                     {.cgroup = "/lab/job", .pod = "job", .ns = "shop"}};
  EXPECT_EQ(*pods, expected);
}

TEST(StaticFile, NoPodsAreAnEmptyList) {
  const auto pods = parse_static_pods("pods: []\n", "pods.yaml");
  ASSERT_TRUE(pods) << pods.error().message;
  EXPECT_TRUE(pods->empty());
}

TEST(StaticFile, ContainersOfOnePodAreTwoEntries) {
  const std::string base = "pod: p, namespace: n, service: s, address: 10.0.0.1, port: 80";
  EXPECT_TRUE(parse_static_pods(
      "pods:\n- {cgroup: /a, container: app, " + base + "}\n- {cgroup: /b, container: log, " + base + "}\n",
      "f"));
  const auto moved =
      parse_static_pods("pods:\n- {cgroup: /a, container: app, " + base +
                            "}\n- {cgroup: /b, container: log, pod: p, namespace: n, service: s, "
                            "address: 10.0.0.2, port: 80}\n",
                        "f");
  ASSERT_FALSE(moved);
  EXPECT_EQ(moved.error().message, "f:3: pods[1].pod: 'p' of service 's' is already on line 2");
}

struct Wrong {
  const char* name;
  const char* text;
  const char* message_start;
};

class StaticFileError : public ::testing::TestWithParam<Wrong> {};

TEST_P(StaticFileError, NamesFileLineAndKey) {
  const auto pods = parse_static_pods(GetParam().text, "pods.yaml");
  ASSERT_FALSE(pods);
  EXPECT_EQ(pods.error().kind, Error::Kind::kUsage);
  EXPECT_THAT(pods.error().message, StartsWith(GetParam().message_start));
}

INSTANTIATE_TEST_SUITE_P(
    All, StaticFileError,
    ::testing::Values(
        Wrong{"Empty", "", "pods.yaml:1: (top level): has to be a mapping"},
        Wrong{"List", "- a\n", "pods.yaml:1: (top level): has to be a mapping"},
        Wrong{"UnknownTop", "pods: []\npod: 1\n",
              "pods.yaml:2: pod: unknown key, did you mean pods? known: pods"},
        Wrong{"NotAList", "pods: 3\n", "pods.yaml:1: pods: has to be a list"},
        Wrong{"NotAMap", "pods:\n- 3\n", "pods.yaml:2: pods[0]: has to be a mapping"},
        Wrong{"UnknownKey", "pods:\n- pod: p\n  namespase: n\n",
              "pods.yaml:3: pods[0].namespase: unknown key, did you mean namespace?"},
        Wrong{"Repeated", "pods:\n- pod: p\n  pod: q\n", "pods.yaml:3: pods[0].pod: stands twice"},
        Wrong{"WrongType", "pods:\n- pod: [p]\n", "pods.yaml:2: pods[0].pod: has to be text"},
        Wrong{"NullValue", "pods:\n- pod:\n", "pods.yaml:2: pods[0].pod: has to be text"},
        Wrong{"NoPod", "pods:\n- namespace: n\n", "pods.yaml:2: pods[0].pod: is missing"},
        Wrong{"NoNamespace", "pods:\n- pod: n\n", "pods.yaml:2: pods[0].namespace: is missing"},
        Wrong{"BadAddress", "pods:\n- pod: p\n  address: 1.2.3\n",
              "pods.yaml:3: pods[0].address: '1.2.3' is not"},
        Wrong{"PortText", "pods:\n- pod: p\n  port: http\n",
              "pods.yaml:3: pods[0].port: has to be a number, not"},
        Wrong{"PortZero", "pods:\n- pod: p\n  port: 0\n",
              "pods.yaml:3: pods[0].port: has to be a number between 1 and 65535"},
        Wrong{"PortGreat", "pods:\n- pod: p\n  port: 65536\n",
              "pods.yaml:3: pods[0].port: has to be a number between 1 and 65535"},
        Wrong{"PortFraction", "pods:\n- pod: p\n  port: 80.5\n",
              "pods.yaml:3: pods[0].port: has to be a whole number"},
        Wrong{"RelativeCgroup", "pods:\n- pod: p\n  cgroup: lab/a\n",
              "pods.yaml:3: pods[0].cgroup: 'lab/a' has to be"},
        Wrong{"ClimbingCgroup", "pods:\n- pod: p\n  cgroup: /a/../b\n",
              "pods.yaml:3: pods[0].cgroup: '/a/../b' has to be"},
        Wrong{"RootCgroup", "pods:\n- pod: p\n  cgroup: /\n", "pods.yaml:3: pods[0].cgroup: '/' has to be"},
        Wrong{"RemoteNoService", "pods:\n- {pod: p, namespace: n}\n",
              "pods.yaml:2: pods[0].service: is missing"},
        Wrong{"NoPort", "pods:\n- {pod: p, namespace: n, service: s, address: 1.2.3.4}\n",
              "pods.yaml:2: pods[0].port: is missing"},
        Wrong{"Twice",
              "pods:\n- {pod: p, namespace: n, service: s, address: 1.2.3.4, port: 1}\n"
              "- {pod: p, namespace: n, service: s, address: 1.2.3.4, port: 1}\n",
              "pods.yaml:3: pods[1].pod: 'p' of service 's' is already on line 2"},
        Wrong{"NotYaml", "pods:\n- {pod: p\n", "pods.yaml:"}),
    [](const auto& wrong) { return std::string(wrong.param.name); });

}  // namespace
}  // namespace ballast::identity
