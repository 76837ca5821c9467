// SPDX-License-Identifier: Apache-2.0
// Guests that go to a file and come back, and what else is written of them.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>

#include "base/file.h"
#include "daemon/guests.h"
#include "guest/change/save.h"

namespace tenure::daemon {
namespace {

using guest::Guest;
using registrar::Txn;

struct FileOp {
  std::string_view name;
  asio::awaitable<Result<>> (*run)(Guest&, FileRequest, Txn);
};

asio::awaitable<Result<>> run_save(Guest& guest, FileRequest request, Txn txn) {
  return guest.save(std::move(request.path), std::move(txn));
}

asio::awaitable<Result<>> run_dump(Guest& guest, FileRequest request, Txn txn) {
  return guest.dump(std::move(request.path), std::move(request.format), std::move(txn));
}

asio::awaitable<Result<>> run_screenshot(Guest& guest, FileRequest request, Txn txn) {
  return guest.screenshot(std::move(request.path), std::move(request.format), std::move(txn));
}

constexpr FileOp kFileOps[] = {
    {"save", run_save}, {"dump", run_dump}, {"screenshot", run_screenshot}};

}  // namespace

std::string Guests::saved_state(const std::string& uuid) const {
  std::string path = guest::managed_save_path(context_.paths, uuid);
  return access(path.c_str(), F_OK) == 0 ? path : "";
}

Result<> Guests::check_not_saved(const std::string& uuid, const std::string& path) const {
  std::string saved = saved_state(uuid);
  if (saved.empty() || saved == path)
    return {};
  return fail(Errc::Busy,
              fmt::format("its state is saved in {}; start the guest by its name to go on from "
                          "there, or forget that with --discard-saved",
                          saved));
}

asio::awaitable<Result<>> Guests::to_file(std::string guest, FileRequest request, Requester who) {
  std::string op = request.op;
  CO_TRY(auto found, co_await running_or_refuse(op, std::move(guest), who));
  auto known = std::ranges::find(kFileOps, request.op, &FileOp::name);
  Result<> done = fail(Errc::Invalid, op + ": no such operation");
  GuestName name{found->state().ref.vm, found->state().ref.uuid};
  std::string id = context_.new_txn();
  if (known != std::end(kFileOps)) {
    Txn txn{.id = id, .who = who};
    done = co_await known->run(*found, std::move(request), std::move(txn));
  }
  if (!done)
    co_return std::unexpected(co_await refuse(std::move(op), std::move(name), std::move(who),
                                              done.error(), std::move(id)));
  // A save ends the guest, which may leave something behind.
  co_return found->outcome();
}

asio::awaitable<Result<>> Guests::stop_saving(std::string guest, Requester who) {
  auto name = find(guest);
  if (name && running(name->uuid) && definition(name->uuid) == nullptr) {
    std::string op = "stop";
    Error why{Errc::Unsupported,
              fmt::format("{}: not defined, so nothing would start it again; use `tenure save`",
                          name->name)};
    co_return std::unexpected(
        co_await refuse(std::move(op), *name, std::move(who), std::move(why)));
  }
  CO_TRY_OK(make_dirs(context_.paths.state + "/save", 0700));
  FileRequest request{.op = "save",
                      .path = name ? guest::managed_save_path(context_.paths, name->uuid) : "",
                      .format = ""};
  co_return co_await to_file(std::move(guest), std::move(request), std::move(who));
}

asio::awaitable<Result<std::shared_ptr<Guest>>> Guests::restore(std::string path,
                                                                StartOptions options,
                                                                Requester who) {
  GuestName name{path, ""};
  auto saved = guest::open_saved(path);
  auto domain = std::make_unique<domain::Domain>();
  Result<> usable;
  if (!saved) {
    usable = fail(saved.error());
  } else {
    name = {saved->run.ref.vm, saved->run.ref.uuid};
    auto live = guest::live_domain(saved->run);
    if (live)
      *domain = std::move(*live);
    usable = live ? check_free(*domain) : fail(std::move(live).error().context(path));
    if (usable && !options.discard_saved)
      usable = check_not_saved(to_string(domain->uuid), path);
  }
  if (!usable) {
    std::string op = "restore";
    co_return std::unexpected(
        co_await refuse(std::move(op), std::move(name), std::move(who), usable.error()));
  }
  std::string kept = saved_state(to_string(domain->uuid));
  saved->once = path == kept;
  if (!saved->once && !kept.empty() && unlink(kept.c_str()) < 0)  // discard_saved
    context_.log(sys_error("remove", kept).what());
  co_return co_await launch(std::move(domain), std::move(*saved), options, std::move(who));
}

}  // namespace tenure::daemon
