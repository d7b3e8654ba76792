// SPDX-License-Identifier: Apache-2.0
#include "core/cli/program.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/cli/version.h"

namespace ballast::cli {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

struct Answer {
  std::optional<int> code;
  std::string out;
  std::string err;
};

class ProgramTest : public ::testing::Test {
 protected:
  ProgramTest() {
    CLI::App& app = program_.app();
    app.add_option("--rate", rate_, "requests a second")->check(CLI::Range(1.0, 10.0))->capture_default_str();
    app.add_option("--depth", depth_, "of the queue")->group(kTuning);
    app.add_option("--size", size_, "of all");
    CLI::App* run = app.add_subcommand("run", "run it");
    run->add_option("--seed", seed_, "of all that is random")->required();
    run->add_option("--trace", trace_, "file of all calls")->group(kFaultFinding);
    app.add_subcommand("show", "show it")->add_option("TARGET", target_, "what to show");
    app.require_subcommand(1);
  }
  Answer parse(std::vector<const char*> args) {
    args.insert(args.begin(), "tester");
    ::testing::internal::CaptureStdout();
    ::testing::internal::CaptureStderr();
    Answer answer;
    answer.code = program_.parse(static_cast<int>(args.size()), const_cast<char**>(args.data()));
    answer.out = ::testing::internal::GetCapturedStdout();
    answer.err = ::testing::internal::GetCapturedStderr();
    return answer;
  }

  Program program_{{"tester",
                    8,
                    "Tests what all programs share",
                    "More of it.\n",
                    {{"tester run --seed 1", "Run it once"}},
                    {"ballastd(8)"}}};
  double rate_ = 2;
  int depth_ = 3;
  unsigned size_ = 0;
  int seed_ = 0;
  std::string trace_;
  std::string target_;
};

TEST_F(ProgramTest, NumbersThatAreNoneAreRefused) {
  EXPECT_EQ(parse({"--rate", "2.5", "show"}).code, std::nullopt);
  for (const auto& [flag, value] : {std::pair{"--rate", "nan"}, {"--rate", "inf"}, {"--size", "-1"}}) {
    const Answer answer = parse({flag, value, "show"});
    EXPECT_EQ(answer.code, 2) << flag << " " << value;
    EXPECT_THAT(answer.err, HasSubstr(flag));
  }
  EXPECT_THAT(parse({"--rate", "2", "--rate", "3", "show"}).err, HasSubstr("--rate is given twice"));
  EXPECT_EQ(parse({"run", "--seed", "99999999999999999999"}).code, 2);
}

TEST_F(ProgramTest, VersionIsTheBuilds) {
  const Answer answer = parse({"--version"});
  EXPECT_EQ(answer.code, 0);
  EXPECT_EQ(answer.out, std::string("tester ") + version() + "\n");
}

TEST_F(ProgramTest, HelpComesInLayers) {
  const Answer help = parse({"--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--rate"));
  EXPECT_THAT(help.out, Not(HasSubstr("--depth")));
  EXPECT_THAT(help.out, Not(HasSubstr("--help-format")));
  EXPECT_THAT(help.out, HasSubstr("--help-all shows"));
  EXPECT_THAT(help.out, HasSubstr("Exit codes: 0 done"));
}

TEST_F(ProgramTest, HelpAllShowsAllLayersAndCommands) {
  const Answer all = parse({"--help-all"});
  EXPECT_EQ(all.code, 0);
  for (const char* flag : {"--rate", "--depth", "--seed", "--trace"}) {
    EXPECT_THAT(all.out, HasSubstr(flag));
  }
}

TEST_F(ProgramTest, HelpOfACommandIsItsOwn) {
  const Answer help = parse({"run", "--help"});
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--seed"));
  EXPECT_THAT(help.out, Not(HasSubstr("--trace")));
}

TEST_F(ProgramTest, RightUseGoesOn) {
  EXPECT_EQ(parse({"--rate", "3", "--depth", "7", "run", "--seed", "5"}).code, std::nullopt);
  EXPECT_EQ(rate_, 3);
  EXPECT_EQ(depth_, 7);
  EXPECT_EQ(seed_, 5);
}

TEST_F(ProgramTest, WrongUseIsTwoAndNamesTheFlag) {
  const std::pair<std::vector<const char*>, const char*> cases[] = {
      {{"--rate", "11", "show"}, "--rate"},
      {{"--rate", "much", "show"}, "--rate"},
      {{"--rate", "2", "--rate", "3", "show"}, "--rate"},
      {{"--depth", "1.5", "show"}, "--depth"},
      {{"--rate"}, "--rate"},
      {{"run"}, "--seed"},
      {{}, "command"},
      {{"--help-format", "poem"}, "poem"},
  };
  for (const auto& [args, says] : cases) {
    const Answer answer = parse(args);
    EXPECT_EQ(answer.code, 2) << says;
    EXPECT_THAT(answer.err, StartsWith("tester: "));
    EXPECT_THAT(answer.err, HasSubstr(says));
  }
}

TEST_F(ProgramTest, ASlipIsAnsweredWithTheNearest) {
  EXPECT_THAT(parse({"--rat", "3", "show"}).err, HasSubstr("did you mean --rate?"));
  EXPECT_THAT(parse({"run", "--seed=1", "--tracee=x"}).err, HasSubstr("did you mean --trace?"));
  EXPECT_THAT(parse({"rnu"}).err, HasSubstr("unknown command rnu, did you mean run?; known: run, show"));
  EXPECT_THAT(parse({"quite_another"}).err, HasSubstr("unknown command quite_another; known: run, show"));
}

TEST_F(ProgramTest, PagesNameEveryFlagAndCommand) {
  for (const char* format : {"man", "markdown"}) {
    const Answer page = parse({"--help-format", format});
    EXPECT_EQ(page.code, 0);
    for (const char* part : {"rate", "depth", "seed", "trace", "run", "show", "TARGET", "Run it once"}) {
      EXPECT_THAT(page.out, HasSubstr(part)) << format;
    }
  }
  EXPECT_THAT(parse({"--help-format", "man"}).out, StartsWith(".TH tester 8 "));
}

}  // namespace
}  // namespace ballast::cli
