// SPDX-License-Identifier: Apache-2.0
#include "guest/run/end_of_run.h"

#include <fmt/format.h>

#include "guest/run/again.h"
#include "guest/run/run_state.h"
#include "kernel/process.h"

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
    ending.repeated = true;
    co_await pause(context, delay);
  }
  co_return co_await registrar::release(context.journal, std::move(run), std::move(txn), seams,
                                        std::move(holds), std::move(ending));
}

std::shared_ptr<registrar::Seams> kept_with(std::unique_ptr<domain::Domain> domain,
                                            std::unique_ptr<RunSeams> seams) {
  struct Both {
    std::unique_ptr<domain::Domain> domain;
    std::unique_ptr<RunSeams> seams;
  };
  auto both = std::make_shared<Both>(std::move(domain), std::move(seams));
  return {both, both->seams.get()};
}

asio::awaitable<void> end_left_over(Context& context, LeftOver& left) {
  if (!left.seams)
    co_return;
  const int64_t now_ms = system_clock().realtime_ns() / 1'000'000;
  registrar::RunRef ref = left.ref;
  registrar::Txn txn{.id = context.new_txn(), .who = kernel::own_requester()};
  registrar::Ending ending{.reason = "stop",
                           .why = "it could not be taken away when the guest ended",
                           .bounds = registrar::Bounds{left.tried_ms, now_ms},
                           .staying = nullptr,
                           .repeated = true};
  std::vector<Hold> holds = left.holds;
  auto still = co_await registrar::release(context.journal, std::move(ref), std::move(txn),
                                           *left.seams, std::move(holds), std::move(ending));
  Result<> done = co_await context.journal.commit();
  if (still) {
    left.holds = std::move(*still);
    left.tried_ms = now_ms;
  } else {
    done = std::unexpected(std::move(still).error());
  }
  if (done && left.holds.empty())
    done = forget_run(context.paths, left.ref.uuid);
  if (!done)
    context.log(fmt::format("{}: {}", left.ref.vm, done.error().what()));
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
