// SPDX-License-Identifier: Apache-2.0
// A folder of the test's own, with an instance's paths below it.
#pragma once

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>

#include "base/file.h"
#include "base/paths.h"

namespace tenure::test {

class FolderTest : public testing::Test {
 protected:
  FolderTest() {
    const auto* info = testing::UnitTest::GetInstance()->current_test_info();
    std::string name = std::string("tenure-") + info->name() + "-" + std::to_string(getpid());
    folder = (std::filesystem::temp_directory_path() / name).string();
    std::filesystem::create_directories(folder + "/var/lib/tenure");
    paths = paths_below(folder);
  }
  ~FolderTest() override { std::filesystem::remove_all(folder); }
  void put(const std::string& path, const std::string& text) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    ASSERT_TRUE(write_file_atomic(path, text));
  }
  std::string folder;
  Paths paths;
};

}  // namespace tenure::test
