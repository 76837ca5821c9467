// SPDX-License-Identifier: Apache-2.0
#include "guest/reboot.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto kCommandTimeout = 5s;

asio::awaitable<Result<>> ask(Live& live, std::string command, json arguments) {
  std::string name = command;
  auto answer =
      co_await live.qmp->execute(std::move(command), std::move(arguments), kCommandTimeout);
  if (!answer)
    co_return std::unexpected(std::move(answer).error().context(name));
  co_return Result<>{};
}

asio::awaitable<Result<>> ask(Live& live, std::string command) {
  json arguments = json::object();
  co_return co_await ask(live, std::move(command), std::move(arguments));
}

std::shared_ptr<Events::Expected> expect(Live& live, std::string name) {
  return live.events.expect(
      [name = std::move(name)](const qemu::QmpEvent& event) { return event.name == name; });
}

// What QEMU does when the guest has shut down: poweroff ends it, pause keeps it.
asio::awaitable<Result<>> on_shutdown(Live& live, std::string action) {
  json arguments = {{"shutdown", action}};
  std::string command = "set-action";
  co_return co_await ask(live, std::move(command), std::move(arguments));
}

asio::awaitable<Result<>> press_and_reset(Live& live, std::chrono::seconds timeout) {
  auto down = expect(live, "SHUTDOWN");
  std::string command = "system_powerdown";
  CO_TRY_OK(co_await ask(live, std::move(command)));
  auto event = co_await down->wait(timeout);
  if (!event)
    co_return fail(Errc::Timeout,
                   fmt::format("the guest did not shut down within {} s; `tenure reset {}` does "
                               "not ask it",
                               timeout.count(), live.state.ref.vm));
  // QEMU refuses `cont` until it has done the reset, which it only notes at first.
  auto done = expect(live, "RESET");
  command = "system_reset";
  CO_TRY_OK(co_await ask(live, std::move(command)));
  auto reset = co_await done->wait(kCommandTimeout);
  if (!reset)
    co_return fail(Errc::Timeout, "QEMU did not reset the guest");
  command = "cont";
  co_return co_await ask(live, std::move(command));
}

}  // namespace

asio::awaitable<Result<>> reboot(Live& live, std::chrono::seconds timeout) {
  std::string action = "pause";
  CO_TRY_OK(co_await on_shutdown(live, std::move(action)));
  Result<> done = co_await press_and_reset(live, timeout);
  action = "poweroff";
  Result<> back = co_await on_shutdown(live, std::move(action));
  if (!done)
    co_return done;
  co_return back;
}

}  // namespace tenure::guest
