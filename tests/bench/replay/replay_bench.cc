// SPDX-License-Identifier: Apache-2.0
// How long a starting tenured reads its ledger for: entries a second, of lives of guests with
// twelve disks each (intent, result, release), from the disk below the temporary folder.
#include <benchmark/benchmark.h>
#include <fmt/format.h>
#include <unistd.h>

#include <filesystem>

#include "ledger/ledger.h"
#include "registrar/replay.h"

namespace tenure::registrar {
namespace {

constexpr size_t kDisks = 12;
constexpr size_t kGuests = 100;

std::string entry(std::string_view state, uint64_t serial, std::string_view body) {
  return fmt::format(
      "type=VIRT_RESOURCE msg=audit(1751328000.250:{}): state={} pid=812 uid=0 auid=1001 ses=3 "
      "msg='{} exe=\"/usr/sbin/tenured\" hostname=? addr=? terminal=?{}'",
      serial, state, body, state == "intent" ? "" : " res=success");
}

// All entries of one life; `first` is the index of the first.
std::vector<std::string> life(uint64_t number, uint64_t first) {
  std::string vm = fmt::format("vm=\"guest-{0}\" uuid=6fe7fc2a-cc7c-4d6c-bb44-{0:012x} run={1}",
                               number % kGuests, number / kGuests + 1);
  std::vector<std::string> entries;
  auto disk = [](size_t n) { return fmt::format("\"/var/lib/images/disk-{}.qcow2\"", n); };
  for (size_t n = 0; n < kDisks; ++n)
    entries.push_back(
        entry("intent", 0,
              fmt::format("virt=kvm resrc=disk reason=start {} old-disk=? new-disk={} "
                          "dev=vd{} access=rw txn=812-{}",
                          vm, disk(n), n, number)));
  for (size_t n = 0; n < kDisks; ++n)
    entries.push_back(
        entry("confirmed", first + kDisks + n,
              fmt::format("virt=kvm resrc=disk reason=start {} old-disk=? new-disk={} "
                          "dev=vd{} access=rw grant={} txn=812-{}",
                          vm, disk(n), n, first + n, number)));
  for (size_t n = 0; n < kDisks; ++n)
    entries.push_back(entry("confirmed", first + 2 * kDisks + n,
                            fmt::format("virt=kvm resrc=disk reason=stop {} old-disk={} new-disk=? "
                                        "dev=vd{} access=rw grant={} txn=812-{}",
                                        vm, disk(n), n, first + n, number)));
  return entries;
}

void replay_ledger(benchmark::State& state) {
  auto path = std::filesystem::temp_directory_path() / fmt::format("replay-bench-{}", getpid());
  std::filesystem::create_directories(path);
  {
    auto ledger = *ledger::Ledger::open({path / "log", path / "key", "tenure/bench"});
    for (uint64_t number = 0; ledger->size() < static_cast<uint64_t>(state.range(0)); ++number)
      if (!ledger->append(life(number, ledger->size())))
        state.SkipWithError("append");
    if (!ledger->publish())
      state.SkipWithError("publish");
  }
  for (auto _ : state) {
    auto found = replay(path / "log");
    if (!found || !found->open.empty())
      state.SkipWithError("replay");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
  std::filesystem::remove_all(path);
}
BENCHMARK(replay_ledger)->Arg(36'000)->Arg(360'000)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tenure::registrar

BENCHMARK_MAIN();
