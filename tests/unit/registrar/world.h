// SPDX-License-Identifier: Apache-2.0
// A host in memory for the registrar: ledger, audit and the acts behind claims, each of whose steps
// can fail with an errno or be the last thing that the daemon does. Everything of one test runs on
// one pool thread, so a run is repeated exactly by its seed.
#pragma once

#include <asio/co_spawn.hpp>
#include <asio/post.hpp>
#include <asio/thread_pool.hpp>
#include <asio/use_future.hpp>
#include <deque>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel/audit_fake.h"
#include "registrar/operation.h"
#include "registrar/replay.h"
#include "trail/decode.h"

namespace tenure::test {

// Thrown by a seam: the daemon dies here. Every later step throws it too, so nothing goes on.
struct Crash {};

enum class Step { Append, Publish, Send, Apply, Withdraw };
enum class When { Before, After };

// Numbers the steps of the outside world and strikes at some of them.
class Fate {
 public:
  void crash_at(size_t step, When when) { crash_ = {step, when}; }
  // The `nth` step of that kind from now on (0: the next), and `more` of that kind after it.
  void fail(Step kind, int err, size_t nth = 0, size_t more = 0) {
    for (size_t i = 0; i <= more; ++i) failures_[{kind, count_[kind] + nth + i}] = err;
  }
  void forgive() { failures_.clear(); }
  void revive() {
    dead_ = false;
    crash_.reset();
    failures_.clear();
  }
  size_t steps() const { return steps_; }
  bool dead() const { return dead_; }
  const std::vector<Step>& history() const { return history_; }

  // 0, or the errno that the step fails with. Then nothing of it has happened.
  int begin(Step kind) {
    if (dead_)
      throw Crash{};
    if (crash_ && crash_->first == steps_ && crash_->second == When::Before)
      die();
    if (keep_history)
      history_.push_back(kind);
    auto failure = failures_.find({kind, count_[kind]++});
    int err = failure == failures_.end() ? 0 : failure->second;
    if (err != 0)
      end();
    return err;
  }
  void end() {
    bool last = crash_ && crash_->first == steps_ && crash_->second == When::After;
    ++steps_;
    if (last)
      die();
  }
  bool keep_history = true;

 private:
  [[noreturn]] void die() {
    dead_ = true;
    throw Crash{};
  }
  size_t steps_ = 0;
  bool dead_ = false;
  std::optional<std::pair<size_t, When>> crash_;
  std::map<Step, size_t> count_;
  std::map<std::pair<Step, size_t>, int> failures_;
  std::vector<Step> history_;
};

// Outlives the daemon; `entries` is what is durable.
class MemoryLedger final : public ledger::Ledger {
 public:
  explicit MemoryLedger(Fate& fate) : fate_(fate) {}
  Result<uint64_t> append(const std::vector<std::string>& batch) override {
    if (int err = fate_.begin(Step::Append))
      return tenure::fail(sys_error("append", "ledger", err));
    uint64_t first = entries.size();
    entries.insert(entries.end(), batch.begin(), batch.end());
    fate_.end();
    return first;
  }
  // On the pool and awaited by nobody: a death in it is the death of all that comes after.
  Result<> publish() override {
    try {
      if (int err = fate_.begin(Step::Publish))
        return tenure::fail(sys_error("publish", "ledger", err));
      published_ = entries.size();
      fate_.end();
    } catch (const Crash&) {
      return tenure::fail(Errc::Io, "publish: the daemon died");
    }
    return {};
  }
  uint64_t size() const override { return entries.size(); }
  uint64_t published() const override { return published_; }

  Result<registrar::Replay> replay() const {
    return registrar::replay_from([this](const registrar::EntrySink& each) -> Result<> {
      for (size_t i = 0; i < entries.size(); ++i)
        if (!each(i, entries[i]))
          break;
      return {};
    });
  }
  void clear() {
    entries.clear();
    published_ = 0;
  }
  std::vector<std::string> entries;

 private:
  Fate& fate_;
  uint64_t published_ = 0;
};

class SteppedAudit final : public kernel::Audit {
 public:
  explicit SteppedAudit(Fate& fate) : fate_(fate) {}
  std::vector<kernel::AuditReceipt> send(const std::vector<kernel::AuditMessage>& messages,
                                         int timeout_ms) override {
    fate_.begin(Step::Send);
    auto receipts = fake.send(messages, timeout_ms);
    fate_.end();
    return receipts;
  }
  Result<kernel::AuditStatus> status() override { return fake.status(); }
  std::vector<kernel::AuditReceipt> late() override { return fake.late(); }
  size_t awaited() override { return fake.awaited(); }
  void give_up() override { fake.give_up(); }
  kernel::FakeAudit fake;

 private:
  Fate& fate_;
};

// What a claim is called in the fake world; tests give each claim an id of its own.
inline std::string key_of(const model::Claim& claim) {
  return std::string(trail::spec(claim.record.kind).name) + " " + claim.id;
}

// What acts have made true. Outlives the daemon, as the kernel does.
class World final : public registrar::Seams {
 public:
  explicit World(Fate& fate) : fate_(fate) {}

