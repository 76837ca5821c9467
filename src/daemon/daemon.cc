// SPDX-License-Identifier: Apache-2.0
#include "daemon/daemon.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/redirect_error.hpp>
#include <asio/signal_set.hpp>
#include <asio/steady_timer.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <system_error>
#include <thread>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "base/unix_socket.h"
#include "daemon/api.h"
#include "daemon/audit_watch.h"
#include "daemon/config.h"
#include "daemon/denials.h"
#include "daemon/drift.h"
#include "daemon/guests.h"
#include "daemon/integrity.h"
#include "daemon/policy.h"
#include "daemon/server.h"
#include "daemon/witness.h"
#include "guest/recover.h"
#include "kernel/audit.h"
#include "ledger/ledger.h"
#include "registrar/replay.h"

namespace tenure::daemon {
namespace {

constexpr size_t kPoolThreads =
    2;  // one may be held up by a stuck auditd while the other writes the ledger

constexpr std::chrono::seconds kLockWait{30};
constexpr int kLockLookMs = 20;  // flock(2) has no timeout

constexpr std::chrono::seconds kRetry{1};  // of entries not durable yet, and of checkpoints

// asio::thread_pool with a number of threads does not come back when the host gives it only some of
// them: it waits for those, and they wait for work. Throws std::system_error.
class Pool {
 public:
  Pool() {
    try {
      for (size_t i = 0; i < kPoolThreads; ++i) threads_.emplace_back([this] { pool_.attach(); });
    } catch (const std::system_error&) {
      pool_.stop();
      throw;
    }
  }
  ~Pool() { pool_.stop(); }
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;
  // Returns when all work is done; there is none after it.
  void drain() {
    pool_.wait();
    threads_.clear();
  }
  asio::thread_pool& get() { return pool_; }

