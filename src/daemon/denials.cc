// SPDX-License-Identifier: Apache-2.0
#include "daemon/denials.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <functional>
#include <map>
#include <utility>
#include <vector>

#include "base/clock.h"
#include "kernel/node.h"

namespace tenure::daemon {
namespace {

using namespace std::chrono_literals;

// Refusals that are alike within it are one record; also the longest that one waits for it, twice.
constexpr auto kWindow = 1s;
// Kinds of refusals a guest and window that get a record of their own; one that makes up more names
// than this shares a record for the rest.
constexpr size_t kMaxKinds = 64;
// Written at once: what somebody else has to write comes in between.
constexpr size_t kMaxRecords = 64;
// Runs whose refusals may still come after their end.
constexpr size_t kMaxOwners = 4096;

// Whose fence a slot is; no slot is ever given out twice.
struct Owner {
  registrar::RunRef ref;
  std::string cgroup;
  pid_t qemu = 0;
};

// What QEMU 7.2 and the libraries below it try by themselves and do without: a refusal of these
// says nothing of the guest.
struct HarmlessProbe {
  uint32_t major, minor;  // of a character device
};
constexpr HarmlessProbe kHarmless[] = {
    {1, 3},  // /dev/null: whether the kernel has OFD locks (util/osdep.c)
    {1, 8},  // /dev/random
    {1, 9},  // /dev/urandom: seeds of GLib and GnuTLS
    {5, 0},  // /dev/tty: terminal of a chardev in raw mode
};

class Watcher : public std::enable_shared_from_this<Watcher> {
 public:
  Watcher(guest::Context& context, kernel::FenceControl& fences, const Guests& guests)
      : context_(context),
        fences_(fences),
        guests_(guests),
        // A copy: the descriptor is the fence's, and Asio closes what it is given.
        bell_(context.executor, fcntl(fences.denials_fd(), F_DUPFD_CLOEXEC, 0)),
        window_(context.executor) {}