  Result<kernel::Outcome> apply(model::Claim& claim, const registrar::Others&) override {
    std::string key = key_of(claim);
    if (on_apply)
      on_apply(claim);
    if (int err = fate_.begin(Step::Apply)) {
      refused.insert(key);
      return tenure::fail(sys_error("apply", key, err));
    }
    applied.insert(key);
    if (claim.record.kind == trail::Kind::NetOpen)
      claim.record.set("ifname", "tnr0").set("fd", 7);
    bool changed = claim.record.kind == trail::Kind::CgroupAll || present.insert(key).second;
    order.push_back("+" + key);
    fate_.end();
    return changed ? kernel::Outcome::Changed : kernel::Outcome::Unchanged;
  }

  Result<kernel::Outcome> withdraw(const model::Claim& claim, const registrar::Others& others,
                                   trail::Record&) override {
    std::string key = key_of(claim);
    if (int err = fate_.begin(Step::Withdraw))
      return tenure::fail(sys_error("withdraw", key, err));
    bool changed = present.erase(key) == 1;
    withdrawn.insert(key);
    order.push_back("-" + key);
    others_seen.push_back(others.size());
    fate_.end();
    return changed ? kernel::Outcome::Changed : kernel::Outcome::Unchanged;
  }

  Result<> confirm_gone(const model::Claim& claim, const registrar::Others&) override {
    if (still_open.contains(key_of(claim)))
      return tenure::fail(Errc::Busy, key_of(claim) + ": 1 fd still open");
    return {};
  }

  bool has(const model::Claim& claim) const { return present.contains(key_of(claim)); }

  std::set<std::string> present;                      // without deny-all, which is no thing
  std::set<std::string> still_open;                   // by the guest, whatever is taken away
  std::set<std::string> applied, refused, withdrawn;  // ever
  std::vector<std::string> order;                     // "+key" of acts, "-key" of withdrawals
  std::vector<size_t> others_seen;
  std::function<void(const model::Claim&)> on_apply;

 private:
  Fate& fate_;
};

// Waits until the one thread of `pool` has nothing left to do: a handler that ran as this was asked
// has posted what it had to before the second round trip, and that (publishing, which comes behind
// the reply) before the third.
inline void drain(asio::thread_pool& pool) {
  for (int i = 0; i < 3; ++i) asio::post(pool, asio::use_future).get();
}

// Runs a coroutine to its end on `pool`; a Crash is thrown on to the caller.
template <class T>
T run(asio::thread_pool& pool, asio::awaitable<T> task) {
  auto slot = std::make_shared<std::optional<T>>();
  auto body = [slot](asio::awaitable<T> inner) -> asio::awaitable<void> {
    slot->emplace(co_await std::move(inner));
  };
  std::future<void> ended = asio::co_spawn(pool, body(std::move(task)), asio::use_future);
  ended.wait();
  drain(pool);
  ended.get();
  return std::move(**slot);
}

inline constexpr char kUuid[] = "11111111-2222-3333-4444-555555555555";

inline model::Claim group_claim(const std::string& path) {
  return model::claim_of(
      trail::Record(trail::Kind::CgroupGroup).set("reason", "create").set("cgroup", path));
}
inline model::Claim deny_all_claim(const std::string& path) {
  return model::claim_of(
      trail::Record(trail::Kind::CgroupAll).set("reason", "deny").set("cgroup", path));
}
inline model::Claim path_claim(const std::string& cgroup, const std::string& path) {
  return model::claim_of(trail::Record(trail::Kind::CgroupPath)
                             .set("reason", "allow")
                             .set("cgroup", cgroup)
                             .set("path", path)
                             .set("rdev", "08:10")
                             .set("acl", "rw")
                             .set("devtype", "b")
                             .set("for", "disk:vda"));
}
inline model::Claim acl_claim(const std::string& path) {
  return model::claim_of(trail::Record(trail::Kind::FileAcl)
                             .set("reason", "allow")
                             .set("path", path)
                             .set("acl", "rw")
                             .set("acl-uid", uint64_t{70000})
                             .set("for", "disk:vdb"));
}
inline model::Claim net_open_claim(const std::string& path) {
  return model::claim_of(trail::Record(trail::Kind::NetOpen)
                             .set("reason", "open")
                             .set("net", "52:54:00:00:00:01")
                             .set("path", path)
                             .set("rdev", "0A:C8")
                             .set("devtype", "c")
                             .set("device", "net0"));
}
inline model::Claim disk_claim(const std::string& path) {
  return model::claim_of(trail::Record(trail::Kind::Disk)
                             .set("reason", "start")
                             .set("old-disk", "?")
                             .set("new-disk", path)
                             .set("dev", "vda")
                             .set("access", "rw")
                             .set("device", "virtio-disk0"));
}
inline model::Claim memory_claim(uint64_t kib) {
  return model::claim_of(trail::Record(trail::Kind::Mem)
                             .set("reason", "start")
                             .set("old-mem", uint64_t{0})
                             .set("new-mem", kib));
}
inline trail::Record control(std::string_view op, std::string_view reason) {
  trail::Record record(trail::Kind::Control);
  return record.set("op", op).set("reason", reason).set("vm-pid", uint64_t{4711});
}

}  // namespace tenure::test
