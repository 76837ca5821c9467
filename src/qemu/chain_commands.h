// SPDX-License-Identifier: Apache-2.0
// The QMP commands by which images join the chain of a disk of a running QEMU, and by which it
// opens them for writing or only for reading: the same options as at its start. Pure.
#pragma once

#include <string>

#include "domain/domain.h"
#include "qemu/block_graph.h"
#include "qemu/hotplug.h"

namespace tenure::qemu {

// An image that is not open yet, under the disk's next free number. `facts` are of its path.
ChainMember new_member(const domain::Disk& disk, size_t number, const std::string& path,
                       const std::string& format, const kernel::NodeFacts& facts);

// Opens the file for writing, without looking at what is in it. Not needed by a raw image.
Command add_storage(const domain::Disk& disk, const ChainMember& member);
// Opens the image for writing; its backing is not opened: it will be given one, or has none.
Command add_format(const domain::Disk& disk, const ChainMember& member);
// Writes an empty image of `size` bytes into the storage; a job of that id. `backing` may be null.
Command create_image(const std::string& job, const ChainMember& member, uint64_t size,
                     const ChainMember* backing);
// The guest writes to `overlay` from now on, and what `top` has stays as it is.
nlohmann::json snapshot_action(const ChainMember& top, const ChainMember& overlay);
// A member, with its files, becomes writable or readonly. `backing` is the node below it, "" if
// none.
Command reopen(const domain::Disk& disk, const ChainMember& member, const std::string& backing,
               bool writable);

}  // namespace tenure::qemu
