// SPDX-License-Identifier: Apache-2.0
// The command line: every command and option of the table arrives in Options, everything else is a
// usage error with exit code 2.
#include "cli/options.h"

#include <gtest/gtest.h>

#include "cli/exit_code.h"

namespace tenure::cli {
namespace {

Options good(std::vector<std::string> args) {
  const Parsed parsed = parse_options(std::move(args));
  EXPECT_TRUE(parsed.options) << parsed.text;
  return parsed.options.value_or(Options{});
}

std::string bad(std::vector<std::string> args) {
  const Parsed parsed = parse_options(std::move(args));
  EXPECT_FALSE(parsed.options);
  EXPECT_EQ(parsed.exit_code, to_int(ExitCode::Usage));
  return parsed.text;
}

TEST(Options, GlobalOptionsStandBeforeOrAfterTheCommand) {
  for (const auto& args :
       {std::vector<std::string>{"--root", "/x", "-o", "json", "-qN", "list"},
        std::vector<std::string>{"list", "--root=/x", "-o", "json", "-q", "-N"}}) {
    const Options options = good(args);
    EXPECT_EQ(options.command, "list");
    EXPECT_EQ(options.root, "/x");
    EXPECT_EQ(options.output(), OutputFormat::Json);
    EXPECT_TRUE(options.quiet);
    EXPECT_TRUE(options.numeric);
  }
}

TEST(Options, OutputFallsBackToTheCommandsOwn) {
  EXPECT_EQ(good({"log"}).output(OutputFormat::Short), OutputFormat::Short);
  EXPECT_EQ(good({"log", "-o", "raw"}).output(OutputFormat::Short), OutputFormat::Raw);
  EXPECT_NE(bad({"log", "-o", "yaml"}).find("'yaml' is not one of"), std::string::npos);
}

TEST(Options, StartAndStop) {
  const Options start =
      good({"start", "demo.xml", "--dry-run", "--require-fence", "no", "--fence", "v1"});
  EXPECT_EQ(start.guest, "demo.xml");
  EXPECT_TRUE(start.dry_run);
  EXPECT_EQ(start.require_fence, "no");
  EXPECT_EQ(start.fence, "v1");
  EXPECT_EQ(good({"stop", "web"}).timeout_s, std::nullopt);
  EXPECT_EQ(good({"stop", "web", "--timeout", "5"}).timeout_s, 5U);
  EXPECT_NE(bad({"stop", "web", "--timeout", "-5"}).find("not a number"), std::string::npos);
  bad({"stop", "web", "--timeout", "1e3"});
  bad({"start", "web", "--fence", "v3"});
  bad({"start"});
}

TEST(Options, ReportCanBeAPage) {
  const Options options =
      good({"report", "--html", "r.html", "--by", "resource", "--guest", "web"});
  EXPECT_EQ(options.html, "r.html");
  EXPECT_EQ(options.by, "resource");
  EXPECT_EQ(options.filter_guest, "web");
  bad({"report", "--html"});
  bad({"history", "--html", "r.html"});
}

TEST(Options, DestroyIsAHiddenAliasOfKill) {
  EXPECT_EQ(good({"destroy", "web"}).command, "kill");
  EXPECT_EQ(parse_options({"--help"}).text.find("destroy"), std::string::npos);
}

TEST(Options, ShowTakesSeveralProperties) {
  const Options options = good({"show", "-p", "state", "web", "-p", "pid"});
  EXPECT_EQ(options.guest, "web");
  EXPECT_EQ(options.properties, (std::vector<std::string>{"state", "pid"}));
}

TEST(Options, WhoTakesADeviceNumberAsOneOrTwoWords) {
  EXPECT_EQ(good({"who", "/dev/sdb"}).resource, std::vector<std::string>{"/dev/sdb"});
  EXPECT_EQ(good({"who", "b", "8:16", "--at", "now"}).resource,
            (std::vector<std::string>{"b", "8:16"}));
  bad({"who"});
  bad({"who", "a", "b", "c"});
}

TEST(Options, ReadingOptions) {
  const Options log =
      good({"log", "-f", "-n", "20", "-r", "--log", "a", "--log", "-", "--kind", "disk"});
  EXPECT_TRUE(log.follow);
  EXPECT_TRUE(log.reverse);
  EXPECT_EQ(log.lines, 20U);
  EXPECT_EQ(log.logs, (std::vector<std::string>{"a", "-"}));
  EXPECT_EQ(log.filter_kind, "disk");
  EXPECT_FALSE(good({"log"}).lines);
  EXPECT_EQ(good({"history"}).guest, "");
  EXPECT_EQ(good({"report", "--by", "who"}).by, "who");
  bad({"log", "--result", "maybe"});
}

TEST(Options, AusearchTimesMayBeTwoWords) {
  const Options options = good({"log", "-ts", "07/01/2025", "10:00:00", "-te", "now"});
  EXPECT_EQ(options.since, "07/01/2025 10:00:00");
  EXPECT_EQ(options.until, "now");
}

TEST(Options, HelpAndVersionAreNoErrors) {
  EXPECT_EQ(parse_options({"--help"}).exit_code, 0);
  EXPECT_EQ(parse_options({"--version"}).text, "tenure 0.1.0\n");
  for (const std::string_view name : command_names()) {
    const Parsed parsed = parse_options({std::string(name), "--help"});
    EXPECT_EQ(parsed.exit_code, 0) << name;
    EXPECT_NE(parsed.text.find("Usage"), std::string::npos) << parsed.text;
  }
}

TEST(Options, UnknownWordsAreUsageErrors) {
  bad({});
  bad({"frobnicate"});
  bad({"list", "--frobnicate"});
  bad({"list", "surplus"});
}

TEST(ExitCodes, FollowTheErrorsKind) {
  EXPECT_EQ(exit_code_of(Error(Errc::Denied, "")), ExitCode::NotPermitted);
  EXPECT_EQ(exit_code_of(Error(Errc::NotFound, "")), ExitCode::NoSuchGuest);
  EXPECT_EQ(exit_code_of(Error(Errc::Invalid, "")), ExitCode::Usage);
  EXPECT_EQ(exit_code_of(Error(Errc::Lost, "")), ExitCode::DaemonUnreachable);
  EXPECT_EQ(exit_code_of(Error(Errc::Io, "")), ExitCode::Failed);
}

}  // namespace
}  // namespace tenure::cli
