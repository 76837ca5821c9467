// SPDX-License-Identifier: Apache-2.0
// update, eject and insert: three forms of one call.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "base/text.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/device_words.h"

namespace tenure::cli {
namespace {

using nlohmann::json;

int call_update(const Options& options, const std::string& xml, const std::string& source) {
  auto reply = call(paths_of(options), "Update",
                    {{"guest", options.guest},
                     {"xml", xml},
                     {"source", source},
                     {"timeout_s", options.timeout_s.value_or(10)},
                     {"force", options.force}});
  if (!reply)
    return failed(options, reply.error());
  Out out;
  if (wants_json(options)) {
    put_json(out, *reply);
    return 0;
  }
  std::string changes;
  for (const json& change : reply->at("changes"))
    changes += (changes.empty() ? "" : ", ") + change.get<std::string>();
  if (!options.quiet)
    out.line(printable(fmt::format("{}: {} {}", options.guest, reply->value("alias", ""),
                                   changes.empty() ? "is so already" : "changed: " + changes)));
  return 0;
}

}  // namespace

int run_update(const Options& options) {
  auto xml = device_element(options);
  if (!xml)
    return failed_locally(options, xml.error());
  bool file = options.words.size() == 1 && !options.words.front().starts_with('<');
  return call_update(options, *xml, file ? options.words.front() : "device");
}

int run_eject(const Options& options) {
  if (options.words.size() != 1)
    return failed_locally(options, Error(Errc::Invalid, "one target, such as sda"));
  return call_update(options, drive_element(options, options.words.front(), ""), "device");
}

int run_insert(const Options& options) {
  if (options.words.size() != 2 || options.words[1].empty())
    return failed_locally(options, Error(Errc::Invalid, "a target, such as sda, and a path"));
  return call_update(options, drive_element(options, options.words[0], options.words[1]), "device");
}

}  // namespace tenure::cli
