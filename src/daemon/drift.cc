// SPDX-License-Identifier: Apache-2.0
#include "daemon/drift.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <chrono>
#include <map>
#include <set>

#include "daemon/drift_sight.h"
#include "kernel/process.h"
#include "kernel/watch.h"

namespace tenure::daemon {
namespace {

using namespace std::chrono_literals;
using guest::Difference;
using guest::Guest;
using guest::LiveKind;
using guest::LiveParts;
using guest::OnDrift;
using kernel::Culprit;
using kernel::Sighting;
using Clock = std::chrono::steady_clock;

// Without an event, a change is found within a tick, or within a round where it is dear to look.
constexpr auto kTick = 1s;
constexpr unsigned kTicksARound = 10;
// After a look that an event asked for: whoever makes events on purpose gets a tenth of a CPU.
constexpr auto kShortestPause = 5ms;
constexpr int kPauseFactor = 9;

LiveParts both(const LiveParts& a, const LiveParts& b) {
  return {.fence = a.fence || b.fence,
          .members = a.members || b.members,
          .identity = a.identity || b.identity,
          .descriptors = a.descriptors || b.descriptors,
          .acls = a.acls || b.acls,
          .nodes = a.nodes || b.nodes};
}

// What is known of one guest between two looks.
struct Subject {
  explicit Subject(std::function<bool(uint32_t)> ours) : acls(std::move(ours)) {}
  uint64_t run = 0;
  guest::DriftBook book;
  guest::AclBaseline acls;
  size_t open_files = 0;                    // when last counted
  std::map<uint64_t, std::string> watched;  // inotify number -> path
  LiveParts due = {};                       // to look at; everything at first
  bool waits = true;                        // anything due
  std::vector<Sighting> sightings;          // since the last look
};

class Looker : public std::enable_shared_from_this<Looker> {
 public:
  Looker(guest::Context& context, Guests& guests, OnDrift policy)
      : context_(context), guests_(guests), policy_(policy), tick_(context.executor) {}

  void start() {
    open(kernel::watch_cgroup_files(context_.mounts), cgroup_files_, "writes to cgroup files");
    if (context_.fence_v2 != nullptr)
      open(kernel::watch_bpf_calls(), bpf_calls_, "bpf(2) calls");
    open(kernel::watch_files(), files_, "attributes of files");
    for (kernel::Watch* watch :
         {cgroup_files_.get(), bpf_calls_.get(), static_cast<kernel::Watch*>(files_.get())})
      if (watch != nullptr)
        spawn_listener(*watch);
    auto self = shared_from_this();
    auto task = [self]() -> asio::awaitable<void> { co_await self->run(); };
    asio::co_spawn(context_.executor, std::move(task), asio::detached);
  }

  void stop() {
    stopped_ = true;
    asio::error_code ignored;
    for (auto& descriptor : descriptors_) descriptor->cancel(ignored);
    tick_.cancel();
  }

  std::vector<Difference> known(const std::string& uuid) const {
    auto subject = subjects_.find(uuid);
    return subject == subjects_.end() ? std::vector<Difference>{} : subject->second.book.known();
  }

 private:
  template <class Made, class Kept>
  void open(Result<Made> made, Kept& kept, std::string_view what) {
    if (made)
      kept = std::move(*made);
    else
      context_.log(fmt::format("drift: {} cannot be watched, so they are polled every {} s: {}",
                               what, kTick.count(), made.error().what()));
  }

  void spawn_listener(kernel::Watch& watch) {
    // A copy: the descriptor is the watch's, and Asio closes what it is given.
    auto descriptor = std::make_shared<asio::posix::stream_descriptor>(
        context_.executor, fcntl(watch.fd(), F_DUPFD_CLOEXEC, 0));
    descriptors_.push_back(descriptor);
    auto self = shared_from_this();
    auto task = [self, descriptor, &watch]() -> asio::awaitable<void> {
      co_await self->listen(*descriptor, watch);
    };
    asio::co_spawn(context_.executor, std::move(task), asio::detached);
  }

  asio::awaitable<void> listen(asio::posix::stream_descriptor& descriptor, kernel::Watch& watch) {
    for (;;) {
      asio::error_code error;
      co_await descriptor.async_wait(asio::posix::stream_descriptor::wait_read,
                                     asio::redirect_error(asio::use_awaitable, error));
      if (error || stopped_)
        co_return;
      auto drained = watch.drain([this](Sighting&& seen) { note(std::move(seen)); });
      if (!drained)
        context_.log("drift: " + drained.error().what());
      if (urgent_)
        tick_.cancel();
    }
  }

