// SPDX-License-Identifier: Apache-2.0
#include "daemon/policy.h"

#include <unistd.h>

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "kernel/process.h"

namespace tenure::daemon {
namespace {

using nlohmann::json;
constexpr size_t kMaxPolicy = 65536;  // bytes

json defaults() {
  return {{"on_audit_loss", "refuse"},
          {"on_drift", "report"},
          {"require_fence", "yes"},
          {"audit", "auto"}};
}

json settings_of(const Config& config) {
  return {{"on_audit_loss", registrar::to_string(config.on_audit_loss)},
          {"on_drift", guest::to_string(config.on_drift)},
          {"require_fence", config.guest.require_fence ? "yes" : "no"},
          {"audit", config.audit ? "auto" : "off"}};
}

// What was in force before; the defaults if nothing is known or the file was tampered with.
json load(const std::string& path) {
  json before = defaults();
  auto text = read_file(path, kMaxPolicy);
  if (!text)
    return before;
  json known = json::parse(*text, nullptr, false);
  if (!known.is_object())
    return before;
  for (auto& [key, value] : before.items())
    if (known.contains(key) && known[key].is_string())
      value = known[key];
  return before;
}

}  // namespace

asio::awaitable<Result<>> record_policy(guest::Context& context, const Config& config) {
  std::string path = context.paths.state + "/policy.json";
  json before = load(path);
  json now = settings_of(config);
  std::vector<trail::Record> records;
  const Requester self = kernel::own_requester();
  for (const auto& [key, value] : now.items()) {
    if (before[key] == value)
      continue;
    trail::Record record(trail::Kind::Policy);
    record.set("setting", key)
        .set("old", before[key].get<std::string>())
        .set("new", value.get<std::string>());
    record.set("txn", context.new_txn());
    trail::set_requester(record, self);
    records.push_back(std::move(record));
  }
  if (records.empty())
    co_return Result<>{};
  Result<> written = co_await context.journal.write(std::move(records));
  if (!written && written.error().code() != Errc::Lost)
    co_return written;
  co_return write_file_atomic(path, now.dump(1));
}

}  // namespace tenure::daemon
