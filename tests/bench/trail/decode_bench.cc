// SPDX-License-Identifier: Apache-2.0
// Bytes a second of one core for lines that are VIRT records only, as a start of a guest writes
// them.
#include <benchmark/benchmark.h>

#include "trail/decode.h"

namespace tenure::trail {
namespace {

std::string start_of_a_guest() {
  constexpr std::string_view kHead =
      "pid=22730 uid=0 auid=4294967295 ses=4294967295 msg='virt=qemu ";
  constexpr std::string_view kName = " vm=\"anchor\" uuid=6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875 ";
  constexpr std::string_view kEnd =
      " exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=success'\x1DUID=\"root\" "
      "AUID=\"unset\"\n";
  constexpr std::string_view kCgroup =
      "cgroup=\"/sys/fs/cgroup/devices/machine/qemu-2-anchor.libvirt-qemu/\" class=path ";
  std::string text;
  int serial = 9809;
  auto add = [&](std::string_view what, std::string_view rest) {
    text += "type=VIRT_RESOURCE msg=audit(1795347816.375:" + std::to_string(serial++) + "): ";
    text.append(kHead).append(what).append(kName).append(rest).append(kEnd);
  };
  for (std::string_view node : {"null\" rdev=01:03", "full\" rdev=01:07", "loop0\" rdev=07:00"})
    add("resrc=cgroup reason=allow",
        std::string(kCgroup) + "path=\"/dev/" + std::string(node) + " acl=rw");
  add("resrc=disk reason=start", "old-disk=\"?\" new-disk=\"/var/lib/libvirt/images/top.qcow2\"");
  add("resrc=net reason=start", "old-net=\"?\" new-net=\"52:54:00:00:00:01\"");
  add("resrc=mem reason=start", "old-mem=0 new-mem=524288");
  return text;
}

void BM_DecodeVirtLines(benchmark::State& state) {
  const std::string once = start_of_a_guest();
  std::string text;
  while (text.size() < 16 << 20) text += once;
  FieldSet fields;
  uint64_t sum = 0;
  for (auto _ : state) {
    for (size_t at = 0; at < text.size();) {
      size_t end = text.find('\n', at);
      auto line = decode_line(std::string_view(text).substr(at, end - at));
      fields.collect(*line);
      sum += line->serial + fields.raw(Key::Uuid).size() + fields.raw(Key::Res).size();
      at = end + 1;
    }
  }
  benchmark::DoNotOptimize(sum);
  state.SetBytesProcessed(static_cast<int64_t>(state.iterations()) *
                          static_cast<int64_t>(text.size()));
}
BENCHMARK(BM_DecodeVirtLines)->Unit(benchmark::kMillisecond);

}  // namespace
}  // namespace tenure::trail

BENCHMARK_MAIN();
