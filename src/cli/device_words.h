// SPDX-License-Identifier: Apache-2.0
// A device as people type it, as the element of domain XML that the daemon takes.
#pragma once

#include <string>

#include "base/result.h"
#include "cli/options.h"

namespace tenure::cli {

// options.words: a file with the element ("-" is stdin), the element itself, or a short form:
//   disk PATH --target vdb [--readonly] [--format qcow2] [--bus scsi]
//   cdrom PATH --target sda
//   interface bridge|direct|user [NAME] [--mac MAC] [--model virtio] [--target tnr0]
//   rng PATH
//   memory SIZE
// Paths of a short form are made absolute. Invalid for anything else, with what is missing.
Result<std::string> device_element(const Options& options);

// The element of a drive, called by its target (sda, hdc, fda), with the medium at this path
// (made absolute), or with none ("") as eject and insert want it. The format is
// options.image_format, else raw.
std::string drive_element(const Options& options, const std::string& target,
                          const std::string& medium);

}  // namespace tenure::cli