  // One look after the other: at what events ask for at once, at the rest by the tick.
  asio::awaitable<void> run() {
    Clock::time_point next_tick = Clock::now();
    for (;;) {
      if (!urgent_) {
        asio::error_code ignored;
        tick_.expires_at(next_tick);
        co_await tick_.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      }
      if (stopped_)
        co_return;
      urgent_ = false;
      if (Clock::now() >= next_tick) {
        poll();
        next_tick = Clock::now() + kTick;
      }
      Clock::duration took = co_await look_at_all();
      Clock::duration pause = std::max<Clock::duration>(kShortestPause, took * kPauseFactor);
      asio::steady_timer rest(context_.executor, std::min<Clock::duration>(pause, kTick));
      asio::error_code ignored;
      co_await rest.async_wait(asio::redirect_error(asio::use_awaitable, ignored));
      if (stopped_)
        co_return;
    }
  }

  void ask_for(Subject& subject, const LiveParts& parts) {
    subject.due = subject.waits ? both(subject.due, parts) : parts;
    subject.waits = true;
  }

  // Guests that came and went; the parts that nothing tells of; a share of them wholly.
  void poll() {
    const auto& running = guests_.all_running();
    std::erase_if(subjects_, [&](const auto& item) {
      auto guest = running.find(item.first);
      bool gone = guest == running.end() || guest->second->state().ref.run != item.second.run;
      if (gone && files_)
        for (const auto& [number, path] : item.second.watched) files_->remove(number);
      return gone;
    });
    // Each tick another tenth of the guests is looked at wholly, at least one.
    const size_t count_of_guests = running.size();
    const size_t share = (count_of_guests + kTicksARound - 1) / kTicksARound;
    size_t place = 0;
    for (const auto& [uuid, guest] : running) {
      Subject& subject = subject_of(uuid, *guest);
      bool v2 = guest->state().fence == "v2";
      bool told = v2 ? bpf_calls_ != nullptr : cgroup_files_ != nullptr;
      LiveParts parts = kNothing;
      parts.fence = parts.members = !told;
      size_t count = kernel::count_open_files(guest->state().process.pid);
      parts.descriptors = count == 0 || count != subject.open_files;
      subject.open_files = count;
      if ((place++ + count_of_guests - first_ % count_of_guests) % count_of_guests < share)
        parts = {};
      if (parts.fence || parts.members || parts.descriptors)
        ask_for(subject, parts);
    }
    first_ += share;
  }

  Subject& subject_of(const std::string& uuid, const Guest& guest) {
    auto found = subjects_.find(uuid);
    if (found != subjects_.end())
      return found->second;
    const guest::Settings& settings = context_.settings;
    uint32_t first = settings.uid_first.value_or(0);
    uint32_t end = settings.uid_first ? first + settings.uid_count : 0;
    auto ours = [first, end](uint32_t uid) { return uid >= first && uid < end; };
    Subject& subject = subjects_.emplace(uuid, Subject(ours)).first->second;
    subject.run = guest.state().ref.run;
    return subject;
  }

  // Which guests a sighting speaks of, and what to look at there.
  void note(Sighting seen) {
    Told told_of{.moves = bpf_calls_ != nullptr,
                 .map = seen.what == Sighting::What::Map && context_.fence_v2 != nullptr &&
                        context_.fence_v2->owns_map(seen.object)};
    for (auto& [uuid, subject] : subjects_) {
      auto guest = guests_.running(uuid);
      if (!guest)
        continue;
      told_of.file = subject.watched.contains(seen.object);
      told_of.stranger = std::ranges::any_of(subject.book.known(), [&](const Difference& known) {
        return known.kind == LiveKind::Member && known.pid == seen.moved;
      });
      LiveParts parts = concerned(seen, *guest, told_of);
      if (!parts.fence && !parts.members && !parts.acls)
        continue;
      ask_for(subject, parts);
      subject.sightings.push_back(seen);
      urgent_ = true;
    }
  }

