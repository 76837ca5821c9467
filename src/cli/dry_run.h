// SPDX-License-Identifier: Apache-2.0
// `tenure start --dry-run`: what a start would do, without the daemon, without root, touching
// nothing.
#pragma once

#include "cli/options.h"

namespace tenure::cli {

int run_dry_start(const Options& options);

}  // namespace tenure::cli
