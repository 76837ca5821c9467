// SPDX-License-Identifier: Apache-2.0
// The guest that somebody means.
#pragma once

#include <map>
#include <string>

#include "base/result.h"

namespace tenure::domain {

// The uuid of the guest that `word` names: by its name, its uuid or the beginning of that (4
// characters at least, in either case), if it fits one alone. `names` is by uuid. NotFound; Invalid
// if it fits several. Pure.
Result<std::string> uuid_of_word(const std::map<std::string, std::string>& names,
                                 const std::string& word);

}  // namespace tenure::domain
