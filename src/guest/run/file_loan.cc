// SPDX-License-Identifier: Apache-2.0
#include "guest/run/file_loan.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;
using registrar::Hold;

// QEMU closes a file in its main loop, some time after the event that it is done; there is no event
// for that.
constexpr auto kCloseTimeout = 5s;
constexpr auto kLook = 2ms;
constexpr std::array<std::string_view, 4> kRoles{"save", "restore", "dump", "screenshot"};

// A block device is let through the fence first: the record that readers of libvirt's trail look
// for, and QEMU may open it anew by its descriptor (/proc/self/fd). Without a fence there is no
// rule, and nothing is said of one.
std::vector<model::Claim> claims_on(const kernel::HostFile& file, std::string_view role,
                                    const Borrower& to) {
  std::vector<model::Claim> claims;
  std::string_view access = role == "restore" ? "r" : "w";
  trail::Record lent(trail::Kind::File);
  lent.set("reason", "open").set("old-file", "?").set("new-file", file.path);
  lent.set("role", role).set("access", access);
  if (file.rdev) {
    std::string rdev = rdev_hex(*file.rdev);
    lent.set("devtype", "b").set("rdev", rdev);
    const RunState& state = to.state;
    trail::Record rule(trail::Kind::CgroupPath);
    rule.set("reason", "allow")
        .set("cgroup", state.fence == "v2" ? state.cgroup_v2 : state.cgroup_v1)
        .set("path", file.path)
        .set("rdev", rdev)
        .set("acl", access)
        .set("devtype", "b")
        .set("for", role);
    if (to.seams.fence() != nullptr)
      claims.push_back(model::claim_of(std::move(rule)));
  }
  claims.push_back(model::claim_of(std::move(lent)));
  return claims;
}

asio::awaitable<void> until_closed(Borrower to, const std::vector<Hold>& loans) {
  asio::steady_timer timer(to.context.executor);
  auto deadline = std::chrono::steady_clock::now() + kCloseTimeout;
  auto open = [&](const Hold& hold) { return !to.seams.confirm_gone(hold.claim, {}); };
  while (std::ranges::any_of(loans, open) && std::chrono::steady_clock::now() < deadline) {
    timer.expires_after(kLook);
    asio::error_code error;
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
}

}  // namespace

bool is_loan(const model::Claim& claim) {
  bool kind =
      claim.record.kind == trail::Kind::File || claim.record.kind == trail::Kind::CgroupPath;
  return kind && std::ranges::find(kRoles, claim.holder) != kRoles.end();
}

asio::awaitable<Result<std::vector<Hold>>> end_loans(Borrower to, registrar::Txn txn,
                                                     std::vector<Hold> loans, std::string why) {
  co_await until_closed(to, loans);
  registrar::RunRef ref = to.state.ref;
  registrar::Ending ending{
      .reason = "close", .why = std::move(why), .bounds = {}, .staying = &to.holds};
  auto left = co_await registrar::release(to.context.journal, std::move(ref), std::move(txn),
                                          to.seams, std::move(loans), std::move(ending));
  Result<> committed = co_await to.context.journal.commit();
  if (!committed)
    to.context.log(fmt::format("{}: {}", to.state.ref.vm, committed.error().what()));
  co_return left;
}

asio::awaitable<Result<>> FileLoan::give(const kernel::HostFile& file) {
  if (by_ == LoanBy::Name) {
    qemu::Command command{"getfd", {{"fdname", name_}}, {file.fd.get()}};
    CO_TRY_OK(co_await ask(to_.qmp, std::move(command)));
    co_return Result<>{};
  }
  qemu::Command command{"add-fd", json::object(), {file.fd.get()}};
  CO_TRY(json answer, co_await ask(to_.qmp, std::move(command)));
  if (!answer.is_object() || !answer.contains("fdset-id") ||
      !answer["fdset-id"].is_number_integer())
    co_return fail(Errc::Corrupt, "add-fd: no fdset-id in QEMU's answer");
  fdset_ = answer["fdset-id"].get<int64_t>();
  name_ = fmt::format("/dev/fdset/{}", fdset_);
  co_return Result<>{};
}

// QEMU's answer says that it took a descriptor; that it is one of this file is seen in its table.
asio::awaitable<Result<>> FileLoan::look(const kernel::HostFile& file) const {
  CO_TRY(std::vector<kernel::OpenFile> files, kernel::open_files(to_.state.process.pid));
  auto same = [&](const kernel::OpenFile& open) {
    return open.dev == file.dev && open.ino == file.ino;
  };
  if (std::ranges::any_of(files, same))
    co_return Result<>{};
  co_return fail(Errc::Internal, file.path + ": QEMU does not have it open");
}

asio::awaitable<Result<std::string>> FileLoan::lend(const kernel::HostFile& file, std::string role,
                                                    LoanBy by) {
  by_ = by;
  name_ = "loan-" + role;
  std::vector<model::Claim> claims = claims_on(file, role, to_);
  CO_TRY_OK(co_await operation_.intend(std::move(claims), std::nullopt));
  Result<> done = co_await operation_.apply();
  bool allowed = done.has_value();
  if (allowed)
    done = co_await give(file);
  if (allowed && done)
    done = co_await look(file);
  if (allowed && !done)
    operation_.refuse_unconfirmed();
  if (done)
    done = co_await operation_.conclude(std::nullopt);
  if (done)
    co_return name_;
  if (allowed)
    co_await take_back();
  Error why = std::move(done).error();
  Result<> undone = co_await operation_.roll_back(std::nullopt, why);
  for (Hold& hold : operation_.take_holds()) to_.holds.push_back(std::move(hold));
  if (!undone)
    to_.context.log(fmt::format("{}: {}: {}", to_.state.ref.vm, role, undone.error().what()));
  co_return std::unexpected(std::move(why));
}

// Refused where the command has used it up, or QEMU is gone.
asio::awaitable<void> FileLoan::take_back() {
  qemu::Command command{"closefd", {{"fdname", name_}}};
  if (by_ == LoanBy::FdSet)
    command = {"remove-fd", {{"fdset-id", fdset_}}};
  if (by_ == LoanBy::Name || fdset_ >= 0)
    (void)co_await ask(to_.qmp, std::move(command));
}

asio::awaitable<Result<>> FileLoan::end(std::string why) {
  co_await take_back();
  std::vector<Hold> loans = operation_.take_holds();
  CO_TRY(std::vector<Hold> left, co_await end_loans(to_, txn_, std::move(loans), std::move(why)));
  if (left.empty())
    co_return Result<>{};
  std::string text = fmt::format("{}: QEMU still has it open", left.front().claim.id);
  for (Hold& hold : left) to_.holds.push_back(std::move(hold));
  co_return fail(Errc::Busy, std::move(text));
}

}  // namespace tenure::guest
