// SPDX-License-Identifier: Apache-2.0
// What `start --dry-run` takes from the instance, by reading alone: the definition, tenure.conf,
// the guest's uid. Nobody is asked, so that what only tenured can tell is a note.
#pragma once

#include <string>
#include <vector>

#include "base/paths.h"
#include "cli/options.h"
#include "domain/domain.h"
#include "guest/plan/facts.h"

namespace tenure::cli {

struct DryDefinition {
  std::string xml;
  std::string source;  // as errors name it
};

// What `start` would take for options.guest: a file, "-" (standard input), or a guest that is
// defined.
Result<DryDefinition> dry_definition(const Options& options, const Paths& paths);

// Also gives the domain the emulator that tenure.conf names.
Result<guest::HostOptions> dry_host_options(const Options& options, const Paths& paths,
                                            domain::Domain& domain,
                                            std::vector<std::string>& notes);

}  // namespace tenure::cli
