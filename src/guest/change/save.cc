// SPDX-License-Identifier: Apache-2.0
#include "guest/change/save.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/clock.h"
#include "base/file.h"
#include "guest/change/abandoned.h"
#include "guest/change/save_header.h"
#include "guest/run/answer.h"
#include "guest/run/ask.h"
#include "guest/run/file_loan.h"
#include "registrar/offload.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

// Bytes a second; QEMU's own limit is made for networks (qapi/migration.json). The largest it
// takes.
constexpr uint64_t kNoLimit = 0x7FFFFFFFFFF00000;

bool is_over(const std::string& status) {
  return status == "completed" || status == "failed" || status == "cancelled";
}

std::shared_ptr<Events::Expected> expect_end(Events& events) {
  return events.expect([](const qemu::QmpEvent& event) {
    return event.name == "MIGRATION" && is_over(word_in(event, "status"));
  });
}

asio::awaitable<Result<>> prepare(const std::shared_ptr<qemu::Qmp>& qmp) {
  json events = {{"capability", "events"}, {"state", true}};
  qemu::Command command{"migrate-set-capabilities", {{"capabilities", json::array({events})}}};
  CO_TRY_OK(co_await ask(qmp, std::move(command)));
  command = {"migrate-set-parameters", {{"max-bandwidth", kNoLimit}}};
  CO_TRY_OK(co_await ask(qmp, std::move(command)));
  co_return Result<>{};
}

// The end of the migration, as QEMU's event says; Timeout when nothing moves any more.
asio::awaitable<Result<std::string>> await_end(const std::shared_ptr<qemu::Qmp>& qmp,
                                               std::shared_ptr<Events::Expected> end) {
  auto waited = co_await end->wait(kFileStall);
  if (waited) {
    std::string status = word_in(*waited, "status");
    co_return status;
  }
  qemu::Command command{"query-migrate", json::object()};
  CO_TRY(json info, co_await ask(qmp, std::move(command)));
  std::string status = word_in(info, "status");
  co_return status;
}

// Of query-migrate: how far the stream is.
uint64_t progress_of(const json& info) {
  return number_in(member(info, "ram"), "transferred");
}

Borrower borrower(Live& live) {
  return {.context = live.context,
          .state = live.state,
          .seams = *live.seams,
          .qmp = live.qmp,
          .holds = live.holds};
}

class Saver {
 public:
  Saver(Live& live, std::string path, registrar::Txn txn)
      : live_(live), path_(std::move(path)), loan_(borrower(live), std::move(txn)) {}

  asio::awaitable<Result<>> run() {
    CO_TRY(file_, kernel::open_output(path_));
    Result<> done = co_await steps();
    std::string why = done ? "" : done.error().what();
    Result<> ended;
    if (lent_)
      ended = co_await loan_.end(std::move(why));
    if (done && ended)
      co_return co_await mark_complete();
    if (done)
      done = std::move(ended);
    else if (!ended)
      live_.context.log(fmt::format("{}: save: {}", live_.state.ref.vm, ended.error().what()));
    co_await resume();
    if (Result<> gone = kernel::discard(file_); !gone)
      live_.context.log(gone.error().what());
    co_return done;
  }

 private:
  asio::awaitable<Result<>> steps() {
    CO_TRY_OK(co_await suspend());
    json meta = {{"run", json::parse(run_text(live_.state), nullptr, false)},
                 {"paused", !was_running_},
                 {"saved_ms", system_clock().realtime_ns() / 1'000'000}};
    header_.meta = meta.dump(-1, ' ', false, json::error_handler_t::replace);
    CO_TRY_OK(write_header());
    if (lseek(file_.fd.get(), static_cast<off_t>(head_size_), SEEK_SET) < 0)
      co_return fail_sys("seek in", path_);
    std::string role = "save";
    CO_TRY(std::string name, co_await loan_.lend(file_, std::move(role), LoanBy::Name));
    lent_ = true;
    co_return co_await stream(std::move(name));
  }

  // libvirt stops the guest first as well: its state is that of the request, and it cannot outrun
  // the writing.
  asio::awaitable<Result<>> suspend() {
    qemu::Command command{"query-status", json::object()};
    CO_TRY(json status, co_await ask(live_.qmp, std::move(command)));
    was_running_ = flag_in(status, "running");
    if (!was_running_)
      co_return Result<>{};
    live_.state.suspended = true;
    CO_TRY_OK(save_run(live_.context.paths, live_.state));
    command = {"stop", json::object()};
    CO_TRY_OK(co_await ask(live_.qmp, std::move(command)));
    co_return Result<>{};
  }

  Result<> write_header() {
    TRY(std::string head, encode_save_header(header_));
    head_size_ = head.size();
    for (size_t done = 0; done < head.size();) {
      ssize_t n =
          pwrite(file_.fd.get(), head.data() + done, head.size() - done, static_cast<off_t>(done));
      if (n < 0)
        return fail_sys("write to", path_);
      done += static_cast<size_t>(n);
    }
    return {};
  }

