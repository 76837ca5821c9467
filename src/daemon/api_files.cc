// SPDX-License-Identifier: Apache-2.0
// The methods whose result is a file, or begins with one.
#include "daemon/api.h"
#include "daemon/api_parameters.h"

namespace tenure::daemon {
namespace {

using nlohmann::json;

FileRequest file_request(const json& parameters, const char* op) {
  return {.op = op, .path = text(parameters, "file"), .format = text(parameters, "format")};
}

}  // namespace

Api::Reply Api::save(json parameters, Requester who) {
  FileRequest request = file_request(parameters, "save");
  std::string guest = text(parameters, "guest");
  CO_TRY_OK(co_await guests_.to_file(std::move(guest), std::move(request), std::move(who)));
  co_return json::object();
}

Api::Reply Api::dump(json parameters, Requester who) {
  FileRequest request = file_request(parameters, "dump");
  std::string guest = text(parameters, "guest");
  CO_TRY_OK(co_await guests_.to_file(std::move(guest), std::move(request), std::move(who)));
  co_return json::object();
}

Api::Reply Api::screenshot(json parameters, Requester who) {
  FileRequest request = file_request(parameters, "screenshot");
  std::string guest = text(parameters, "guest");
  CO_TRY_OK(co_await guests_.to_file(std::move(guest), std::move(request), std::move(who)));
  co_return json::object();
}

Api::Reply Api::restore(json parameters, Requester who) {
  CO_TRY(StartOptions options, start_options(parameters));
  std::string file = text(parameters, "file");
  auto guest = co_await guests_.restore(std::move(file), options, std::move(who));
  if (!guest)
    co_return std::unexpected(std::move(guest).error());
  json reply = started(**guest);
  co_return reply;
}

}  // namespace tenure::daemon
