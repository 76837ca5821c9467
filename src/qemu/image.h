// SPDX-License-Identifier: Apache-2.0
// Backing chains of disk images, read from their headers. Image headers are hostile input: every
// size is bounded before it is used, and a format is never guessed for an image that is declared
// raw.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "kernel/node.h"

namespace tenure::qemu {

// Whether QEMU's driver of that name knows backing files, so that "none" has to be said to it.
constexpr bool may_have_backing(std::string_view format) {
  return format == "qcow2" || format == "qcow" || format == "qed" || format == "vmdk";
}

// One member of a chain.
struct Image {
  std::string path;    // absolute
  std::string format;  // "raw", "qcow2", …
  // Needed for writing: the top of a disk that is not readonly, and its data file.
  bool writable = false;
  bool data_file = false;  // external data file (qcow2) or extent (vmdk) of the member before it
  kernel::NodeFacts node;
};
// Top first.
using ImageChain = std::vector<Image>;

inline constexpr size_t kMaxChainDepth = 200;  // members, data files included

// Reads the chain from the headers. qcow2 by our own parser (version 2 and 3: backing file, backing
// format extension, external data file, sizes checked against the qcow2 specification); vmdk, vdi,
// vpc, qed … by `qemu-img info`, one image at a time and with the format told, never guessed (as
// the image's owner, without capabilities and network). A relative name is resolved against the
// folder of the image that refers to it, also that of a data file (as libvirt does). A backing file
// without a recorded format is refused (QEMU would guess). Blocks; thread-safe. Errors: NotFound
// (missing member, names the chain so far), Invalid (looped chain, header out of bounds, format
// missing, neither file nor block device), Unsupported (a protocol name such as nbd: or json: as
// backing file, encryption, unknown features or formats), Denied (not readable), Timeout
// (qemu-img).
Result<ImageChain> read_chain(const std::string& path, const std::string& format, bool readonly);

}  // namespace tenure::qemu
