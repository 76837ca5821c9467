// SPDX-License-Identifier: Apache-2.0
#include "daemon/api.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "daemon/api_parameters.h"
#include "daemon/interface.h"
#include "daemon/status.h"

namespace tenure::daemon {
namespace {

using nlohmann::json;

struct ErrorName {
  Errc code;
  std::string_view name;
};
constexpr ErrorName kErrorNames[] = {
    {Errc::Invalid, "Invalid"},   {Errc::NotFound, "NotFound"},
    {Errc::Exists, "Exists"},     {Errc::Denied, "Denied"},
    {Errc::Busy, "Busy"},         {Errc::Unsupported, "Unsupported"},
    {Errc::Corrupt, "Corrupt"},   {Errc::Io, "Io"},
    {Errc::Lost, "Lost"},         {Errc::Timeout, "Timeout"},
    {Errc::Internal, "Internal"},
};

json error_reply(const Error& error) {
  auto name = std::ranges::find(kErrorNames, error.code(), &ErrorName::code);
  return {{"error", fmt::format("org.tenure.{}", name->name)},
          {"parameters", {{"message", error.what()}}}};
}

guest::Patience patience_of(const json& parameters) {
  return {.timeout = std::chrono::seconds(number<uint32_t>(parameters, "timeout_s").value_or(10)),
          .force = flag(parameters, "force").value_or(false)};
}

}  // namespace

const Api::Method Api::kMethods[] = {
    {"org.tenure.Define", &Api::define},
    {"org.tenure.Undefine", &Api::undefine},
    {"org.tenure.List", &Api::list},
    {"org.tenure.Status", &Api::status},
    {"org.tenure.Show", &Api::show},
    {"org.tenure.Start", &Api::start},
    {"org.tenure.Stop", &Api::stop},
    {"org.tenure.Save", &Api::save},
    {"org.tenure.Restore", &Api::restore},
    {"org.tenure.Dump", &Api::dump},
    {"org.tenure.Screenshot", &Api::screenshot},
    {"org.tenure.Kill", &Api::kill},
    {"org.tenure.Control", &Api::control},
    {"org.tenure.Attach", &Api::attach},
    {"org.tenure.Detach", &Api::detach},
    {"org.tenure.Snapshot", &Api::snapshot},
    {"org.tenure.BlockCommit", &Api::block_commit},
    {"org.tenure.BlockPull", &Api::block_pull},
    {"org.tenure.BlockCopy", &Api::block_copy},
    {"org.tenure.BlockJob", &Api::block_job},
    {"org.tenure.Set", &Api::set},
    {"org.tenure.Update", &Api::update},
    {"org.tenure.Console", &Api::console},
    {"org.tenure.VerifyLedger", &Api::verify_ledger},
    {"org.tenure.VerifyLive", &Api::verify_live},
    {"org.tenure.Info", &Api::info},
    {"org.varlink.service.GetInfo", &Api::service_info},
    {"org.varlink.service.GetInterfaceDescription", &Api::describe},
};

asio::awaitable<json> Api::call(json message, Requester who) {
  std::string complaint;
  try {
    std::string name = text(message, "method");
    auto method = std::ranges::find(kMethods, name, &Method::name);
    if (method == std::end(kMethods)) {
      json reply = {{"error", "org.varlink.service.MethodNotFound"},
                    {"parameters", {{"method", name}}}};
      co_return reply;
    }
    json parameters = message.value("parameters", json::object());
    if (!parameters.is_object())
      parameters = json::object();
    auto reply = co_await (this->*method->run)(std::move(parameters), std::move(who));
    if (!reply)
      co_return error_reply(reply.error());
    json whole = {{"parameters", std::move(*reply)}};
    co_return whole;
  } catch (const json::exception& error) {
    complaint = error.what();
  }
  co_return error_reply(Error{Errc::Invalid, "call: " + complaint});
}

Api::Reply Api::define(json parameters, Requester who) {
  std::string xml = text(parameters, "xml");
  std::string source = text(parameters, "source");
  CO_TRY(GuestName name,
         co_await guests_.define(std::move(xml), std::move(source), std::move(who)));
  json reply = {{"name", name.name}, {"uuid", name.uuid}};
  co_return reply;
}

Api::Reply Api::undefine(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  bool discard_saved = flag(parameters, "discard_saved").value_or(false);
  CO_TRY_OK(co_await guests_.undefine(std::move(guest), discard_saved, std::move(who)));
  co_return json::object();
}

Api::Reply Api::list(json, Requester) {
  json list = json::array();
  for (const auto& [uuid, definition] : guests_.definitions().all()) {
    auto guest = guests_.running(uuid);
    list.push_back({{"name", definition.name},
                    {"uuid", uuid},
                    {"state", guest ? guest->status() : "shut off"},
                    {"run", guest ? guest->state().ref.run : 0},
                    {"pid", guest ? guest->state().process.pid : 0},
                    {"saved", !guest && !guests_.saved_state(uuid).empty()},
                    {"defined", true}});
  }
  for (const auto& [uuid, guest] : guests_.all_running())
    if (guests_.definition(uuid) == nullptr)
      list.push_back({{"name", guest->state().ref.vm},
                      {"uuid", uuid},
                      {"state", guest->status()},
                      {"run", guest->state().ref.run},
                      {"pid", guest->state().process.pid},
                      {"saved", false},
                      {"defined", false}});
  json reply = {{"guests", std::move(list)}};
  co_return reply;
}

Api::Reply Api::status(json parameters, Requester) {
  CO_TRY(GuestName name, guests_.find(text(parameters, "guest")));
  json reply = {{"status", status_of(context_, guests_, drift_, name)}};
  reply["status"]["ledger"] = ledger_status(context_, witness_);
  co_return reply;
}

Api::Reply Api::show(json parameters, Requester) {
  CO_TRY(GuestName name, guests_.find(text(parameters, "guest")));
  const Definition* definition = guests_.definition(name.uuid);
  auto guest = guests_.running(name.uuid);
  json reply = {{"name", name.name}, {"uuid", name.uuid}, {"running_xml", nullptr}};
  reply["xml"] = definition != nullptr ? json(definition->xml) : json();
  if (guest) {
    CO_TRY(std::string live, guest::live_text(guest->state()));
    reply["running_xml"] = std::move(live);
  }
  co_return reply;
}

Api::Reply Api::start(json parameters, Requester who) {
  CO_TRY(StartOptions options, start_options(parameters));
  std::string xml = text(parameters, "xml");
  std::string source = text(parameters, "source");
  std::string name = text(parameters, "guest");
  Result<std::shared_ptr<guest::Guest>> guest = fail(Errc::Internal, "not tried");
  if (!parameters.contains("xml"))
    guest = co_await guests_.start(std::move(name), options, std::move(who));
  else
    guest = co_await guests_.start_xml(std::move(xml), std::move(source), options, std::move(who));
  if (!guest)
    co_return std::unexpected(std::move(guest).error());
  json reply = started(**guest);
  co_return reply;
}

Api::Reply Api::stop(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::chrono::seconds timeout(number<uint32_t>(parameters, "timeout_s").value_or(60));
  if (flag(parameters, "save").value_or(false)) {
    CO_TRY_OK(co_await guests_.stop_saving(std::move(guest), std::move(who)));
    co_return json::object();
  }
  CO_TRY_OK(co_await guests_.stop(std::move(guest), timeout, std::move(who)));
  co_return json::object();
}

Api::Reply Api::kill(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  CO_TRY_OK(co_await guests_.kill(std::move(guest), std::move(who)));
  co_return json::object();
}

Api::Reply Api::control(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::string verb = text(parameters, "verb");
  CO_TRY_OK(co_await guests_.control(std::move(verb), std::move(guest), std::move(who)));
  co_return json::object();
}

Api::Reply Api::attach(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::string xml = text(parameters, "xml");
  std::string source = text(parameters, "source");
  CO_TRY(std::string alias, co_await guests_.attach(std::move(guest), std::move(xml),
                                                    std::move(source), std::move(who)));
  json reply = {{"alias", alias}};
  co_return reply;
}

Api::Reply Api::detach(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::string device = text(parameters, "device");
  guest::Patience patience = patience_of(parameters);
  CO_TRY_OK(co_await guests_.detach(std::move(guest), std::move(device), patience, std::move(who)));
  co_return json::object();
}

Api::Reply Api::set(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  guest::Amounts amounts{.memory_kib = number<uint64_t>(parameters, "memory_kib"),
                         .vcpus = number<uint32_t>(parameters, "vcpus"),
                         .iothreads = number<uint32_t>(parameters, "iothreads")};
  guest::Patience patience{
      .timeout = std::chrono::seconds(number<uint32_t>(parameters, "timeout_s").value_or(10))};
  CO_TRY_OK(co_await guests_.set(std::move(guest), amounts, patience, std::move(who)));
  co_return json::object();
}

Api::Reply Api::update(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  std::string xml = text(parameters, "xml");
  std::string source = text(parameters, "source");
  guest::Patience patience = patience_of(parameters);
  CO_TRY(guest::Updated done, co_await guests_.update(std::move(guest), std::move(xml),
                                                      std::move(source), patience, std::move(who)));
  json reply = {{"alias", done.alias}, {"changes", done.changes}};
  co_return reply;
}

Api::Reply Api::console(json parameters, Requester) {
  CO_TRY(GuestName name, guests_.find(text(parameters, "guest")));
  auto guest = guests_.running(name.uuid);
  if (!guest)
    co_return fail(Errc::Busy, fmt::format("{} is not running", name.name));
  for (const registrar::Hold& hold : guest->holds()) {
    const trail::Record& record = hold.claim.record;
    if (record.kind != trail::Kind::Chardev)
      continue;
    std::string type(record.get("type").value_or(""));
    bool console =
        hold.claim.holder.starts_with("serial") || hold.claim.holder.starts_with("console");
    if (!console || (type != "pty" && type != "unix"))
      continue;
    json reply = {{"type", type}, {"path", hold.claim.id}};
    co_return reply;
  }
  co_return fail(
      Errc::Unsupported,
      fmt::format("{} has no serial port or console that can be reached (pty or unix)", name.name));
}

Api::Reply Api::verify_ledger(json, Requester who) {
  co_return co_await integrity_.verify_ledger(std::move(who));
}

Api::Reply Api::verify_live(json parameters, Requester who) {
  std::string guest = text(parameters, "guest");
  co_return co_await integrity_.verify_live(std::move(guest), std::move(who));
}

Api::Reply Api::info(json, Requester) {
  std::string fence = context_.fence_v2 != nullptr   ? "v2"
                      : context_.fence_v1 != nullptr ? "v1"
                                                     : "none";
  json reply = {{"version", TENURE_VERSION},
                {"pid", getpid()},
                {"fence", fence},
                {"no_fence_reason", context_.no_fence_reason},
                {"audit", audit_status(context_)},
                {"ledger", ledger_status(context_, witness_)},
                {"ledger_size", context_.journal.ledger().size()},
                {"published", context_.journal.ledger().published()}};
  co_return reply;
}

Api::Reply Api::service_info(json, Requester) {
  json reply = {{"vendor", "Tenure"},
                {"product", "tenured"},
                {"version", TENURE_VERSION},
                {"url", ""},
                {"interfaces", {"org.varlink.service", "org.tenure"}}};
  co_return reply;
}

Api::Reply Api::describe(json parameters, Requester) {
  if (text(parameters, "interface") != "org.tenure")
    co_return fail(Errc::NotFound, "interface: org.tenure is the one");
  json reply = {{"description", kInterface}};
  co_return reply;
}

}  // namespace tenure::daemon
