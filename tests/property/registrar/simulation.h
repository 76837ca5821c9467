// SPDX-License-Identifier: Apache-2.0
// One random history of a daemon and its guests over a host in memory: operations side by side,
// refusals, full disks, lost audit, deaths of daemon and host; after each step the laws.
#pragma once

#include <memory>
#include <random>
#include <string>
#include <vector>

#include "base/clock.h"
#include "tests/property/registrar/laws.h"

namespace tenure::test {

class Simulation {
 public:
  // The same seed gives the same history. `pool` has one thread.
  Simulation(uint64_t seed, asio::thread_pool& pool);

  // What is wrong, with the ledger; "" if nothing is.
  std::string run(size_t rounds);
  size_t steps() const { return fate_.steps(); }
  size_t crashes() const { return crashes_; }

 private:
  enum class Life { Off, Running, Stuck };
  struct Guest {
    Guest(Fate& fate, registrar::RunRef name) : world(fate), ref(std::move(name)) {}
    World world;
    registrar::RunRef ref;
    Life life = Life::Off;
    std::vector<registrar::Hold> holds;
    bool adopted = false;  // its records were written by a daemon that has died
  };
  // Goes up at each look, as the real one.
  class TickingClock final : public Clock {
   public:
    int64_t realtime_ns() const override { return now_ += 1'000'000; }
    int64_t boottime_ns() const override { return boot_ += 1'000'000; }

    // As an administrator or ntpd sets it: only the real time.
    void jump(int64_t ns) { now_ += ns; }

   private:
    mutable int64_t now_ = 1'700'000'000'000'000'000;
    mutable int64_t boot_ = 0;
  };

  uint64_t below(uint64_t n) { return random_() % n; }
  bool chance(uint64_t percent) { return below(100) < percent; }
  std::string hostile();
  registrar::Txn new_txn();
  model::Claim random_claim(const Guest& guest);
  std::vector<model::Claim> random_claims(const Guest& guest);
  trail::Record control_of(const Guest& guest, const registrar::Txn& txn, std::string_view op,
                           std::string_view reason);

  void round();
  void plan_faults();
  // Runs the tasks side by side on the pool's one thread; true if the daemon died.
  bool together(std::vector<asio::awaitable<void>> tasks);
  asio::awaitable<void> act(Guest& guest);
  asio::awaitable<void> start(Guest& guest);
  asio::awaitable<void> stop(Guest& guest);
  asio::awaitable<void> pause(Guest& guest);
  asio::awaitable<void> close(Guest& guest, registrar::OpenRun open);
  asio::awaitable<void> flush();

  void open_journal();
  void recover();
  static bool could_live(const Guest& guest, const registrar::OpenRun& open);
  void adopt(Guest& guest, registrar::OpenRun open);
  void check();
  void check_worlds();
  void check_book();
  void check_replay();
  void check_known(const registrar::Replay& replay);
  void finish();
  void check_audit();
  Guest& guest_of(const std::string& uuid);

  asio::thread_pool& pool_;
  std::mt19937_64 random_;
  TickingClock clock_;
  Fate fate_;
  MemoryLedger ledger_{fate_};
  SteppedAudit audit_{fate_};
  std::unique_ptr<registrar::Journal> journal_;
  registrar::OnAuditLoss policy_;
  std::vector<std::unique_ptr<Guest>> guests_;
  Laws laws_;
  uint64_t next_ = 0;
  size_t crashes_ = 0;
};

}  // namespace tenure::test
