// SPDX-License-Identifier: Apache-2.0
// The commands of `tenure` that ask tenured. Each prints its answer on stdout, its complaints on
// stderr, and returns an exit code of cli/exit_code.h. The command line has been checked before
// (cli/options.h).
#pragma once

#include "cli/options.h"

namespace tenure::cli {

// One guest's life, by the daemon (guest_commands.cc).
int run_define(const Options& options);
int run_undefine(const Options& options);
int run_list(const Options& options);
int run_status(const Options& options);
int run_show(const Options& options);
int run_start(const Options& options);
int run_stop(const Options& options);
int run_kill(const Options& options);
int run_to_file(const Options& options);  // save, dump, screenshot
int run_restore(const Options& options);
int run_control(const Options& options);  // pause, resume, reset, inject-nmi
int run_console(const Options& options);
int run_attach(const Options& options);
int run_detach(const Options& options);
int run_set(const Options& options);

// Another medium, link state, bridge (update_commands.cc); another definition (edit_command.cc).
int run_update(const Options& options);
int run_eject(const Options& options);
int run_insert(const Options& options);
int run_edit(const Options& options);

// The images of a running guest's disks (block_commands.cc).
int run_snapshot(const Options& options);
int run_blockcommit(const Options& options);
int run_blockpull(const Options& options);
int run_blockcopy(const Options& options);
int run_blockjob(const Options& options);

}  // namespace tenure::cli
