// SPDX-License-Identifier: Apache-2.0
#include "guest/run/end_of_run.h"

#include <fmt/format.h>

#include "guest/run/again.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using registrar::Hold;

// What was waited for longer (a task that the kernel does not end) is no error of a moment.
constexpr auto kMoment = 1s;
constexpr size_t kShown = 5;  // tenures in one message; `tenure status` has them all

}  // namespace

asio::awaitable<Result<std::vector<Hold>>> release_all(Context& context, registrar::RunRef run,
                                                       registrar::Txn txn, registrar::Seams& seams,
                                                       std::vector<Hold> holds,
                                                       registrar::Ending ending) {
  for (std::chrono::milliseconds delay : kAgain) {
    const auto begun = std::chrono::steady_clock::now();
    registrar::RunRef ref = run;
    registrar::Txn own = txn;
    registrar::Ending same = ending;
    CO_TRY(holds, co_await registrar::release(context.journal, std::move(ref), std::move(own),
                                              seams, std::move(holds), std::move(same)));
    if (holds.empty() || std::chrono::steady_clock::now() - begun > kMoment)
      co_return holds;
    co_await pause(context, delay);
  }
  co_return co_await registrar::release(context.journal, std::move(run), std::move(txn), seams,
                                        std::move(holds), std::move(ending));
}

std::string still_held(const Hold& hold) {
  const model::Claim& claim = hold.claim;
  return fmt::format("grant {}, {} {}{}: {}", hold.grant, claim.kind, claim.id,
                     claim.holder.empty() ? "" : " (" + claim.holder + ")", hold.kept);
}

std::string still_held(const std::vector<Hold>& holds) {
  std::string text =
      fmt::format("still held: {} tenure{}", holds.size(), holds.size() == 1 ? "" : "s");
  for (size_t i = 0; i < holds.size() && i < kShown; ++i)
    text += (i == 0 ? ": " : "; ") + still_held(holds[i]);
  if (holds.size() > kShown)
    text += fmt::format("; and {} more", holds.size() - kShown);
  return text;
}

}  // namespace tenure::guest
