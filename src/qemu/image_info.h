// SPDX-License-Identifier: Apache-2.0
// What qemu-img says about an image of a format that we do not read ourselves. qemu-img meets
// hostile bytes, so it runs as little as it can be: as the image's owner, without capabilities and
// network, with limits on processor time, memory, fds and output.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace tenure::qemu {

struct ImageInfo {
  std::string backing_file;          // as recorded; "" for none
  std::string backing_format;        // "" if not recorded
  std::vector<std::string> extents;  // of a vmdk: may name the image itself
};

// Runs `qemu-img info -f format path` and waits for it, 10 s at most; `path` is absolute. Errors:
// Unsupported without qemu-img or for an encrypted image, Invalid with qemu-img's reason, Timeout.
Result<ImageInfo> image_info(const std::string& path, const std::string& format);

// Its JSON, at most 1 MiB. Pure.
Result<ImageInfo> parse_image_info(std::string_view json);

}  // namespace tenure::qemu
