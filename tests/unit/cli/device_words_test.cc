// SPDX-License-Identifier: Apache-2.0
// The short forms of attach, insert and eject as elements: the paths that tenured gets are
// absolute, as its own folder is another one.
#include "cli/device_words.h"

#include <gtest/gtest.h>

#include <filesystem>

namespace tenure::cli {
namespace {

std::string element(std::vector<std::string> args) {
  const Parsed parsed = parse_options(std::move(args));
  EXPECT_TRUE(parsed.options) << parsed.text;
  auto made = device_element(parsed.options.value_or(Options{}));
  return made ? *made : "error: " + made.error().what();
}

std::string here(const std::string& name) {
  return (std::filesystem::current_path() / name).string();
}

TEST(DeviceWords, PathsOfShortFormsAreMadeAbsolute) {
  for (const char* device : {"disk", "cdrom"}) {
    const std::string made = element({"attach", "web", device, "a/../b.img", "--target", "vdb"});
    EXPECT_NE(made.find("<source file='" + here("b.img") + "'/>"), std::string::npos) << made;
  }
  const std::string block = element({"attach", "web", "disk", "/dev/vg/data", "--target", "vdb"});
  EXPECT_NE(block.find("<source dev='/dev/vg/data'/>"), std::string::npos) << block;
  const std::string rng = element({"attach", "web", "rng", "random"});
  EXPECT_NE(rng.find(">" + here("random") + "</backend>"), std::string::npos) << rng;
}

TEST(DeviceWords, AMediumIsMadeAbsoluteAndNoneStaysNone) {
  const std::string disc = drive_element(Options{}, "sda", "disc.iso");
  EXPECT_NE(disc.find("<source file='" + here("disc.iso") + "'/>"), std::string::npos) << disc;
  EXPECT_EQ(drive_element(Options{}, "sda", "").find("source"), std::string::npos);
}

TEST(DeviceWords, AnElementIsTakenAsItIs) {
  EXPECT_EQ(element({"attach", "web", "<rng/>"}), "<rng/>");
  EXPECT_TRUE(element({"attach", "web", "disk", "/a"}).starts_with("error: "));
}

}  // namespace
}  // namespace tenure::cli