  asio::awaitable<Result<>> stream(std::string name) {
    CO_TRY_OK(co_await prepare(live_.qmp));
    auto end = expect_end(live_.events);
    qemu::Command command{"migrate", {{"uri", "fd:" + name}}};
    CO_TRY_OK(co_await ask(live_.qmp, std::move(command)));
    std::string status;
    for (uint64_t before = 0;;) {
      CO_TRY(status, co_await await_end(live_.qmp, end));
      if (is_over(status))
        break;
      command = {"query-migrate", json::object()};
      CO_TRY(json info, co_await ask(live_.qmp, std::move(command)));
      uint64_t now = progress_of(info);
      if (now == before)
        co_return co_await give_up();
      before = now;
      end = expect_end(live_.events);
    }
    if (status != "completed")
      co_return co_await explain(std::move(status));
    co_return Result<>{};
  }

  asio::awaitable<Result<>> give_up() {
    auto end = expect_end(live_.events);
    qemu::Command command{"migrate_cancel", json::object()};
    auto cancelled = co_await ask(live_.qmp, std::move(command));
    if (cancelled)
      co_await end->wait(kCommandTimeout);
    co_return fail(Errc::Timeout,
                   fmt::format("{}: nothing was written for {} s", path_, kFileStall.count()));
  }

  // QEMU 7.2 says why in query-migrate only where it knows; a full disk it does not name.
  asio::awaitable<Result<>> explain(std::string status) {
    qemu::Command command{"query-migrate", json::object()};
    auto info = co_await ask(live_.qmp, std::move(command));
    std::string why = info ? word_in(*info, "error-desc") : "";
    if (why.empty()) {
      std::string page(kSaveAlign, '\0');
      Result<> more = write_all(file_.fd.get(), page, path_);
      if (!more && more.error().sys_errno() == ENOSPC)
        why = "no space left on the device";
    }
    co_return fail(Errc::Io, fmt::format("{}: writing the state {}{}{}", path_, status,
                                         why.empty() ? "" : ": ", why));
  }

  // The stream is whole only now; its length is where QEMU, which shares our descriptor, has come
  // to.
  asio::awaitable<Result<>> mark_complete() {
    off_t end = lseek(file_.fd.get(), 0, SEEK_CUR);
    Result<> done;
    if (end < static_cast<off_t>(head_size_))
      done = fail(Errc::Corrupt, path_ + ": QEMU wrote nothing");
    header_.complete = true;
    header_.stream_size = static_cast<uint64_t>(end) - head_size_;
    auto finish = [this]() -> Result<> {
      int fd = file_.fd.get();
      // The stream first: a head that says complete must not be durable before it.
      if (fdatasync(fd) < 0)
        return fail_sys("write to", path_);
      TRY_OK(write_header());
      if (fsync(fd) < 0)
        return fail_sys("write to", path_);
      return {};
    };
    if (done)
      done = co_await registrar::offload(live_.context.pool, std::move(finish));
    if (done)
      co_return done;
    co_await resume();
    if (Result<> gone = kernel::discard(file_); !gone)
      live_.context.log(gone.error().what());
    co_return done;
  }

  asio::awaitable<void> resume() {
    if (!live_.state.suspended)
      co_return;
    Result<> running = co_await go_on(borrower(live_));
    // Without a monitor it goes on once that is found again (end_abandoned).
    live_.state.suspended = !running && running.error().code() == Errc::Lost;
    Result<> saved = save_run(live_.context.paths, live_.state);
    if (!running)
      live_.context.log(
          fmt::format("{}: after a failed save: {}", live_.state.ref.vm, running.error().what()));
    if (!saved)
      live_.context.log(saved.error().what());
  }

  Live& live_;
  std::string path_;
  kernel::HostFile file_;
  FileLoan loan_;
  bool lent_ = false;
  bool was_running_ = false;
  SaveHeader header_;
  size_t head_size_ = 0;
};

Result<std::string> read_exactly(const kernel::HostFile& file, size_t size) {
  std::string bytes(size, '\0');
  for (size_t done = 0; done < size;) {
    ssize_t n = pread(file.fd.get(), bytes.data() + done, size - done, static_cast<off_t>(done));
    if (n < 0)
      return fail_sys("read", file.path);
    if (n == 0)
      return fail(Errc::Invalid, "it ends within its head");
    done += static_cast<size_t>(n);
  }
  return bytes;
}

Result<SaveHeader> read_header(const kernel::HostFile& file) {
  TRY(std::string first, read_exactly(file, kSaveAlign));
  TRY(size_t size, save_head_size(first));
  TRY(std::string head, read_exactly(file, size));
  TRY(SaveHeader header, decode_save_header(head));
  if (!header.complete)
    return fail(Errc::Corrupt, "the state in it was never finished");
  off_t end = lseek(file.fd.get(), 0, SEEK_END);
  if (end < 0 || static_cast<uint64_t>(end) - size < header.stream_size)
    return fail(Errc::Corrupt, fmt::format("it has {} bytes, and {} belong to it", end,
                                           size + header.stream_size));
  if (lseek(file.fd.get(), static_cast<off_t>(size), SEEK_SET) < 0)
    return fail_sys("seek in", file.path);
  return header;
}

