// SPDX-License-Identifier: Apache-2.0
// The parsers of the parts of a definition. Each reads one element into one value; errors are kept
// in the element's Document. Private to src/domain.
#pragma once

#include "domain/domain.h"
#include "domain/xml.h"

namespace tenure::domain {

// parse_cpu.cc
Cpu parse_cpu(const Element& e);
// parse_platform.cc: what surrounds the devices
Os parse_os(const Element& e);
std::vector<Feature> parse_features(const Element& e);
Clock parse_clock(const Element& e);
MemoryBacking parse_memory_backing(const Element& e);
Numatune parse_numatune(const Element& e);

// parse_common.cc: what all devices share: <alias>, <address>, <boot>
DeviceInfo parse_info(const Element& e);
VirtioOptions parse_virtio(const Element& driver);
// Cells or CPUs: "0-3,8", checked; the text itself.
void check_ranges(const Element& e, std::string_view text, uint32_t limit);

// parse_disk.cc
Disk parse_disk(const Element& e);
// parse_controller.cc
Controller parse_controller(const Element& e);
// parse_interface.cc
Interface parse_interface(const Element& e);
// parse_chardev.cc
Chardev parse_chardev(const Element& e, ChardevRole role);
// parse_display.cc
Graphics parse_graphics(const Element& e);
Video parse_video(const Element& e);
Sound parse_sound(const Element& e);
Audio parse_audio(const Element& e);
// parse_memory.cc
MemoryDevice parse_memory_device(const Element& e);
// parse_host_device.cc
Hostdev parse_hostdev(const Element& e);
Shmem parse_shmem(const Element& e);
Filesystem parse_filesystem(const Element& e);
// parse_device.cc: all of <devices>, one of them, and its small ones
void parse_devices(const Element& e, Domain& domain);
void parse_device(const Element& e, Domain& domain);

}  // namespace tenure::domain