  asio::awaitable<Clock::duration> look_at_all() {
    Clock::duration took{};
    std::vector<std::string> waiting;
    for (const auto& [uuid, subject] : subjects_)
      if (subject.waits)
        waiting.push_back(uuid);
    read_rules(waiting, took);
    for (const std::string& uuid : waiting) {
      auto guest = guests_.running(uuid);
      auto found = subjects_.find(uuid);
      if (!guest || found == subjects_.end() || stopped_)
        continue;
      auto begin = Clock::now();
      std::vector<trail::Record> records = look(*guest, found->second);
      took += Clock::now() - begin;
      if (!records.empty())
        co_await tell(std::move(records));
      co_await act(guest, uuid);
      // Requests come in between.
      co_await asio::post(context_.executor, asio::use_awaitable);
    }
    rules_.clear();
    co_return took;
  }

  // The rules of all guests that are due, in one pass over the map; worth it for more than one.
  void read_rules(const std::vector<std::string>& waiting, Clock::duration& took) {
    rules_.clear();
    std::vector<const kernel::Fence*> fences;
    std::vector<std::string> uuids;
    for (const std::string& uuid : waiting) {
      auto guest = guests_.running(uuid);
      if (guest && guest->state().fence == "v2" && guest->fence() != nullptr &&
          subjects_.at(uuid).due.fence) {
        fences.push_back(guest->fence());
        uuids.push_back(uuid);
      }
    }
    if (fences.size() < 2 || context_.fence_v2 == nullptr)
      return;
    auto begin = Clock::now();
    auto lists = context_.fence_v2->list_all(fences);
    for (size_t i = 0; i < lists.size(); ++i) rules_.emplace(uuids[i], std::move(lists[i]));
    took += Clock::now() - begin;
  }

  // Compares, and returns the records of what is new and what is over. No await in here: kernel and
  // tenures are those of one moment.
  std::vector<trail::Record> look(Guest& guest, Subject& subject) {
    if (guest.busy())
      return {};  // due still; the operation's own records come first
    LiveParts parts = subject.due;
    parts.descriptors &= !guest.undecided();
    std::vector<Sighting> sightings = std::exchange(subject.sightings, {});
    subject.waits = false;
    guest::LiveReport report = compare(guest, parts, true);
    // What was read in one pass may be old by now.
    if (!report.differences.empty())
      report = compare(guest, parts, false);
    if (report.gone)
      return {};
    if (parts.acls) {
      auto more = subject.acls.compare(guest.holds(), guest.seams());
      report.differences.insert(report.differences.end(), more.begin(), more.end());
      watch_files_of(guest, subject);
    }
    auto news = subject.book.update(report.differences, parts, report.unknown.empty());
    std::vector<trail::Record> records;
    for (const Difference& difference : news.begun) {
      fresh_.push_back(difference);
      records.push_back(
          record_of(difference, "begin", guest, culprit(difference, guest, sightings)));
    }
    for (const Difference& difference : news.over)
      records.push_back(record_of(difference, "end", guest, culprit(difference, guest, sightings)));
    return records;
  }

  guest::LiveReport compare(const Guest& guest, const LiveParts& parts, bool in_one_pass) const {
    auto rules = rules_.find(guest.state().ref.uuid);
    bool use = in_one_pass && rules != rules_.end();
    return guest::live_check({.state = guest.state(),
                              .options = guest.options(),
                              .holds = guest.holds(),
                              .seams = guest.seams(),
                              .rules = use ? &rules->second : nullptr,
                              .parts = parts});
  }

  void watch_files_of(Guest& guest, Subject& subject) {
    if (!files_)
      return;
    for (const registrar::Hold& hold : guest.holds()) {
      const std::string& path = hold.claim.id;
      bool known = std::ranges::any_of(subject.watched,
                                       [&](const auto& item) { return item.second == path; });
      if (hold.claim.record.kind != trail::Kind::FileAcl || known)
        continue;
      auto fd = guest.seams().open_held(hold.claim);
      if (!fd)
        continue;
      if (auto number = files_->add(fd->get()))
        subject.watched.emplace(*number, path);
    }
  }

  trail::Record record_of(const Difference& difference, std::string_view phase, const Guest& guest,
                          const Culprit& who) const {
    const guest::RunState& state = guest.state();
    const std::string& cgroup = state.cgroup_v2.empty() ? state.cgroup_v1 : state.cgroup_v2;
    trail::Record record = guest::drift_record(difference, phase, who, cgroup);
    record.set("virt", state.ref.virt).set("vm", state.ref.vm).set("uuid", state.ref.uuid);
    record.set("run", state.ref.run);
    return record;
  }

