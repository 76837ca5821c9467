// SPDX-License-Identifier: Apache-2.0
// The commands that work by themselves, from files and the kernel of this host, and ask tenured at
// most for a detail. They are the program tenure-local, which `tenure` becomes for them: they need
// libraries (libcrypto, libbpf, zlib …) whose loading costs more than a command takes that only
// asks tenured. Each prints its answer on stdout, its complaints on stderr, and returns an exit
// code of cli/exit_code.h. The command line has been checked before (cli/options.h).
#pragma once

#include "cli/options.h"

namespace tenure::cli {

// Reading the trail, without the daemon (read_commands.cc).
int run_who(const Options& options);
int run_history(const Options& options);
int run_log(const Options& options);
int run_report(const Options& options);
int run_denials(const Options& options);      // read_denials.cc
int run_report_page(const Options& options);  // report --html (read_page.cc)

// The ledger's proof (verify_command.cc).
int run_verify(const Options& options);
int run_prove(const Options& options);

// Whether this host can keep a true trail (doctor_command.cc).
int run_doctor(const Options& options);

// start --dry-run: what a start would do, without root, touching nothing (dry_run.cc).
int run_dry_start(const Options& options);

}  // namespace tenure::cli
