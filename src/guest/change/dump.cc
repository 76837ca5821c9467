// SPDX-License-Identifier: Apache-2.0
#include "guest/change/dump.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <functional>
#include <nlohmann/json.hpp>
#include <span>

#include "guest/run/answer.h"
#include "guest/run/ask.h"
#include "guest/run/file_loan.h"
#include "registrar/offload.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto kFileTimeout = 60s;
constexpr std::array<std::string_view, 4> kDumpFormats{"elf", "kdump-zlib", "kdump-lzo",
                                                       "kdump-snappy"};
constexpr std::array<std::string_view, 2> kPictureFormats{"ppm", "png"};

// Has QEMU do something with a file that it is lent for that.
using Use = std::function<asio::awaitable<Result<>>(std::string)>;

struct Request {
  std::string path;
  std::string role;
  LoanBy by;
};

asio::awaitable<Result<>> finish_file(Live& live, const kernel::HostFile& file) {
  auto sync = [&file]() -> Result<> {
    if (fsync(file.fd.get()) < 0)
      return fail_sys("write to", file.path);
    return {};
  };
  co_return co_await registrar::offload(live.context.pool, std::move(sync));
}

asio::awaitable<Result<>> with_file(Live& live, Request request, registrar::Txn txn, Use use) {
  if (!live.qmp)
    co_return fail(Errc::Unsupported, request.role + ": no monitor to this guest");
  CO_TRY(kernel::HostFile file, kernel::open_output(request.path));
  Borrower to{.context = live.context,
              .state = live.state,
              .seams = *live.seams,
              .qmp = live.qmp,
              .holds = live.holds};
  auto loan = std::make_unique<FileLoan>(to, std::move(txn));
  auto name = co_await loan->lend(file, request.role, request.by);
  Result<> done;
  if (!name) {
    done = std::unexpected(name.error());
  } else {
    std::string lent = std::move(*name);
    done = co_await use(std::move(lent));
    std::string why = done ? "" : done.error().what();
    Result<> ended = co_await loan->end(std::move(why));
    if (done)
      done = std::move(ended);
  }
  if (done)
    done = co_await finish_file(live, file);
  if (done)
    co_return done;
  if (Result<> gone = kernel::discard(file); !gone)
    live.context.log(gone.error().what());
  co_return done;
}

// DUMP_COMPLETED, or why it does not come.
asio::awaitable<Result<json>> await_dump(Live& live, std::shared_ptr<Events::Expected> end) {
  for (int64_t before = -1;;) {
    auto event = co_await end->wait(kFileStall);
    if (event) {
      json result = event->data ? *event->data : json();
      co_return result;
    }
    end = live.events.expect([](const qemu::QmpEvent& e) { return e.name == "DUMP_COMPLETED"; });
    qemu::Command command{"query-dump", json::object()};
    CO_TRY(json now, co_await ask(live, std::move(command), kFileTimeout));
    if (word_in(now, "status") != "active") {
      json result = {{"result", std::move(now)}};
      co_return result;
    }
    auto completed = static_cast<int64_t>(number_in(now, "completed"));
    if (completed == before)
      co_return fail(Errc::Timeout,
                     fmt::format("nothing was written for {} s", kFileStall.count()));
    before = completed;
  }
}

asio::awaitable<Result<>> dump_to(Live& live, std::string name, std::string format) {
  auto end = live.events.expect([](const qemu::QmpEvent& e) { return e.name == "DUMP_COMPLETED"; });
  json arguments = {{"paging", false}, {"protocol", "fd:" + name}, {"detach", true}};
  if (format != "elf")
    arguments["format"] = format;
  qemu::Command command{"dump-guest-memory", std::move(arguments)};
  CO_TRY_OK(co_await ask(live, std::move(command), kFileTimeout));
  CO_TRY(json result, co_await await_dump(live, std::move(end)));
  if (word_in(member(result, "result"), "status") == "completed")
    co_return Result<>{};
  std::string why = word_in(result, "error");
  co_return fail(Errc::Io, fmt::format("writing the memory failed: {}",
                                       why.empty() ? "QEMU does not say why" : why));
}

asio::awaitable<Result<>> picture_to(Live& live, std::string name, std::string format) {
  qemu::Command command{"screendump", {{"filename", name}, {"format", format}}};
  CO_TRY_OK(co_await ask(live, std::move(command), kFileTimeout));
  co_return Result<>{};
}

Result<> check_format(std::string& format, std::span<const std::string_view> known) {
  if (format.empty())
    format = known.front();
  if (std::ranges::find(known, format) != known.end())
    return {};
  std::string words;
  for (std::string_view word : known) words += fmt::format(" {}", word);
  return fail(Errc::Invalid, fmt::format("format '{}': one of{}", format, words));
}

}  // namespace

asio::awaitable<Result<>> dump(Live& live, std::string path, std::string format,
                               registrar::Txn txn) {
  CO_TRY_OK(check_format(format, kDumpFormats));
  Request request{.path = std::move(path), .role = "dump", .by = LoanBy::Name};
  Use use = [&live, format](std::string name) { return dump_to(live, std::move(name), format); };
  co_return co_await with_file(live, std::move(request), std::move(txn), std::move(use));
}

asio::awaitable<Result<>> screenshot(Live& live, std::string path, std::string format,
                                     registrar::Txn txn) {
  CO_TRY_OK(check_format(format, kPictureFormats));
  Request request{.path = std::move(path), .role = "screenshot", .by = LoanBy::FdSet};
  Use use = [&live, format](std::string name) { return picture_to(live, std::move(name), format); };
  co_return co_await with_file(live, std::move(request), std::move(txn), std::move(use));
}

}  // namespace tenure::guest
