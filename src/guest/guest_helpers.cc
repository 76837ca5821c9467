// SPDX-License-Identifier: Apache-2.0
// The helpers of a running guest: one that ends by itself is recorded when it does. One that ends
// because QEMU does, or with its device, is recorded with that.
#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>

#include "guest/change/helper_end.h"
#include "guest/guest.h"
#include "guest/run/helpers.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

// QEMU hangs up before it has ended: the helper may be seen to go first.
constexpr auto kEnding = 100ms;
// After its word that it shuts down: it still writes out its disks.
constexpr auto kShuttingDown = 5s;

}  // namespace

void Guest::watch_helpers() {
  auto self = shared_from_this();
  for (const auto& [name, helper] : live_.seams->helpers()) {
    const kernel::ProcessId process = helper.state.process;
    if (std::ranges::find(watched_helpers_, process) != watched_helpers_.end())
      continue;
    watched_helpers_.push_back(process);
    auto task = [self, alias = name, process]() mutable -> asio::awaitable<void> {
      co_await self->watch_helper(std::move(alias), process);
    };
    asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
  }
}

asio::awaitable<void> Guest::watch_helper(std::string alias, kernel::ProcessId process) {
  {
    auto helper = live_.seams->helpers().find(alias);
    if (helper == live_.seams->helpers().end() || helper->second.state.process != process)
      co_return;
    // A copy: whoever ends the helper forgets it.
    asio::posix::stream_descriptor ending(live_.context.executor,
                                          fcntl(helper->second.pidfd.get(), F_DUPFD_CLOEXEC, 0));
    asio::error_code error;
    co_await ending.async_wait(asio::posix::stream_descriptor::wait_read,
                               asio::redirect_error(asio::use_awaitable, error));
    if (error)
      co_return;  // the daemon is going away; the helper goes on
  }
  auto helper = live_.seams->helpers().find(alias);
  bool ours = helper != live_.seams->helpers().end() && helper->second.state.process == process;
  std::string how = ours ? how_it_ended(helper->second) : "";
  if (ours)
    co_await lose_helper(std::move(alias), process, std::move(how));
  std::erase(watched_helpers_, process);
}

asio::awaitable<void> Guest::lose_helper(std::string alias, kernel::ProcessId process,
                                         std::string how) {
  auto patience = shutdown_reason_.empty() ? std::chrono::milliseconds(kEnding)
                                           : std::chrono::milliseconds(kShuttingDown);
  bool ending = kernel::is_ending(live_.state.process.pid);
  if (!ended_ && !ending)
    ending = co_await exits_within(live_.context.executor, pidfd_.native_handle(), patience);
  registrar::Turns::Turn turn = co_await live_.turns.next();
  auto helper = live_.seams->helpers().find(alias);
  // Gone with its device, or with QEMU.
  if (ended_ || ending || helper == live_.seams->helpers().end() ||
      helper->second.state.process != process)
    co_return;
  std::string why = fmt::format("its server, {} ({}), ended by itself{}", helper->second.state.kind,
                                process.pid, how.empty() ? "" : ": " + how);
  live_.context.log(fmt::format("{}: {}: {}", live_.state.ref.vm, alias, why));
  registrar::Txn txn = own_txn();
  Result<> noted =
      co_await note_helper_ended(live_, std::move(alias), std::move(why), std::move(txn));
  if (!noted)
    live_.context.log(fmt::format("{}: {}", live_.state.ref.vm, noted.error().what()));
}

}  // namespace tenure::guest