 private:
  asio::thread_pool pool_{0};
  std::vector<std::jthread> threads_;  // end before pool_ does
};

// Coroutines refer to guests, and guests have timers and sockets of the loop: neither can go after
// the other as a whole.
class Loop : public asio::io_context {
 public:
  Loop() : io_context(1) {}
  // Destroys what waits in it; timers and descriptors of others may still be cancelled and closed.
  void end_coroutines() { shutdown(); }
};

void log_line(const std::string& text) {
  std::string line = "tenured: " + printable(text) + "\n";
  [[maybe_unused]] ssize_t n = write(STDERR_FILENO, line.data(), line.size());
}

std::string machine_id() {
  auto id = read_file("/etc/machine-id", 64);
  return id ? std::string(trim(*id)) : "unknown";
}

// One folder of pins an instance; bpffs refuses dots in names.
std::string pin_dir(const Paths& paths) {
  if (paths.root.empty())
    return "/sys/fs/bpf/tenure";
  return fmt::format("/sys/fs/bpf/tenure-{:016x}", std::hash<std::string>{}(paths.root));
}

Result<UniqueFd> lock_instance(const Paths& paths) {
  TRY(UniqueFd lock, open_file(paths.runtime + "/tenured.lock", O_RDWR | O_CREAT, 0600));
  // One that serves answers. One that was killed has the lock for as long as the kernel takes to
  // close its files, and one that begins to serve is what our starter waits for.
  auto deadline = std::chrono::steady_clock::now() + kLockWait;
  while (flock(lock.get(), LOCK_EX | LOCK_NB) < 0) {
    if (errno != EWOULDBLOCK && errno != EINTR)
      return fail_sys("flock", paths.runtime + "/tenured.lock");
    if (connect_unix(paths.socket) || std::chrono::steady_clock::now() > deadline)
      return fail(Errc::Busy, "another tenured serves " + paths.runtime);
    poll(nullptr, 0, kLockLookMs);
  }
  return lock;
}

Result<> make_folders(const Paths& paths) {
  TRY_OK(make_dirs(paths.state, 0700));
  TRY_OK(make_dirs(paths.runtime, 0711));
  return make_dirs(paths.logs, 0750);
}

std::unique_ptr<kernel::Audit> choose_audit(const Config& config) {
  if (!config.audit)
    return kernel::no_audit("audit = off in tenure.conf");
  auto audit = kernel::open_audit();
  if (audit)
    return std::move(*audit);
  log_line("no audit: " + audit.error().what());
  return kernel::no_audit(audit.error().what());
}

struct Fences {
  std::unique_ptr<kernel::FenceControl> v1, v2;
  std::string reason;  // why there is none
};

// Each version is tried for real; the one that is not wanted is not looked at.
Fences open_fences(const Config& config, const kernel::CgroupMounts& mounts, const Paths& paths) {
  Fences fences;
  using enum kernel::CgroupVersion;
  auto open = [&](kernel::CgroupVersion version, std::unique_ptr<kernel::FenceControl>& control) {
    if (config.fence && *config.fence != version)
      return;
    auto choice = kernel::choose_fence(mounts, pin_dir(paths), version);
    if (choice)
      control = std::move(choice->control);
    else
      fences.reason += (fences.reason.empty() ? "" : "; ") + choice.error().what();
  };
  open(V2, fences.v2);
  open(V1, fences.v1);
  return fences;
}

// Everything of one instance, in the order in which it is taken down backwards.
class Daemon {
 public:
  explicit Daemon(const DaemonOptions& options) : options_(options) {}
  ~Daemon() { loop_.end_coroutines(); }  // before what they refer to
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  Result<> run() {
    const Paths& paths = options_.paths;
    umask(0022);
    TRY_OK(make_folders(paths));
    TRY(lock_, lock_instance(paths));
    TRY(config_, load_config(paths));
    TRY(ledger_, ledger::Ledger::open({.dir = paths.ledger,
                                       .key_path = paths.state + "/ledger.key",
                                       .origin = "tenure/" + machine_id()}));
    audit_ = choose_audit(config_);
    if (config_.witness.configured()) {
      TRY(witness_, open_witness(config_.witness, paths.ledger, log_line));
    }
    journal_ = std::make_unique<registrar::Journal>(
        *ledger_, *audit_, pool_.get(), system_clock(),
        registrar::JournalOptions{.on_audit_loss = config_.on_audit_loss,
                                  .ledger_only = !config_.audit});
    if (witness_)
      journal_->on_published([this] { witness_->offer(); });
    TRY(kernel::CgroupMounts mounts, kernel::find_cgroup_mounts());
    fences_ = open_fences(config_, mounts, paths);
    if (!fences_.v1 && !fences_.v2)
      log_line("no fence: " + fences_.reason);
    TRY_OK(make_context(std::move(mounts)));
    TRY(registrar::Replay replay, registrar::replay(paths.ledger));
    int64_t booted_ms = (system_clock().realtime_ns() - system_clock().boottime_ns()) / 1'000'000;
    if (replay.confirmed && replay.confirmed->time_ms > booted_ms)  // serials begin anew at boot
      journal_->resume_confirmed(*replay.confirmed);
    TRY(Definitions definitions, Definitions::load(paths));
    for (const auto& [path, why] : definitions.bad()) log_line(path + ": " + why);
    guests_ = std::make_unique<Guests>(*context_, std::move(definitions), replay.last_run);
    context_->disk_moved = [this](guest::DiskMoved moved) {
      return guests_->follow_disk(std::move(moved));
    };
    context_->left_over = [this](guest::LeftOver left) { guests_->keep(std::move(left)); };
    asio::signal_set signals(loop_, SIGTERM, SIGINT);
    signals.async_wait([this](asio::error_code, int) { loop_.stop(); });
    spawn_main(std::move(replay));
    loop_.run();
    pool_.drain();
    if (Result<> published = ledger_->publish(); !published)
      log_line("checkpoint: " + published.error().what());
    witness_.reset();
    return std::move(outcome_);
  }

 private:
  Result<> make_context(kernel::CgroupMounts mounts) {
    TRY(std::string boot, kernel::boot_id());
    auto counter = std::make_shared<uint64_t>(0);
    // The size of the ledger grows with every daemon that did anything, so the pair is never given
    // twice.
    std::string prefix = fmt::format("{:x}", system_clock().realtime_ns() / 1'000'000);
    context_ = std::make_unique<guest::Context>(guest::Context{
        .executor = loop_.get_executor(),
        .pool = pool_.get(),
        .journal = *journal_,
        .paths = options_.paths,
        .settings = config_.guest,
        .mounts = std::move(mounts),
        .fence_v1 = fences_.v1.get(),
        .fence_v2 = fences_.v2.get(),
        .no_fence_reason = fences_.reason,
        .boot_id = std::move(boot),
        .log = log_line,
        .new_txn = [prefix, counter] { return fmt::format("{}-{}", prefix, ++*counter); }});
    return {};
  }

  void spawn_main(registrar::Replay replay) {
    auto shared = std::make_shared<registrar::Replay>(std::move(replay));
    auto task = [this, shared]() -> asio::awaitable<void> {
      // An exception of a detached coroutine is lost, and a daemon that does not serve would go on.
      try {
        outcome_ = co_await serve_all(std::move(*shared));
      } catch (const std::exception& error) {  // a thread that the host does not give (integrity_)
        outcome_ = fail(Errc::Io, fmt::format("start serving: {}", error.what()));
      }
      if (!outcome_)
        loop_.stop();
    };
    asio::co_spawn(loop_, std::move(task), asio::detached);
  }

