// SPDX-License-Identifier: Apache-2.0
#include "domain/guest_word.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <vector>

namespace tenure::domain {
namespace {

constexpr size_t kMinPrefix = 4;  // characters of a uuid; fewer would often fit by chance

}  // namespace

Result<std::string> uuid_of_word(const std::map<std::string, std::string>& names,
                                 const std::string& word) {
  std::string lower = word;
  std::ranges::transform(lower, lower.begin(), [](unsigned char c) { return std::tolower(c); });
  std::vector<std::string> matches;
  for (const auto& [uuid, name] : names) {
    if (name == word)
      return uuid;
    if (lower.size() >= kMinPrefix && uuid.starts_with(lower))
      matches.push_back(uuid);
  }
  if (matches.size() == 1)
    return matches.front();
  if (matches.empty())
    return fail(Errc::NotFound, fmt::format("no guest '{}'", word));
  return fail(Errc::Invalid,
              fmt::format("'{}' fits {} guests: give more of the uuid", word, matches.size()));
}

}  // namespace tenure::domain
