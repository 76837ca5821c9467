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
  json parameters = {{"guest", options.guest},
                     {"xml", xml},
                     {"source", source},
                     {"timeout_s", options.timeout_s.value_or(10)},
                     {"force", options.force}};
  return run_call(options, "Update", parameters, [&](Out& out, const json& reply) {
    std::string changes;
    for (const json& change : reply.at("changes"))
      changes += (changes.empty() ? "" : ", ") + change.get<std::string>();
    out.line(printable(fmt::format("{}: {} {}", options.guest, reply.value("alias", ""),
                                   changes.empty() ? "is so already" : "changed: " + changes)));
  });
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
