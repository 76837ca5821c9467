// SPDX-License-Identifier: Apache-2.0
// The tenure book on 100,000 records of 50 guests that start, attach and stop: time, and the memory
// that the process grows by (the promise is 64 MB).
#include <benchmark/benchmark.h>
#include <malloc.h>

#include <string>
#include <vector>

#include "model/json.h"
#include "model/tenure_book.h"

namespace tenure::model {
namespace {

constexpr size_t kRecords = 100'000;

class Log {
 public:
  Log() {
    while (lines.size() < kRecords) life(static_cast<int>(lines.size() / 20 % 50));
  }
  std::vector<std::string> lines;

 private:
  void add(int guest, std::string_view type, std::string_view what, std::string_view rest) {
    std::string line = "type=" + std::string(type) + " msg=audit(" +
                       std::to_string(1795347816 + lines.size() / 10) +
                       ".375:" + std::to_string(lines.size() + 1) +
                       "): pid=1 uid=0 auid=1 ses=1 msg='virt=kvm ";
    line.append(what).append(" vm=\"guest").append(std::to_string(guest));
    line.append("\" uuid=6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e8").append(std::to_string(10 + guest));
    line.append(" ").append(rest);
    line.append(" exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=success'");
    lines.push_back(std::move(line));
  }
  void life(int guest) {
    auto resource = [&](std::string_view what, std::string_view rest) {
      add(guest, "VIRT_RESOURCE", what, rest);
    };
    std::string disk = "/dev/vg/guest" + std::to_string(guest);
    std::string cgroup = "cgroup=\"/machine/qemu-" + std::to_string(lines.size()) + "\" class=";
    add(guest, "VIRT_MACHINE_ID", "", "vm-ctx=a img-ctx=b model=dac");
    resource("resrc=cgroup reason=deny", cgroup + "all");
    for (int i = 0; i < 9; ++i)
      resource("resrc=cgroup reason=allow", cgroup + "path path=\"/dev/n" + std::to_string(i) +
                                                "\" rdev=01:0" + std::to_string(i) + " acl=rw");
    resource("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"" + disk + "\"");
    resource("resrc=net reason=start", "old-net=\"?\" new-net=\"52:54:00:00:00:01\"");
    resource("resrc=mem reason=start", "old-mem=0 new-mem=524288");
    add(guest, "VIRT_CONTROL", "op=start reason=booted", "vm-pid=1");
    resource("resrc=disk reason=attach", "old-disk=\"?\" new-disk=\"" + disk + "-b\"");
    resource("resrc=disk reason=detach", "old-disk=\"" + disk + "-b\" new-disk=\"?\"");
    add(guest, "VIRT_CONTROL", "op=stop reason=destroyed", "vm-pid=0");
  }
};

const Log& log() {
  static const Log the_log;
  return the_log;
}

// Heap in use, with the blocks that malloc maps apart.
double heap_mb() {
  auto info = mallinfo2();
  return static_cast<double>(info.uordblks + info.hblkhd) / 1e6;
}

void apply_all(TenureBook& book) {
  uint64_t order = 0;
  for (const std::string& line : log().lines) book.apply(*trail::decode_line(line), order++);
}

void BM_ApplyRecords(benchmark::State& state) {
  log();
  for (auto _ : state) {
    double before = heap_mb();
    TenureBook book;
    apply_all(book);
    state.counters["tenures"] = static_cast<double>(book.tenures().size());
    state.counters["MB"] = heap_mb() - before;
  }
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(kRecords));
}
BENCHMARK(BM_ApplyRecords)->Unit(benchmark::kMillisecond);

void BM_WriteJson(benchmark::State& state) {
  TenureBook book;
  apply_all(book);
  std::string out;
  for (auto _ : state) {
    out.clear();
    for (const Tenure& tenure : book.tenures()) append_json_line(out, tenure, book.run_of(tenure));
  }
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(out.size()));
}
BENCHMARK(BM_WriteJson)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tenure::model

BENCHMARK_MAIN();