// The end of the loading; nullopt when QEMU is gone or reads nothing any more. How far it is shows
// in the position of the descriptor that we share with it.
asio::awaitable<std::optional<qemu::QmpEvent>> await_loaded(Events& events, const Saved& saved,
                                                            std::shared_ptr<Events::Expected> end) {
  for (off_t before = -1;;) {
    auto event = co_await end->wait(kFileStall);
    off_t now = lseek(saved.file.fd.get(), 0, SEEK_CUR);
    if (event || events.closed() || now == before)
      co_return event;
    before = now;
    end = expect_end(events);
  }
}

std::string used_name(const Saved& saved) {
  return saved.file.path + ".used";
}

Result<> move_file(const std::string& from, const std::string& to) {
  if (rename(from.c_str(), to.c_str()) < 0)
    return fail_sys("rename to " + to, from);
  return {};
}

bool is_unfinished(const std::string& path) {
  auto file = kernel::open_input(path);
  auto first = file ? read_exactly(*file, kSaveAlign) : fail(file.error());
  if (!first)
    return file.has_value();  // not even a head
  auto size = save_head_size(*first);
  auto head = size ? read_exactly(*file, *size) : fail(size.error());
  auto header = head ? decode_save_header(*head) : fail(head.error());
  return header && !header->complete;
}

}  // namespace

Result<> take_away(const Saved& saved) {
  return saved.once ? move_file(saved.file.path, used_name(saved)) : Result<>{};
}

Result<> put_back(const Saved& saved) {
  return saved.once ? move_file(used_name(saved), saved.file.path) : Result<>{};
}

Result<> used_up(const Saved& saved) {
  if (saved.once && unlink(used_name(saved).c_str()) < 0)
    return fail_sys("remove", used_name(saved));
  return {};
}

Result<> tidy_managed_saves(const Paths& paths) {
  std::error_code error;
  std::filesystem::directory_iterator files(paths.state + "/save", error);
  if (error)
    return {};  // nothing was ever saved
  std::vector<std::string> left;
  for (; files != std::filesystem::directory_iterator(); files.increment(error)) {
    std::string path = files->path().string();
    if (path.ends_with(".used") || is_unfinished(path))
      left.push_back(std::move(path));
    if (error)
      break;
  }
  for (const std::string& path : left)
    if (unlink(path.c_str()) < 0 && errno != ENOENT)
      return fail_sys("remove", path);
  return {};
}

std::string managed_save_path(const Paths& paths, const std::string& uuid) {
  return paths.state + "/save/" + uuid;
}

asio::awaitable<Result<>> save(Live& live, std::string path, registrar::Txn txn) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, "save: no monitor to this guest");
  // vhost-user-fs is "unmigratable" in QEMU 7.2 (hw/virtio/vhost-user-fs.c).
  if (!live.domain->filesystems.empty())
    co_return fail(Errc::Unsupported,
                   "save: QEMU cannot save a guest with a <filesystem>; detach " +
                       live.domain->filesystems.front().info.alias + " before");
  auto saver = std::make_unique<Saver>(live, std::move(path), std::move(txn));
  co_return co_await saver->run();
}

Result<Saved> open_saved(const std::string& path) {
  Saved saved;
  TRY(saved.file, kernel::open_input(path));
  auto header = read_header(saved.file);
  if (!header)
    return fail(std::move(header).error().context(path));
  json meta = json::parse(header->meta, nullptr, false);
  if (!meta.is_object() || !meta.contains("run") || !meta["run"].is_object() ||
      !meta.contains("paused") || !meta["paused"].is_boolean())
    return fail(Errc::Corrupt, path + ": its description of the guest cannot be read");
  saved.paused = meta["paused"].get<bool>();
  TRY(saved.run, parse_run(meta["run"].dump(), path));
  return saved;
}

asio::awaitable<Result<>> load(Borrower to, Events& events, const Saved& saved,
                               registrar::Txn txn) {
  auto loan = std::make_unique<FileLoan>(to, std::move(txn));
  CO_TRY_OK(co_await prepare(to.qmp));
  std::string role = "restore";
  CO_TRY(std::string name, co_await loan->lend(saved.file, std::move(role), LoanBy::Name));
  auto end = expect_end(events);
  qemu::Command command{"migrate-incoming", {{"uri", "fd:" + name}}};
  auto begun = co_await ask(to.qmp, std::move(command));
  std::string status = "failed";
  Result<> done;
  if (!begun)
    done = std::unexpected(std::move(begun).error());
  std::optional<qemu::QmpEvent> event;
  if (done)
    event = co_await await_loaded(events, saved, std::move(end));
  if (done && (!event || word_in(*event, "status") != "completed"))
    done = fail(event ? Errc::Io : Errc::Lost, saved.file.path + ": QEMU could not load the state");
  std::string why = done ? "" : done.error().what();
  Result<> ended = co_await loan->end(std::move(why));
  if (!done)
    co_return done;
  co_return ended;
}

}  // namespace tenure::guest
