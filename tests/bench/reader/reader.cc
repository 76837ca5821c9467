// SPDX-License-Identifier: Apache-2.0
// Speed of the reader's parts; and, for tests/bench/reading, a maker of logs and the floor that
// every line reader stands on: a loop over memchr.
//   bench_reader --generate BYTES SHARE FILE [SEED]   a log, SHARE (0..1) of whose bytes are VIRT_
//   bench_reader --memchr FILE                        counts its lines
//   bench_reader --splice FILE                        to standard output, a pipe, without a copy
//   bench_reader --drain                              standard input, a pipe, to nowhere, likewise
//   bench_reader --time COMMAND…                      "REAL CPU PEAK": seconds, seconds, MiB
//   resident
#include <benchmark/benchmark.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <chrono>

#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "model/json.h"
#include "reader/batch.h"
#include "reader/reading.h"
#include "reader/scan.h"
#include "tests/unit/reader/log_generator.h"

namespace {

using namespace tenure::reader;  // NOLINT(google-build-using-namespace): a program of one file

constexpr size_t kInCache = 512 << 10;  // as segments are when they are scanned
constexpr size_t kMany = 8 << 20;

std::string sample(double share, size_t bytes) {
  return LogGenerator({.seed = 7, .guests = 20, .virt_share = share}).text(bytes);
}

void set_bytes(benchmark::State& state, size_t bytes) {
  state.SetBytesProcessed(state.iterations() * static_cast<int64_t>(bytes));
}

void scan(benchmark::State& state, double share, void (*run)(std::string_view, ScanResult&)) {
  const std::string text = sample(share, kInCache);
  for (auto _ : state) {
    ScanResult out;
    run(text, out);
    benchmark::DoNotOptimize(out.lines.data());
  }
  set_bytes(state, text.size());
}

void decode(benchmark::State& state) {
  const std::string text = sample(1.0, kMany);
  for (auto _ : state) {
    const Batch batch = decode_block(text, {});
    benchmark::DoNotOptimize(batch.events.data());
  }
  set_bytes(state, text.size());
}

void book(benchmark::State& state) {
  const std::string text = sample(1.0, kMany);
  const Batch batch = decode_block(text, {});
  for (auto _ : state) {
    tenure::model::TenureBook book;
    uint64_t order = 0;
    for (const Event& event : batch.events) book.apply(event.view, ++order);
    benchmark::DoNotOptimize(book.tenures().size());
  }
  set_bytes(state, text.size());
  state.SetItemsProcessed(state.iterations() * static_cast<int64_t>(batch.events.size()));
}

BENCHMARK_CAPTURE(scan, three_per_cent, 0.03, scan_block);
BENCHMARK_CAPTURE(scan, three_per_cent_portable, 0.03, scan_paths().back().scan);
BENCHMARK_CAPTURE(scan, virt_only, 1.0, scan_block);
BENCHMARK(decode);
BENCHMARK(book);

int generate(size_t bytes, double share, const char* path, uint64_t seed) {
  FILE* file = std::fopen(path, "w");
  if (file == nullptr)
    return 1;
  LogGenerator generator({.seed = seed, .guests = 40, .virt_share = share});
  for (size_t written = 0; written < bytes;) {
    const std::string text = generator.next();
    written += std::fwrite(text.data(), 1, text.size(), file);
  }
  return std::fclose(file) == 0 ? 0 : 1;
}

int count_lines(const char* path) {
  const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
  const off_t size = fd < 0 ? 0 : ::lseek(fd, 0, SEEK_END);
  if (size <= 0)
    return 1;
  void* map = ::mmap(nullptr, static_cast<size_t>(size), PROT_READ, MAP_PRIVATE, fd, 0);
  if (map == MAP_FAILED)
    return 1;
  const char* at = static_cast<const char*>(map);
  const char* const end = at + size;
  size_t lines = 0;
  while ((at = static_cast<const char*>(std::memchr(at, '\n', static_cast<size_t>(end - at)))) !=
         nullptr) {
    ++lines;
    ++at;
  }
  std::printf("%zu\n", lines);
  return 0;
}

// splice(2) until the end; one of both is a pipe.
int move_all(int from, int to) {
  constexpr size_t kAtOnce = 1 << 20;
  ::fcntl(from, F_SETPIPE_SZ, kAtOnce);
  ssize_t moved = 0;
  do {
    moved = ::splice(from, nullptr, to, nullptr, kAtOnce, 0);
  } while (moved > 0);
  return moved == 0 ? 0 : 1;
}

// Its output goes to /dev/null.
int time_command(char** command) {
  const auto began = std::chrono::steady_clock::now();
  const pid_t pid = ::fork();
  if (pid == 0) {
    const int null = ::open("/dev/null", O_WRONLY | O_CLOEXEC);
    ::dup2(null, STDOUT_FILENO);
    ::dup2(null, STDERR_FILENO);
    ::execvp(command[0], command);
    ::_exit(127);
  }
  int status = 0;
  rusage usage{};
  if (pid < 0 || ::wait4(pid, &status, 0, &usage) != pid)
    return 1;
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - began;
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
  };
  std::printf("%.4f %.4f %.1f\n", took.count(), seconds(usage.ru_utime) + seconds(usage.ru_stime),
              static_cast<double>(usage.ru_maxrss) / 1024);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  const std::string_view word = argc > 1 ? argv[1] : "";
  if (word == "--generate" && argc >= 5) {
    const uint64_t seed = argc > 5 ? std::strtoull(argv[5], nullptr, 10) : 1;
    return generate(std::strtoull(argv[2], nullptr, 10), std::strtod(argv[3], nullptr), argv[4],
                    seed);
  }
  if (word == "--memchr" && argc == 3)
    return count_lines(argv[2]);
  if (word == "--splice" && argc == 3)
    return move_all(::open(argv[2], O_RDONLY | O_CLOEXEC), STDOUT_FILENO);
  if (word == "--drain")
    return move_all(STDIN_FILENO, ::open("/dev/null", O_WRONLY | O_CLOEXEC));
  if (word == "--time" && argc >= 3)
    return time_command(argv + 2);
  benchmark::Initialize(&argc, argv);
  benchmark::RunSpecifiedBenchmarks();
  return 0;
}
