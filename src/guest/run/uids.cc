// SPDX-License-Identifier: Apache-2.0
#include "guest/run/uids.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <set>

#include "base/file.h"
#include "base/text.h"

namespace tenure::guest {
namespace {

using nlohmann::json;
constexpr size_t kMaxUids = 16U << 20U;  // bytes

Result<json> load(const std::string& path) {
  auto text = read_file(path, kMaxUids);
  if (!text && text.error().code() == Errc::NotFound)
    return json::object();
  if (!text)
    return fail(std::move(text).error());
  json uids = json::parse(*text, nullptr, false);
  if (!uids.is_object())
    return fail(Errc::Corrupt, path + ": not a JSON object");
  std::set<uint64_t> seen;
  for (const auto& [uuid, uid] : uids.items()) {
    // Never root, never (uid_t)-1, never the uid of another guest: that is what keeps them apart.
    bool usable =
        uid.is_number_unsigned() && uid.get<uint64_t>() != 0 && uid.get<uint64_t>() < UINT32_MAX;
    if (!usable || !seen.insert(uid.get<uint64_t>()).second)
      return fail(Errc::Corrupt, path + ": " + printable(uuid) + ": not a uid of its own");
  }
  return uids;
}

}  // namespace

Result<std::optional<uint32_t>> uid_of(const Paths& paths, const Settings& settings,
                                       const std::string& uuid) {
  if (!settings.uid_first)
    return std::nullopt;
  std::string path = paths.state + "/uids.json";
  TRY(json uids, load(path));
  uint32_t first = *settings.uid_first;
  auto known = uids.find(uuid);
  if (known != uids.end())
    return known->get<uint32_t>();
  std::set<uint32_t> used;
  for (const auto& item : uids.items()) used.insert(item.value().get<uint32_t>());
  uint32_t uid = first;
  while (used.contains(uid)) ++uid;
  if (uid - first >= settings.uid_count)
    return fail(Errc::Busy, fmt::format("no uid is left of {}-{}; widen uid_count in {}", first,
                                        first + settings.uid_count - 1, paths.config));
  uids[uuid] = uid;
  TRY_OK(write_file_atomic(path, uids.dump(1)));
  return uid;
}

}  // namespace tenure::guest
