// SPDX-License-Identifier: Apache-2.0
#include "daemon/denials.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <map>
#include <tuple>

#include "base/clock.h"
#include "kernel/node.h"

namespace tenure::daemon {
namespace {

using namespace std::chrono_literals;

// Merging window; also the longest that a refusal waits for its record.
constexpr auto kWindow = 1s;
// Distinct (guest, device, access, command) of one window; a guest that makes up more names than
// this shares one row.
constexpr size_t kMaxRows = 4096;

struct Row {
  kernel::Denial first;
  uint64_t last_ns = 0;
  uint64_t count = 0;
};
using Key = std::tuple<uint32_t, char, uint32_t, uint32_t, Access, std::string>;

class Watcher : public std::enable_shared_from_this<Watcher> {
 public:
  Watcher(guest::Context& context, kernel::FenceControl& fences, const Guests& guests)
      : context_(context),
        fences_(fences),
        guests_(guests),
        // A copy: the descriptor is the fence's, and Asio closes what it is given.
        ring_(context.executor, fcntl(fences.denials_fd(), F_DUPFD_CLOEXEC, 0)),
        window_(context.executor) {}

  asio::awaitable<void> run() {
    auto self = shared_from_this();  // for as long as it runs
    for (;;) {
      asio::error_code error;
      co_await ring_.async_wait(asio::posix::stream_descriptor::wait_read,
                                asio::redirect_error(asio::use_awaitable, error));
      if (error || stopped_)
        co_return;
      drain();
      window_.expires_after(kWindow);
      co_await window_.async_wait(asio::redirect_error(asio::use_awaitable, error));
      if (stopped_)
        co_return;
      drain();
      std::vector<trail::Record> records = take();
      Result<> written = co_await context_.journal.write(std::move(records));
      if (!written && written.error().code() != Errc::Lost)
        context_.log("denials: " + written.error().what());
    }
  }

  void stop() {
    stopped_ = true;
    asio::error_code ignored;
    ring_.cancel(ignored);
    window_.cancel();
  }

 private:
  void drain() {
    auto drained = fences_.drain_denials([this](const kernel::Denial& denial) { add(denial); });
    if (!drained)
      context_.log("denials: " + drained.error().what());
  }

  void add(const kernel::Denial& denial) {
    std::string comm = rows_.size() < kMaxRows ? denial.comm : "(others)";
    Key key{denial.slot,   static_cast<char>(denial.type),
            denial.major,  denial.minor,
            denial.access, std::move(comm)};
    Row& row = rows_[key];
    if (row.count++ == 0)
      row.first = denial;
    row.last_ns = denial.boottime_ns;
  }

  const guest::Guest* guest_of(uint32_t slot) const {
    for (const auto& [uuid, guest] : guests_.all_running())
      if (guest->fence() != nullptr && guest->fence()->slot() == slot)
        return guest.get();
    return nullptr;
  }

  // CLOCK_BOOTTIME of the kernel to ms since 1970.
  static uint64_t realtime_ms(uint64_t boottime_ns) {
    int64_t offset = system_clock().realtime_ns() - system_clock().boottime_ns();
    return static_cast<uint64_t>((static_cast<int64_t>(boottime_ns) + offset) / 1'000'000);
  }

  trail::Record record_of(const Row& row, const guest::Guest& guest) const {
    const kernel::Denial& d = row.first;
    DeviceNumber dev{d.type, d.major, d.minor};
    trail::Record record(trail::Kind::Denial);
    record.set("cgroup", guest.options().cgroup_v2)
        .set("rdev", rdev_hex(dev))
        .set("acl", to_string(d.access));
    record.set("devtype", d.type == DeviceType::Block ? "b" : "c");
    if (auto path = kernel::device_path(dev))
      record.set("path", *path);
    record.set("by-pid", static_cast<uint64_t>(d.pid)).set("by-comm", d.comm);
    record.set("by-uid", uint64_t{d.uid}).set("by-auid", uint64_t{d.auid});
    record.set("first", realtime_ms(d.boottime_ns))
        .set("last", realtime_ms(row.last_ns))
        .set("count", row.count);
    const registrar::RunRef& ref = guest.state().ref;
    record.set("virt", ref.virt).set("vm", ref.vm).set("uuid", ref.uuid).set("run", ref.run);
    record.success = false;
    return record;
  }

  std::vector<trail::Record> take() {
    std::vector<trail::Record> records;
    for (const auto& [key, row] : rows_)
      if (const guest::Guest* guest = guest_of(row.first.slot))
        records.push_back(record_of(row, *guest));
    rows_.clear();
    return records;
  }

  guest::Context& context_;
  kernel::FenceControl& fences_;
  const Guests& guests_;
  asio::posix::stream_descriptor ring_;
  asio::steady_timer window_;
  std::map<Key, Row> rows_;
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
