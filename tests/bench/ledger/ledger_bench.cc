// SPDX-License-Identifier: Apache-2.0
// Durable records a second, one operation's latency, publishing, opening and verifying. Figures
// depend on the disk below the temporary folder: TMPDIR chooses it.
#include <benchmark/benchmark.h>
#include <unistd.h>

#include <filesystem>
#include <thread>

#include "base/file.h"
#include "ledger/ledger.h"
#include "ledger/verify.h"

namespace tenure::ledger {
namespace {

// A usual VIRT_RESOURCE entry has about 300 bytes.
std::string record_text() {
  return "type=VIRT_RESOURCE msg=audit(1751328000.250:424): " + std::string(250, 'x');
}

class Folder {
 public:
  Folder()
      : path_(std::filesystem::temp_directory_path() /
              ("ledger-bench-" + std::to_string(getpid()))) {
    std::filesystem::remove_all(path_);
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  LedgerOptions options() const {
    return {(path_ / "log").string(), (path_ / "key").string(), "tenure/bench"};
  }
  std::unique_ptr<Ledger> open() const { return *Ledger::open(options()); }

 private:
  std::filesystem::path path_;
};

void append_batches(benchmark::State& state) {
  Folder folder;
  auto ledger = folder.open();
  std::vector<std::string> batch(static_cast<size_t>(state.range(0)), record_text());
  for (auto _ : state)
    if (!ledger->append(batch))
      state.SkipWithError("append");
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(append_batches)->Arg(1)->Arg(20)->Arg(1000)->Arg(10000)->UseRealTime();

// Appends in batches while a second thread publishes all the time: what a busy daemon does.
void append_and_publish(benchmark::State& state) {
  Folder folder;
  auto ledger = folder.open();
  std::vector<std::string> batch(1000, record_text());
  std::jthread publisher([&](const std::stop_token& stop) {
    while (!stop.stop_requested()) std::ignore = ledger->publish();
  });
  for (auto _ : state)
    if (!ledger->append(batch))
      state.SkipWithError("append");
  state.SetItemsProcessed(state.iterations() * 1000);
}
BENCHMARK(append_and_publish)->UseRealTime();

void publish_one_operation(benchmark::State& state) {
  Folder folder;
  auto ledger = folder.open();
  std::vector<std::string> batch(10, record_text());
  for (auto _ : state) {
    state.PauseTiming();
    if (!ledger->append(batch))
      state.SkipWithError("append");
    state.ResumeTiming();
    if (!ledger->publish())
      state.SkipWithError("publish");
  }
}
BENCHMARK(publish_one_operation)->UseRealTime();

void verify_ledger(benchmark::State& state) {
  Folder folder;
  std::vector<std::string> batch(10000, record_text());
  {
    auto ledger = folder.open();
    while (ledger->size() < static_cast<uint64_t>(state.range(0)))
      if (!ledger->append(batch))
        state.SkipWithError("append");
    if (!ledger->publish())
      state.SkipWithError("publish");
  }
  std::string vkey = *read_file(folder.options().key_path + ".pub", 1000);
  vkey.pop_back();
  for (auto _ : state) {
    auto report = verify(folder.options().dir, {.vkey = vkey});
    if (!report || !report->ok())
      state.SkipWithError("verify");
  }
  state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(verify_ledger)->Arg(100'000)->Unit(benchmark::kMillisecond);

void open_ledger(benchmark::State& state) {
  Folder folder;
  {
    auto ledger = folder.open();
    if (!ledger->append(std::vector<std::string>(30'000, record_text())) || !ledger->publish())
      state.SkipWithError("fill");
  }
  for (auto _ : state) benchmark::DoNotOptimize(folder.open());
}
BENCHMARK(open_ledger)->Unit(benchmark::kMicrosecond);

}  // namespace
}  // namespace tenure::ledger

BENCHMARK_MAIN();
