// SPDX-License-Identifier: Apache-2.0
// One QMP command. Plain data.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tenure::qemu {

struct Command {
  std::string name;  // "blockdev-add"
  nlohmann::json arguments;
  std::vector<int> fds = {};  // travel with it (getfd, add-fd); they stay the caller's
};

}  // namespace tenure::qemu
