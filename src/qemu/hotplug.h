// SPDX-License-Identifier: Apache-2.0
// The QMP commands by which a device joins or leaves a running QEMU: the same JSON as on its
// command line. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "base/result.h"
#include "domain/domain.h"
#include "qemu/command.h"
#include "qemu/command_line.h"

namespace tenure::qemu {

// In the order of their running. `device` has nothing but the device (domain::only_device), `whole`
// is the guest with it. Errors: as command_line(); Unsupported for what QEMU only takes at its
// start.
Result<std::vector<Command>> plug_commands(const domain::Domain& device,
                                           const domain::Domain& whole, const Wiring& wiring);

// What takes back one of plug_commands(), or a getfd that none of them has used; for device_add
// that is only a request to the guest.
Command undo_of(const Command& command);

// What removes the backends of a device that the guest has let go of. `nodes` are block nodes of
// this QEMU, each before those below it (stray_nodes).
Result<std::vector<Command>> unplug_commands(const domain::Domain& device,
                                             const domain::Domain& whole,
                                             const std::vector<std::string>& nodes);

// What brings a medium into a drive whose tray is open: its nodes, then the insertion. `device` has
// nothing but the drive, with a path. Errors: as plug_commands().
Result<std::vector<Command>> medium_commands(const domain::Domain& device,
                                             const domain::Domain& whole, const Wiring& wiring);

// The link state of an interface that has one given; QEMU makes every link up.
std::vector<Command> link_commands(const domain::Domain& device);
// What a device needs once it was plugged, and what goes with it: that, the action of a watchdog.
std::vector<Command> finish_commands(const domain::Domain& device);

// A drive as query-block shows it.
struct DriveState {
  bool tray_open = false;  // of a drive without a tray (floppy) never
  bool has_tray = false;
  bool locked = false;  // by the guest
  std::string node;     // of its medium; "" for none
};
// `blocks` is the answer to query-block. NotFound; Corrupt if it is not of its schema.
Result<DriveState> drive_state(const nlohmann::json& blocks, const std::string& alias);

}  // namespace tenure::qemu