  asio::awaitable<void> run() {
    auto self = shared_from_this();  // for as long as it runs
    context_.fenced = [weak = weak_from_this()](const guest::RunState& state) {
      if (auto watcher = weak.lock())
        watcher->remember(state);
    };
    for (const auto& [uuid, guest] : guests_.all_running()) remember(guest->state());
    // Both windows may hold what an earlier daemon did not get to record.
    co_await record_closed();
    for (bool first = true; !stopped_; first = false) {
      if (auto begun = fences_.begin_window(); !begun) {
        context_.log("denials: " + begun.error().what());
        co_return;
      }
      asio::error_code error;
      window_.expires_after(first ? 0s : kWindow);
      co_await window_.async_wait(asio::redirect_error(asio::use_awaitable, error));
      if (stopped_)
        co_return;
      co_await record_closed();
      co_await bell_.async_wait(asio::posix::stream_descriptor::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
      if (error)
        co_return;
    }
  }

  void stop() {
    stopped_ = true;
    context_.fenced = {};
    asio::error_code ignored;
    bell_.cancel(ignored);
    window_.cancel();
  }

 private:
  void remember(const guest::RunState& state) {
    if (state.slot == 0)
      return;
    if (owners_.size() >= kMaxOwners)
      owners_.erase(owners_.begin());  // the oldest: slots grow
    owners_[state.slot] = {.ref = state.ref, .cgroup = state.cgroup_v2, .qemu = state.process.pid};
  }

  asio::awaitable<void> record_closed() {
    // Who runs by now has its QEMU's pid.
    for (const auto& [uuid, guest] : guests_.all_running()) remember(guest->state());
    std::map<uint32_t, std::vector<kernel::Denial>> by_slot;
    auto lost = fences_.drain_denials(
        [&](const kernel::Denial& denial) { by_slot[denial.slot].push_back(denial); });
    if (!lost) {
      context_.log("denials: " + lost.error().what());
      co_return;
    }
    std::vector<trail::Record> records;
    for (auto& [slot, denials] : by_slot) {
      merge_rest(denials);
      for (const kernel::Denial& denial : denials) {
        records.push_back(record_of(denial));
        if (records.size() == kMaxRecords)
          co_await write(std::exchange(records, {}));
      }
    }
    co_await write(std::move(records));
    if (auto done = fences_.denials_recorded(); !done)
      context_.log("denials: " + done.error().what());
  }

  // The most frequent ones stay as they are.
  static void merge_rest(std::vector<kernel::Denial>& denials) {
    std::ranges::sort(denials, std::greater<>(), &kernel::Denial::count);
    if (denials.size() <= kMaxKinds)
      return;
    kernel::Denial rest{.slot = denials.front().slot, .described = false, .count = 0, .comm = ""};
    for (size_t i = kMaxKinds; i < denials.size(); ++i) rest.count += denials[i].count;
    denials.resize(kMaxKinds);
    denials.push_back(std::move(rest));
  }

  asio::awaitable<void> write(std::vector<trail::Record> records) {
    if (records.empty())
      co_return;
    Result<> written = co_await context_.journal.write(std::move(records));
    if (!written && written.error().code() != Errc::Lost)
      context_.log("denials: " + written.error().what());
  }

  // CLOCK_BOOTTIME of the kernel to ms since 1970.
  static uint64_t realtime_ms(uint64_t boottime_ns) {
    int64_t offset = system_clock().realtime_ns() - system_clock().boottime_ns();
    return static_cast<uint64_t>((static_cast<int64_t>(boottime_ns) + offset) / 1'000'000);
  }

  static bool is_harmless(const kernel::Denial& denial, const Owner& owner) {
    bool by_qemu = denial.pid == owner.qemu || denial.comm.starts_with("qemu-");
    auto same = [&](const HarmlessProbe& probe) {
      return denial.type == DeviceType::Char && denial.major == probe.major &&
             denial.minor == probe.minor;
    };
    return by_qemu && std::ranges::any_of(kHarmless, same);
  }

  static void describe(trail::Record& record, const kernel::Denial& denial, const Owner& owner) {
    DeviceNumber dev{denial.type, denial.major, denial.minor};
    record.set("rdev", rdev_hex(dev)).set("acl", to_string(denial.access));
    record.set("devtype", denial.type == DeviceType::Block ? "b" : "c");
    if (auto path = kernel::device_path(dev))
      record.set("path", *path);
    record.set("by-pid", static_cast<uint64_t>(denial.pid)).set("by-comm", denial.comm);
    record.set("by-uid", uint64_t{denial.uid}).set("by-auid", uint64_t{denial.auid});
    record.set("first", realtime_ms(denial.boottime_ns))
        .set("last", realtime_ms(denial.last_boottime_ns));
    if (denial.probe)
      record.set("probe", "access");
    else if (is_harmless(denial, owner))
      record.set("probe", "qemu");
  }

  // Of a run that ended long ago, or while no tenured ran, only the slot is known.
  trail::Record record_of(const kernel::Denial& denial) const {
    auto known = owners_.find(denial.slot);
    Owner owner =
        known == owners_.end() ? Owner{.ref = {"qemu", "?", "?", 0}, .cgroup = "?"} : known->second;
    trail::Record record(trail::Kind::Denial);
    record.set("cgroup", owner.cgroup).set("count", denial.count);
    if (denial.described)
      describe(record, denial, owner);
    else
      record.set("rdev", "?").set("acl", "?").set("devtype", "?").set("by-comm", "(others)");
    record.set("virt", owner.ref.virt).set("vm", owner.ref.vm).set("uuid", owner.ref.uuid);
    if (owner.ref.run != 0)
      record.set("run", owner.ref.run);
    record.success = false;
    return record;
  }

  guest::Context& context_;
  kernel::FenceControl& fences_;
  const Guests& guests_;
  asio::posix::stream_descriptor bell_;
  asio::steady_timer window_;
  std::map<uint32_t, Owner> owners_;  // by slot
  bool stopped_ = false;
};

}  // namespace

std::shared_ptr<void> watch_denials(guest::Context& context, kernel::FenceControl& fences,
                                    const Guests& guests) {
  if (fences.denials_fd() < 0)
    return nullptr;
  auto watcher = std::make_shared<Watcher>(context, fences, guests);
  auto task = [watcher]() -> asio::awaitable<void> { co_await watcher->run(); };
  asio::co_spawn(context.executor, std::move(task), asio::detached);
  return {nullptr, [watcher](void*) { watcher->stop(); }};
}

}  // namespace tenure::daemon
