// SPDX-License-Identifier: Apache-2.0
#include "guest/run/end_of_run.h"

#include <array>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;

// Before each further try.
constexpr std::array<std::chrono::milliseconds, 3> kAgain{20ms, 200ms, 1s};
// What was waited for longer (a task that the kernel does not end) is no error of a moment.
constexpr auto kMoment = 1s;

}  // namespace

asio::awaitable<Result<std::vector<Hold>>> release_all(Context& context, registrar::RunRef run,
                                                       registrar::Txn txn, registrar::Seams& seams,
                                                       std::vector<Hold> holds,
                                                       registrar::Ending ending) {
  asio::steady_timer pause(context.executor);
  for (std::chrono::milliseconds delay : kAgain) {
    const auto begun = std::chrono::steady_clock::now();
    registrar::RunRef ref = run;
    registrar::Txn own = txn;
    registrar::Ending same = ending;
    CO_TRY(holds, co_await registrar::release(context.journal, std::move(ref), std::move(own),
                                              seams, std::move(holds), std::move(same)));
    if (holds.empty() || std::chrono::steady_clock::now() - begun > kMoment)
      co_return holds;
    pause.expires_after(delay);
    asio::error_code error;
    co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
  }
  co_return co_await registrar::release(context.journal, std::move(run), std::move(txn), seams,
                                        std::move(holds), std::move(ending));
}

}  // namespace tenure::guest
