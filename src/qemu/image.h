// SPDX-License-Identifier: Apache-2.0
// Backing chains of disk images, read from their headers. Image headers are hostile input: every size
// is bounded before it is used, and a format is never guessed for an image that is declared raw.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "kernel/node.h"

namespace tenure::qemu {

// One member of a chain.
struct Image {
  std::string path;    // absolute
  std::string format;  // "raw", "qcow2", …
  bool writable = false;      // needed for writing: the top of a disk that is not readonly, and its data file
  bool data_file = false;     // external data file of the member before it
  kernel::NodeFacts node;
};
// Top first.
using ImageChain = std::vector<Image>;

inline constexpr size_t kMaxChainDepth = 200;

// Reads the chain from the headers. qcow2 by our own parser (version 2 and 3: backing file, backing format extension,
// external data file, sizes checked against the qcow2 specification); vmdk, vdi, vpc, qed … by `qemu-img info
// --backing-chain`. A backing file without a recorded format is refused (QEMU would guess). Errors: NotFound (missing
// member, names the chain so far), Invalid (looped chain, header out of bounds, format missing), Unsupported
// (a protocol name such as nbd: or json: as backing file).
Result<ImageChain> read_chain(const std::string& path, const std::string& format, bool readonly);

}  // namespace tenure::qemu
