// SPDX-License-Identifier: Apache-2.0
//
// Every flag of every program: goes through the pages that are made from the flags themselves, so that none
// can be forgotten. Needs no privilege.
#include <fmt/format.h>

#include <cmath>
#include <regex>
#include <sstream>

#include "daemon.h"

namespace ballast {
namespace {

using ::testing::HasSubstr;
using ::testing::MatchesRegex;

struct Flag {
  std::vector<std::string> command;  ///< the program, and its command
  std::string name;
  std::string value;  ///< as the page tells it; empty: it takes none
};

class Flags : public DaemonTest {
 protected:
  std::vector<std::string> programs() const {
    std::vector<std::string> out;
    for (const char* name :
         {"ballastd", "ballastctl", "ballast-global", "ballast-learner", "ballast-lab", "ballast-bench"}) {
      if (fs::exists(bin_ / name)) {
        out.push_back((bin_ / name).string());
      }
    }
    return out;
  }
  std::vector<Flag> flags(const std::string& program) {
    std::vector<Flag> out;
    std::istringstream page(run({program, "--help-format", "markdown"}).output);
    std::vector<std::string> command = {program};
    const std::regex row(R"(^\| `(?:-\w, )?(--[\w-]+)[^`]*` \| ([^|]*) \|.*)");
    const std::regex heading(R"(^### \S+ (\S+)$)");
    std::smatch found;
    for (std::string line; std::getline(page, line);) {
      if (std::regex_match(line, found, heading)) {
        command = {program, found[1]};
      } else if (std::regex_match(line, found, row)) {
        out.push_back({command, found[1], found[2]});
      }
    }
    return out;
  }
  void refused(const Flag& flag, std::vector<std::string> given) {
    std::vector<std::string> argv = flag.command;
    argv.insert(argv.end(), given.begin(), given.end());
    const Ended ended = run(argv);
    EXPECT_EQ(ended.code, 2) << fmt::format("{} {}", fmt::join(argv, " "), ended.output);
    EXPECT_THAT(ended.output, HasSubstr(flag.name)) << fmt::format("{}", fmt::join(argv, " "));
  }
};

TEST_F(Flags, EveryProgramTellsItsVersion) {
  ASSERT_GE(programs().size(), 5U);
  std::string version;
  for (const std::string& program : programs()) {
    const Ended ended = run({program, "--version"});
    EXPECT_EQ(ended.code, 0);
    EXPECT_THAT(ended.output,
                MatchesRegex(fs::path(program).filename().string() + " [0-9]+\\.[0-9]+\\.[0-9]+\n"));
    const std::string told = ended.output.substr(ended.output.find(' '));
    EXPECT_TRUE(version.empty() || version == told) << told;
    version = told;
  }
}

TEST_F(Flags, HelpOfEveryProgramEndsWellAndNamesTheExitCodes) {
  for (const std::string& program : programs()) {
    for (const char* flag : {"--help", "-h", "--help-all"}) {
      const Ended ended = run({program, flag});
      EXPECT_EQ(ended.code, 0) << program;
      EXPECT_THAT(ended.output, HasSubstr("Exit codes: 0 done, 1 failed, 2 wrong use"));
    }
  }
}

TEST_F(Flags, OfTheWrongTypeOrOutOfRangeAreRefused) {
  int tried = 0;
  const std::regex range(R"(.*?(-?[\d.e+-]+) to (-?[\d.e+-]+)$)");
  for (const std::string& program : programs()) {
    for (const Flag& flag : flags(program)) {
      const bool whole = flag.value.starts_with("whole number");
      if (!whole && !flag.value.starts_with("number")) {
        continue;
      }
      ++tried;
      refused(flag, {flag.name, "much"});
      refused(flag, {flag.name, whole ? "1.5" : "nan"});
      refused(flag, {flag.name, whole ? "99999999999999999999" : "inf"});
      std::smatch bounds;
      if (std::regex_match(flag.value, bounds, range)) {
        const double least = std::stod(bounds[1]);
        const double most = std::stod(bounds[2]);
        refused(flag, {fmt::format("{}={}", flag.name, whole ? least - 1 : least - 1e-6)});
        refused(flag, {fmt::format("{}={:.15g}", flag.name, whole ? most + 1 : most * 1.01)});
      } else if (flag.value.find("above 0") != std::string::npos) {
        refused(flag, {flag.name, "0"});
      } else if (flag.value.find("0 or more") != std::string::npos) {
        refused(flag, {flag.name + "=-1"});
      }
    }
  }
  EXPECT_GT(tried, 40);
}

TEST_F(Flags, GivenTwiceAreRefused) {
  int tried = 0;
  for (const std::string& program : programs()) {
    for (const Flag& flag : flags(program)) {
      // Lists take more; flags without a value say the same twice.
      if (flag.value.empty() || flag.value.find("...") != std::string::npos) {
        continue;
      }
      ++tried;
      refused(flag, {flag.name, "1", flag.name, "1"});
    }
  }
  EXPECT_GT(tried, 60);
}

TEST_F(Flags, ASlipIsAnsweredWithTheFlag) {
  for (const std::string& program : programs()) {
    for (const Flag& flag : flags(program)) {
      if (flag.name.size() < 6) {
        continue;
      }
      const std::string slip = flag.name.substr(0, flag.name.size() - 2) + flag.name.back();
      std::vector<std::string> argv = flag.command;
      argv.push_back(slip);
      const Ended ended = run(argv);
      EXPECT_EQ(ended.code, 2) << slip;
      EXPECT_THAT(ended.output, HasSubstr("unknown flag " + slip + ", did you mean --"));
    }
  }
}

}  // namespace
}  // namespace ballast
