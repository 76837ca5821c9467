// SPDX-License-Identifier: Apache-2.0
#include "guest/change/reboot.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "guest/run/ask.h"

namespace tenure::guest {
namespace {

using nlohmann::json;

std::shared_ptr<Events::Expected> expect(Live& live, std::string name) {
  return live.events.expect(
      [name = std::move(name)](const qemu::QmpEvent& event) { return event.name == name; });
}

// What QEMU does when the guest has shut down: poweroff ends it, pause keeps it.
asio::awaitable<Result<>> on_shutdown(Live& live, std::string action) {
  qemu::Command command{"set-action", {{"shutdown", action}}};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  co_return Result<>{};
}

asio::awaitable<Result<>> press_and_reset(Live& live, std::chrono::seconds timeout) {
  auto down = expect(live, "SHUTDOWN");
  qemu::Command command{"system_powerdown", json::object()};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  auto event = co_await down->wait(timeout);
  if (!event)
    co_return fail(Errc::Timeout,
                   fmt::format("the guest did not shut down within {} s; `tenure reset {}` does "
                               "not ask it",
                               timeout.count(), live.state.ref.vm));
  // QEMU refuses `cont` until it has done the reset, which it only notes at first.
  auto done = expect(live, "RESET");
  command = {"system_reset", json::object()};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  auto reset = co_await done->wait(kCommandTimeout);
  if (!reset)
    co_return fail(Errc::Timeout, "QEMU did not reset the guest");
  command = {"cont", json::object()};
  CO_TRY_OK(co_await ask(live, std::move(command)));
  co_return Result<>{};
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
