// SPDX-License-Identifier: Apache-2.0
// The guests that are defined: one XML file each in state/guests, named by uuid.
#pragma once

#include <map>
#include <string>

#include "base/paths.h"
#include "base/result.h"
#include "domain/domain.h"

namespace tenure::daemon {

struct Definition {
  std::string name;
  std::string uuid;
  std::string xml;
};

class Definitions {
 public:
  // Reads all; a file that does not parse any more is reported by its error in `bad`, and left
  // alone.
  static Result<Definitions> load(const Paths& paths);

  // Stores it. Exists if the name belongs to another uuid.
  Result<> put(const domain::Domain& domain);
  Result<> remove(const std::string& uuid);
  std::string path_of(const std::string& uuid) const;

  const std::map<std::string, Definition>& all() const { return all_; }   // by uuid
  const std::map<std::string, std::string>& bad() const { return bad_; }  // path -> why

 private:
  std::string folder_;
  std::map<std::string, Definition> all_;
  std::map<std::string, std::string> bad_;
};

}  // namespace tenure::daemon