  asio::awaitable<void> tell(std::vector<trail::Record> records) {
    Result<> written = co_await context_.journal.write(std::move(records));
    if (!written && written.error().code() != Errc::Lost)
      context_.log("drift: " + written.error().what());
  }

  // What on_drift asks for about the differences that the last look found new.
  asio::awaitable<void> act(std::shared_ptr<Guest> guest, std::string uuid) {
    std::vector<Difference> fresh = std::exchange(fresh_, {});
    if (fresh.empty() || policy_ == OnDrift::Report || stopped_)
      co_return;
    if (policy_ == OnDrift::Repair) {
      registrar::Turns::Turn turn = co_await guest->turn();
      std::vector<trail::Record> records = repair_all(*guest, uuid, fresh);
      co_await tell(std::move(records));
      co_return;
    }
    registrar::Txn txn{.id = context_.new_txn(), .who = kernel::own_requester()};
    std::string why = "on_drift: " + fresh.front().text;
    std::string verb = "pause";
    Result<> done;
    if (policy_ == OnDrift::Stop)
      done = co_await guest->kill(std::move(txn), std::move(why));
    else if (guest->status() == "running")
      done = co_await guest->control(std::move(verb), std::move(txn), std::move(why));
    if (!done)
      context_.log(fmt::format("{}: on_drift: {}", guest->state().ref.vm, done.error().what()));
  }

  // Tried, then looked at again: a repair is a success if its difference is gone.
  std::vector<trail::Record> repair_all(Guest& guest, const std::string& uuid,
                                        const std::vector<Difference>& fresh) {
    std::vector<trail::Record> records;
    auto found = subjects_.find(uuid);
    if (found == subjects_.end() || guest.ended())
      return records;
    Subject& subject = found->second;
    registrar::Txn txn{.id = context_.new_txn(), .who = kernel::own_requester()};
    std::vector<Result<>> tried;
    for (const Difference& difference : fresh)
      tried.push_back(guest::repair(difference, guest.seams(), guest.state(), guest.holds()));
    guest::LiveReport report = guest::live_check(guest);
    auto more = subject.acls.compare(guest.holds(), guest.seams());
    report.differences.insert(report.differences.end(), more.begin(), more.end());
    for (size_t i = 0; i < fresh.size(); ++i) {
      bool stays = report.gone || !report.unknown.empty() ||
                   std::ranges::any_of(report.differences,
                                       [&](const Difference& d) { return d.same_as(fresh[i]); });
      trail::Record record = record_of(fresh[i], "repair", guest, Culprit{});
      registrar::stamp(record, guest.state().ref, txn);
      record.success = !stays;
      if (!tried[i])
        record.set("why", tried[i].error().what());
      else if (stays)
        record.set("why", "it was put right, and is found as before");
      if (!stays)
        subject.book.forget(fresh[i]);
      records.push_back(std::move(record));
    }
    return records;
  }

  guest::Context& context_;
  Guests& guests_;
  OnDrift policy_;
  std::unique_ptr<kernel::Watch> cgroup_files_, bpf_calls_;
  std::unique_ptr<kernel::FileWatch> files_;
  std::vector<std::shared_ptr<asio::posix::stream_descriptor>> descriptors_;
  asio::steady_timer tick_;
  std::map<std::string, Subject> subjects_;                            // by uuid
  std::map<std::string, Result<std::vector<kernel::AclRule>>> rules_;  // by uuid, of one pass
  std::vector<Difference> fresh_;                                      // of the last look
  size_t first_ = 0;  // of those that the next tick looks at wholly; grows
  bool urgent_ = false;
  bool stopped_ = false;
};

class Handle final : public DriftWatch {
 public:
  explicit Handle(std::shared_ptr<Looker> looker) : looker_(std::move(looker)) {}
  ~Handle() override { looker_->stop(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;
  std::vector<Difference> known(const std::string& uuid) const override {
    return looker_->known(uuid);
  }

 private:
  std::shared_ptr<Looker> looker_;  // its coroutines hold it as well
};

}  // namespace

std::unique_ptr<DriftWatch> watch_drift(guest::Context& context, Guests& guests, OnDrift policy) {
  auto looker = std::make_shared<Looker>(context, guests, policy);
  looker->start();
  return std::make_unique<Handle>(std::move(looker));
}

}  // namespace tenure::daemon
