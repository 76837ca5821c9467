// SPDX-License-Identifier: Apache-2.0
// Folder, lock and key; everything else is in writer.cc, which does not know of a real disk.
#include "ledger/ledger.h"

#include <fcntl.h>
#include <sys/file.h>

#include "base/file.h"
#include "ledger/key.h"
#include "ledger/writer.h"

namespace tenure::ledger {
namespace {

// Holds the lock for as long as the ledger is open.
class LockedLedger final : public Ledger {
 public:
  LockedLedger(UniqueFd lock, std::unique_ptr<Ledger> ledger)
      : lock_(std::move(lock)), ledger_(std::move(ledger)) {}

  Result<uint64_t> append(const std::vector<std::string>& entries) override {
    return ledger_->append(entries);
  }
  uint64_t size() const override { return ledger_->size(); }
  Result<> publish() override { return ledger_->publish(); }
  uint64_t published() const override { return ledger_->published(); }
  uint64_t torn_bytes() const override { return ledger_->torn_bytes(); }

 private:
  UniqueFd lock_;
  std::unique_ptr<Ledger> ledger_;
};

Result<UniqueFd> take_lock(const std::string& dir) {
  std::string path = dir + "/lock";
  TRY(UniqueFd lock, open_file(path, O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
  if (flock(lock.get(), LOCK_EX | LOCK_NB) == 0)
    return lock;
  if (errno == EWOULDBLOCK)
    return fail(Errc::Busy, "ledger " + dir + ": another process has it open");
  return fail_sys("lock", path);
}

}  // namespace

Result<std::unique_ptr<Ledger>> Ledger::open(const LedgerOptions& options) {
  TRY_OK(crypto_ready());
  TRY_OK(check_origin(options.origin));
  TRY_OK(make_dirs(options.dir, 0700));
  TRY(UniqueFd lock, take_lock(options.dir));
  TRY(LoadedKey key, load_key(options.key_path, options.origin));
  TRY(std::unique_ptr<Storage> storage, open_storage(options.dir));
  auto ledger = open_on(std::move(storage), key.signer, !key.confirmed);
  if (!ledger)
    return std::unexpected(std::move(ledger).error().context("ledger " + options.dir));
  TRY_OK(confirm_key(options.key_path, key));
  return std::make_unique<LockedLedger>(std::move(lock), std::move(*ledger));
}

}  // namespace tenure::ledger