  asio::awaitable<Result<>> serve_all(registrar::Replay replay) {
    Result<> policy = co_await record_policy(*context_, config_);
    if (!policy)
      log_line("policy: " + policy.error().what());
    CO_TRY(auto recovered, co_await guest::recover(*context_, std::move(replay)));
    prune_fence(recovered.adopted);
    guests_->adopt(std::move(recovered));
    journal_->on_loss([this] {
      auto task = [this]() -> asio::awaitable<void> { co_await guests_->act_on_audit_loss(); };
      asio::co_spawn(loop_, std::move(task), asio::detached);
    });
    spawn_retry();
    auto left_over = [this]() -> asio::awaitable<void> { co_await guests_->end_left_over(); };
    asio::co_spawn(loop_, std::move(left_over), asio::detached);
    auto audit = [this]() -> asio::awaitable<void> { co_await watch_audit(*context_); };
    asio::co_spawn(loop_, std::move(audit), asio::detached);
    if (fences_.v2)
      denials_ = watch_denials(*context_, *fences_.v2, *guests_);
    drift_ = watch_drift(*context_, *guests_, config_.on_drift);
    integrity_ = std::make_unique<Integrity>(*context_, *guests_);
    auto schedule = [this]() -> asio::awaitable<void> {
      co_await integrity_->run_schedule(config_.verify_hours);
    };
    asio::co_spawn(loop_, std::move(schedule), asio::detached);
    api_ = std::make_unique<Api>(*context_, *guests_, *integrity_, *drift_, witness_.get());
    CO_TRY(UniqueFd listener, listen_unix(options_.paths.socket, 0600, 128));
    asio::any_io_executor executor = loop_.get_executor();
    auto task = [this, executor, fd = listener.release()]() -> asio::awaitable<void> {
      UniqueFd owned(fd);
      std::function<void(const std::string&)> log = log_line;
      co_await serve(executor, std::move(owned), *api_, std::move(log));
    };
    asio::co_spawn(loop_, std::move(task), asio::detached);
    if (options_.ready_fd >= 0) {
      CO_TRY_OK(write_all(options_.ready_fd, "1", "the ready pipe"));
      close(options_.ready_fd);
    }
    co_return Result<>{};
  }

  // Entries that could not be made durable (a full disk) are tried again without waiting for the
  // next operation.
  void spawn_retry() {
    auto task = [this]() -> asio::awaitable<void> {
      asio::steady_timer timer(loop_);
      for (;;) {
        timer.expires_after(kRetry);
        asio::error_code error;
        co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, error));
        if (error)
          co_return;
        if (journal_->waiting() > 0)
          co_await journal_->commit();
        journal_->publish_soon();
      }
    };
    asio::co_spawn(loop_, std::move(task), asio::detached);
  }

  // Rules of guests that went while nobody looked.
  void prune_fence(const std::vector<std::shared_ptr<guest::Guest>>& adopted) {
    if (!fences_.v2)
      return;
    std::vector<uint32_t> live;
    for (const auto& guest : adopted)
      if (guest->fence() != nullptr)
        live.push_back(guest->fence()->slot());
    if (auto pruned = fences_.v2->prune(live); !pruned)
      log_line("prune: " + pruned.error().what());
  }

  DaemonOptions options_;
  Loop loop_;  // outlives all that has a timer, a socket or a descriptor in it
  UniqueFd lock_;
  Config config_;
  Pool pool_;
  std::unique_ptr<ledger::Ledger> ledger_;
  std::unique_ptr<kernel::Audit> audit_;
  std::unique_ptr<Witness> witness_;
  std::unique_ptr<registrar::Journal> journal_;
  Fences fences_;
  std::unique_ptr<guest::Context> context_;
  std::unique_ptr<Guests> guests_;
  std::unique_ptr<Integrity> integrity_;
  std::unique_ptr<Api> api_;
  std::shared_ptr<void> denials_;
  std::unique_ptr<DriftWatch> drift_;
  Result<> outcome_;
};

}  // namespace

Result<> run_daemon(const DaemonOptions& options) {
  signal(SIGPIPE, SIG_IGN);
  try {
    auto daemon = std::make_unique<Daemon>(options);
    return daemon->run();
  } catch (const std::system_error& error) {  // a thread of pool_
    return fail(Errc::Io, fmt::format("start: {}", error.what()));
  }
}

}  // namespace tenure::daemon
