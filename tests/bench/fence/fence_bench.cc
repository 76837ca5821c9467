// SPDX-License-Identifier: Apache-2.0
// The numbers of the fence: allow and revoke, open() inside, reading back 1000 guests, beside what
// replacing the program for each change costs (a new map, load, attach, detach, as libvirt does).
#include <benchmark/benchmark.h>
#include <bpf/bpf.h>
#include <linux/bpf.h>

#include <algorithm>
#include <chrono>
#include <memory>

#include "tests/kernel/fence/support.h"

namespace tenure::kernel::testing {
namespace {

constexpr const char* kPins = "/sys/fs/bpf/tenure-bench";

// What all benchmarks share: own mounts, throw-away cgroups, one control. Null where v2 cannot be
// had.
struct Bench {
  explicit Bench(const CgroupMounts& mounts) : cgroups(mounts) {}
  ~Bench() { (void)remove_fence_pins(kPins); }
  Cgroups cgroups;
  std::unique_ptr<FenceControl> control;
};

std::unique_ptr<Bench> open_bench(benchmark::State& state) {
  auto mounts = find_cgroup_mounts().value();
  auto problem = missing_for_v2(mounts);
  if (problem.empty())
    problem = enter_own_mounts();
  if (!problem.empty()) {
    state.SkipWithError(problem.c_str());
    return nullptr;
  }
  auto bench = std::make_unique<Bench>(mounts);
  bench->control = open_fence_v2(kPins).value();
  return bench;
}

// An allow and a revoke in turns; the best of turns of 200 pairs beside the mean, since on a busy
// machine only what nobody interrupted tells what the change itself costs.
void change_rules(benchmark::State& state, Fence& fence) {
  constexpr int kPairsATurn = 200;
  AclRule allow = rule('c', 1, 3, "rw"), revoke = rule('c', 1, 3, "");
  double best = 1e12;
  for (auto _ : state) {
    auto begin = std::chrono::steady_clock::now();
    for (int i = 0; i < kPairsATurn; ++i)
      if (!fence.set(allow) || !fence.set(revoke))
        return state.SkipWithError("a change was refused");
    std::chrono::duration<double, std::nano> spent = std::chrono::steady_clock::now() - begin;
    best = std::min(best, spent.count() / (2 * kPairsATurn));
  }
  state.SetItemsProcessed(static_cast<int64_t>(state.iterations()) * 2 * kPairsATurn);
  state.counters["best_ns_a_change"] = best;
}

void v2_allow_and_revoke(benchmark::State& state) {
  auto bench = open_bench(state);
  if (!bench)
    return;
  auto cgroup = bench->cgroups.make(CgroupVersion::V2).value();
  change_rules(state, *bench->control->create(cgroup).value());
}
BENCHMARK(v2_allow_and_revoke)->Unit(benchmark::kMicrosecond)->Iterations(200);

void v1_allow_and_revoke(benchmark::State& state) {
  auto mounts = find_cgroup_mounts().value();
  if (auto problem = missing_for_v1(mounts); !problem.empty())
    return state.SkipWithError(problem.c_str());
  Cgroups cgroups(mounts);
  auto control = open_fence_v1().value();
  auto cgroup = cgroups.make(CgroupVersion::V1).value();
  change_rules(state, *control->create(cgroup).value());
}
BENCHMARK(v1_allow_and_revoke)->Unit(benchmark::kMicrosecond)->Iterations(100);

// The rival: a map of 64 rules is filled, a program for it loaded and attached, the old one
// detached.
int load_rival(int map) {
  bpf_insn program[] = {
      {BPF_LD | BPF_DW | BPF_IMM, BPF_REG_1, BPF_PSEUDO_MAP_FD, 0, map},
      {0, 0, 0, 0, 0},
      {BPF_ALU64 | BPF_MOV | BPF_K, BPF_REG_0, 0, 0, 1},
      {BPF_JMP | BPF_EXIT, 0, 0, 0, 0},
  };
  return bpf_prog_load(BPF_PROG_TYPE_CGROUP_DEVICE, "rival", "GPL", program, std::size(program),
                       nullptr);
}

void replace_the_program(benchmark::State& state) {
  auto bench = open_bench(state);
  if (!bench)
    return;
  auto cgroup = bench->cgroups.make(CgroupVersion::V2).value();
  int old = -1;
  for (auto _ : state) {
    int map = bpf_map_create(BPF_MAP_TYPE_HASH, "rival", 8, 4, 64, nullptr);
    for (uint64_t key = 0; key < 64; ++key) {
      uint32_t value = 6;
      bpf_map_update_elem(map, &key, &value, BPF_ANY);
    }
    int program = load_rival(map);
    if (program < 0 ||
        bpf_prog_attach(program, cgroup.dir_fd(), BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI) < 0) {
      state.SkipWithError("the rival does not load");
      break;
    }
    if (old >= 0)
      bpf_prog_detach2(old, cgroup.dir_fd(), BPF_CGROUP_DEVICE);
    if (old >= 0)
      close(old);
    old = program;
    close(map);
  }
  if (old >= 0)
    close(old);
}
BENCHMARK(replace_the_program)->Iterations(200);  // each makes records in the audit log

double ns_per_open(int count) {
  auto begin = std::chrono::steady_clock::now();
  for (int i = 0; i < count; ++i) close(open("/dev/null", O_RDWR | O_CLOEXEC));
  return std::chrono::duration<double, std::nano>(std::chrono::steady_clock::now() - begin)
             .count() /
         count;
}

// open + close of /dev/null, in turns outside and inside the fence, the best of each: on a busy
// machine only short turns that nobody interrupts tell anything. Argument: rules of the guest, of
// which the device's own is one.
void open_device(benchmark::State& state) {
  constexpr int kOpensATurn = 200;
  auto bench = open_bench(state);
  if (!bench)
    return;
  auto cgroup = bench->cgroups.make(CgroupVersion::V2).value();
  auto root = Cgroup::open(CgroupVersion::V2, bench->cgroups.mounts().v2).value();
  auto fence = bench->control->create(cgroup).value();
  (void)fence->set(rule('c', 1, 3, "rw"));
  for (uint32_t i = 1; i < state.range(0); ++i) (void)fence->set(rule('b', 7, i, "rw"));
  double outside = 1e9, inside = 1e9;
  for (auto _ : state) {
    outside = std::min(outside, ns_per_open(kOpensATurn));
    if (!cgroup.add(getpid()))
      return state.SkipWithError("cannot enter the cgroup");
    inside = std::min(inside, ns_per_open(kOpensATurn));
    if (!root.add(getpid()))
      return state.SkipWithError("cannot leave the cgroup");
  }
  state.counters["outside_ns"] = outside;
  state.counters["inside_ns"] = inside;
  state.counters["added_ns"] = inside - outside;
}
BENCHMARK(open_device)->Arg(1)->Arg(64)->Iterations(2000);

// Reads back all rules of that many guests of 20 rules, checks each attachment, compares.
void read_back(benchmark::State& state) {
  auto bench = open_bench(state);
  if (!bench)
    return;
  std::vector<std::unique_ptr<Fence>> fences;
  std::vector<const Fence*> pointers;
  std::vector<AclRule> wanted;
  for (uint32_t i = 0; i < 20; ++i) wanted.push_back(rule('c', 1, i, "rw"));
  for (int64_t i = 0; i < state.range(0); ++i) {
    auto cgroup = bench->cgroups.make(CgroupVersion::V2).value();
    fences.push_back(bench->control->create(cgroup).value());
    for (const AclRule& each : wanted) (void)fences.back()->set(each);
    pointers.push_back(fences.back().get());
  }
  for (auto _ : state)
    for (const auto& list : bench->control->list_all(pointers))
      if (!list || *list != wanted)
        state.SkipWithError("a guest differs");
}
BENCHMARK(read_back)->Arg(1)->Arg(100)->Arg(1000)->Unit(benchmark::kMillisecond);

// A new guest's fence: program attached, slot set, denial of all confirmed.
void fence_a_guest(benchmark::State& state) {
  auto bench = open_bench(state);
  if (!bench)
    return;
  for (auto _ : state) {
    state.PauseTiming();
    auto cgroup = bench->cgroups.make(CgroupVersion::V2).value();
    state.ResumeTiming();
    auto fence = bench->control->create(cgroup).value();
    benchmark::DoNotOptimize(fence->deny_all());
    state.PauseTiming();
    (void)cgroup.remove();
    state.ResumeTiming();
  }
}
BENCHMARK(fence_a_guest)->Iterations(200);

// The daemon's start with pins of a former one, and without.
void open_control(benchmark::State& state) {
  auto bench = open_bench(state);
  if (!bench)
    return;
  bool pinned = state.range(0) != 0;
  for (auto _ : state) {
    if (!pinned)
      (void)remove_fence_pins(kPins);
    benchmark::DoNotOptimize(open_fence_v2(kPins));
  }
}
BENCHMARK(open_control)->ArgName("pinned")->Arg(1)->Arg(0)->Iterations(20);

}  // namespace
}  // namespace tenure::kernel::testing

BENCHMARK_MAIN();
