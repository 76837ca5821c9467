// SPDX-License-Identifier: Apache-2.0
#include "guest/start.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "base/unix_socket.h"
#include "guest/change/amount.h"
#include "guest/change/update_parts.h"
#include "guest/plan/host_devices.h"
#include "guest/run/ask.h"
#include "guest/run/confirm.h"
#include "guest/run/host_access.h"
#include "guest/run/uids.h"
#include "guest/run/wiring.h"
#include "kernel/process.h"
#include "qemu/hotplug.h"
#include "qemu/process.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;

using registrar::Hold;

constexpr auto kGreetingTimeout = 30s;
constexpr uint64_t kNofile = 8192;  // RLIMIT_NOFILE of QEMU

// The wanted limit, or what we may have at most: raising a hard limit needs CAP_SYS_RESOURCE.
uint64_t limit(__rlimit_resource resource, uint64_t wanted) {
  constexpr uint64_t kSysResource = 1ULL << 24U;  // linux/capability.h
  rlimit now{};
  if (getrlimit(resource, &now) < 0 || now.rlim_max == RLIM_INFINITY)
    return wanted;
  if (auto own = kernel::process_status(getpid()); own && (own->cap_eff & kSysResource) != 0)
    return wanted;
  return std::min<uint64_t>(wanted, now.rlim_max);
}

class Starter {
 public:
  Starter(Context& context, StartRequest request, HostOptions options, RunState state)
      : context_(context),
        domain_(std::move(request.domain)),
        options_(std::move(options)),
        state_(std::move(state)),
        seams_(std::make_unique<RunSeams>(*domain_, options_, context.mounts,
                                          context.fence(options_.fence))),
        saved_(std::move(request.saved)),
        operation_(context.journal, state_.ref, std::move(request.txn), *seams_),
        events_(context.executor) {}

  asio::awaitable<Result<std::shared_ptr<Guest>>> run() {
    Result<> done = co_await steps();
    if (!done) {
      Error why = std::move(done).error();
      // NotFound is said of guests and Invalid of definitions; here it was an image, a bridge, a
      // device of the host.
      if (why.code() == Errc::NotFound || why.code() == Errc::Invalid)
        why = Error{Errc::Io, why.what(), why.sys_errno()};
      co_await undo(why);
      co_return std::unexpected(std::move(why));
    }
    std::vector<Hold> holds = operation_.take_holds();
    std::ranges::move(loans_left_, std::back_inserter(holds));
    auto guest = std::make_shared<Guest>(context_, std::move(domain_), std::move(options_),
                                         std::move(state_), std::move(seams_), std::move(holds),
                                         std::move(process_.pidfd), std::move(qmp_));
    if (saved_ && saved_->paused)
      guest->set_status("paused");
    guest->set_balloon_txn(operation_.txn());
    co_return guest;
  }

 private:
  trail::Record control() const {
    return control_record("start", saved_ ? "restored" : "booted", state_, domain_->kvm);
  }

  asio::awaitable<Result<>> steps() {
    CO_TRY_OK(save_run(context_.paths, state_));
    CO_TRY_OK(co_await bind_host_drivers(operation_, *domain_, options_));
    CO_TRY(facts_, look_up(*domain_, options_, Missing::Refuse));
    Plan plan = make_plan(*domain_, facts_, options_);
    nodes_ = std::move(plan.nodes);
    std::vector<model::Claim> claims = std::move(plan.claims);
    trail::Record intent = control();
    CO_TRY_OK(co_await operation_.intend(std::move(claims), std::move(intent)));
    CO_TRY_OK(co_await operation_.apply());
    CO_TRY_OK(seams_->set_up_nics());
    if (seams_->fence() != nullptr)
      state_.slot = seams_->fence()->slot();
    if (seams_->fence() != nullptr && context_.fenced)
      context_.fenced(state_);
    CO_TRY_OK(save_run(context_.paths, state_));
    CO_TRY_OK(launch());
    CO_TRY_OK(co_await greet());
    CO_TRY_OK(confirm_confinement(state_.process, options_.uid));
    CO_TRY_OK(co_await set_links());
    if (saved_)
      CO_TRY_OK(co_await restore());
    std::vector<model::Claim*> unconfirmed = operation_.unconfirmed();
    CO_TRY_OK(co_await confirm(qmp_, state_.process, facts_, *seams_, std::move(unconfirmed)));
    seams_->close_lent_fds();
    CO_TRY_OK(co_await set_balloon());
    CO_TRY_OK(co_await announce());
    co_return co_await resume();
  }

  // Nothing of the guest runs yet: -S, and QEMU goes on with what was saved only at `cont`.
  asio::awaitable<Result<>> restore() {
    qmp_->on_event([this](const qemu::QmpEvent& event) { events_.deliver(event); });
    // QEMU 7.2 exits when it cannot read the state (migration/migration.c,
    // process_incoming_migration_co).
    qmp_->on_close([this](const Error&) { events_.close(); });
    seams_->set_process(state_.process);
    Borrower to{
        .context = context_, .state = state_, .seams = *seams_, .qmp = qmp_, .holds = loans_left_};
    Events& events = events_;
    registrar::Txn txn = operation_.txn();
    Result<> done = co_await load(to, events, *saved_, std::move(txn));
    qmp_->on_close(nullptr);
    qmp_->on_event(nullptr);
    if (!done && done.error().code() == Errc::Lost) {
      co_await reap();
      co_return fail(Errc::Io, done.error().what() + ": " + last_words(done.error()));
    }
    co_return done;
  }

  // The guest's driver gives the memory back once it is up; BALLOON_CHANGE tells then. What was
  // saved has its own.
  asio::awaitable<Result<>> set_balloon() {
    if (saved_)
      co_return Result<>{};
    if (std::string ignored = ignored_current_memory(*domain_); !ignored.empty())
      context_.log(fmt::format("{}: {}", state_.ref.vm, ignored));
    std::optional<uint64_t> kib = balloon_at_start(*domain_);
    if (!kib)
      co_return Result<>{};
    qemu::Command command{"balloon", {{"value", *kib * 1024}}};
    CO_TRY_OK(co_await ask(qmp_, std::move(command)));
    trail::Record record = control_record("set-memory", "requested", state_, domain_->kvm);
    record.set("target", *kib);
    registrar::stamp(record, state_.ref, operation_.txn());
    requests_.push_back(std::move(record));
    co_return Result<>{};
  }

  // The results of everything that QEMU holds, then op=start itself: all before the guest's first
  // instruction.
  asio::awaitable<Result<>> announce() {
    trail::Record success = control();
    std::vector<trail::Record> facts = machine_ids();
    std::ranges::move(requests_, std::back_inserter(facts));
    for (const domain::Interface& nic : domain_->interfaces)
      if (nic.link_up == false) {
        facts.push_back(link_record(state_, domain_->kvm, nic));
        registrar::stamp(facts.back(), state_.ref, operation_.txn());
      }
    // A daemon that dies between op=start and `cont` finds it so.
    state_.suspended = saved_ && !saved_->paused;
    if (state_.suspended)
      CO_TRY_OK(save_run(context_.paths, state_));
    CO_TRY_OK(co_await context_.journal.emit(std::move(facts)));
    Result<> concluded = co_await operation_.conclude(std::move(success));
    state_.started = operation_.announced();
    CO_TRY_OK(concluded);
    co_return save_run(context_.paths, state_);
  }

  // model=dac: what confirm_confinement() saw the process run as. Other models only where they are
  // in force.
  std::vector<trail::Record> machine_ids() const {
    std::vector<trail::Record> records;
    if (!options_.uid)
      return records;
    std::string label = fmt::format("+{0}:+{0}", *options_.uid);
    trail::Record record(trail::Kind::MachineId);
    record.set("vm-ctx", label)
        .set("img-ctx", label)
        .set("model", "dac")
        .set("uid", uint64_t{*options_.uid});
    registrar::stamp(record, state_.ref, operation_.txn());
    records.push_back(std::move(record));
    return records;
  }

  Result<> prepare_folders() {
    std::string sockets = options_.runtime_dir;
    TRY_OK(make_dirs(context_.paths.logs, 0750));
    TRY_OK(make_dirs(sockets, 0700));
    if (options_.uid && chown(sockets.c_str(), *options_.uid, *options_.uid) < 0)
      return fail_sys("chown", sockets);
    return {};
  }

  Result<> launch() {
    TRY_OK(prepare_folders());
    TRY(UniqueFd monitor, listen_unix(monitor_path(context_.paths, state_.ref.uuid), 0600));
    TRY(log_, open_file(guest_log_path(context_.paths, state_.ref.uuid),
                        O_RDWR | O_CREAT | O_APPEND, 0600));
    log_start_ = lseek(log_.get(), 0, SEEK_END);
    qemu::LaunchSpec spec;
    TRY(ChardevSockets sockets, bind_sockets(*domain_, options_));
    TRY_OK(start_helpers(context_, *domain_, facts_, options_, *seams_, state_));
    qemu::Wiring wiring = wire(*domain_, facts_, *seams_, options_, sockets, monitor.get());
    wiring.incoming = saved_.has_value();
    TRY(spec.argv, qemu::command_line(*domain_, wiring));
    spec.environment = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C", "HOME=/",
                        "TMPDIR=/var/tmp"};
    spec.fds = passed_fds(*seams_, sockets, monitor.get());
    spec.stderr_fd = log_.get();
    if (seams_->cgroup_v2() != nullptr)
      spec.cgroup_v2_fd = seams_->cgroup_v2()->dir_fd();
    if (seams_->cgroup_v1() != nullptr)
      spec.cgroup_v1_fds.push_back(seams_->cgroup_v1()->dir_fd());
    spec.uid = options_.uid;
    spec.gid = options_.uid;
    if (options_.uid)
      spec.dev_nodes = nodes_;
    for (const domain::Shmem& shmem : domain_->shmems)
      if (options_.uid && shmem.kind == domain::ShmemKind::Plain)
        spec.shm_files.push_back(shmem.name);
    spec.nofile = limit(RLIMIT_NOFILE, kNofile);
    spec.memlock_bytes = limit(RLIMIT_MEMLOCK, lock_limit(*domain_));
    TRY(process_, qemu::launch(spec));
    state_.process = process_.id;
    return save_run(context_.paths, state_);
  }

  asio::awaitable<Result<>> greet() {
    CO_TRY(UniqueFd socket, connect_unix(monitor_path(context_.paths, state_.ref.uuid)));
    auto qmp = co_await qemu::open_qmp(context_.executor, std::move(socket), kGreetingTimeout);
    if (!qmp) {
      co_await reap();
      co_return fail(Errc::Io, "QEMU did not start: " + last_words(std::move(qmp).error()));
    }
    qmp_ = std::move(*qmp);
    co_return Result<>{};
  }

  asio::awaitable<Result<>> set_links() {
    std::vector<qemu::Command> commands = qemu::link_commands(*domain_);
    for (qemu::Command& command : commands) CO_TRY_OK(co_await ask(qmp_, std::move(command)));
    co_return Result<>{};
  }

  // What QEMU wrote to its log in this run, last line first choice: it says more than a broken pipe
  // does.
  std::string last_words(const Error& otherwise) {
    std::string text(4096, '\0');
    off_t end = lseek(log_.get(), 0, SEEK_END);
    off_t from = std::max(log_start_, end - static_cast<off_t>(text.size()));
    ssize_t n = pread(log_.get(), text.data(), text.size(), from);
    if (n <= 0)
      return otherwise.what();
    text.resize(static_cast<size_t>(n));
    return printable(trim(text));
  }

  asio::awaitable<Result<>> resume() {
    if (!saved_)
      co_return co_await go();
    CO_TRY_OK(take_away(*saved_));
    Result<> done;
    if (!saved_->paused)
      done = co_await go();
    Result<> kept = done ? used_up(*saved_) : put_back(*saved_);
    if (!kept)
      context_.log(kept.error().what());
    if (!done || !std::exchange(state_.suspended, false))
      co_return done;
    // It runs, and what it came from is used up: that a next tenured says `cont` again is no reason
    // to end it.
    if (Result<> noted = save_run(context_.paths, state_); !noted)
      context_.log(noted.error().what());
    co_return done;
  }

  asio::awaitable<Result<>> go() {
    qemu::Command command{"cont", nlohmann::json::object()};
    CO_TRY_OK(co_await ask(qmp_, std::move(command)));
    co_return Result<>{};
  }

  asio::awaitable<void> reap() {
    if (!process_.pidfd)
      co_return;
    Result<> sent = kernel::signal_process(process_.pidfd.get(), SIGKILL);
    if (!sent && sent.error().code() != Errc::NotFound)
      context_.log(sent.error().what());
    asio::posix::stream_descriptor pidfd(context_.executor, process_.pidfd.release());
    asio::error_code error;
    co_await pidfd.async_wait(asio::posix::stream_descriptor::wait_read,
                              asio::redirect_error(asio::use_awaitable, error));
    siginfo_t info{};
    waitid(static_cast<idtype_t>(P_PIDFD), static_cast<id_t>(pidfd.native_handle()), &info,
           WEXITED);
  }

  // After op=start was announced, what failed is the run (op=stop), not the start.
  asio::awaitable<void> undo(const Error& why) {
    if (qmp_)
      qmp_->close();
    co_await reap();
    seams_->set_process({});
    seams_->close_lent_fds();
    Result<> helpers = co_await end_helpers(context_.executor, *seams_);
    if (!helpers)
      context_.log(helpers.error().what());
    trail::Record record =
        state_.started ? control_record("stop", "failed", state_, domain_->kvm) : control();
    record.success = state_.started;
    Result<> undone = co_await operation_.roll_back(std::move(record), why);
    if (!undone)
      context_.log(fmt::format("{}: rollback: {}", state_.ref.vm, undone.error().what()));
    unlink_sockets(*domain_, options_);
    std::vector<Hold> left = co_await end_loans_left();
    std::ranges::move(operation_.take_holds(), std::back_inserter(left));
    std::ranges::sort(left, {}, &Hold::grant);
    if (left.empty()) {
      if (Result<> forgotten = forget_run(context_.paths, state_.ref.uuid); !forgotten)
        context_.log(forgotten.error().what());
      co_return;
    }
    // The state stays with them.
    context_.log(fmt::format("{}: rollback: {}", state_.ref.vm, still_held(left)));
    if (context_.left_over)
      context_.left_over({.ref = state_.ref,
                          .holds = std::move(left),
                          .seams = kept_with(std::move(domain_), std::move(seams_))});
  }

  // Of a file that QEMU still had open when it could not be made to run.
  asio::awaitable<std::vector<Hold>> end_loans_left() {
    if (loans_left_.empty())
      co_return std::vector<Hold>{};
    registrar::RunRef ref = state_.ref;
    registrar::Txn txn = operation_.txn();
    registrar::Ending ending{.reason = "close", .why = "", .bounds = {}, .staying = nullptr};
    auto left = co_await registrar::release(context_.journal, std::move(ref), std::move(txn),
                                            *seams_, loans_left_, std::move(ending));
    Result<> committed = co_await context_.journal.commit();
    if (!committed)
      context_.log(committed.error().what());
    co_return left ? std::move(*left) : std::move(loans_left_);
  }

  Context& context_;
  std::unique_ptr<domain::Domain> domain_;
  HostOptions options_;
  RunState state_;
  std::unique_ptr<RunSeams> seams_;
  std::optional<Saved> saved_;
  std::vector<Hold> loans_left_;
  registrar::Operation operation_;
  Events events_;
  Facts facts_;
  std::vector<trail::Record> requests_;  // records of what was asked for at the start
  std::vector<kernel::DevNode> nodes_;
  UniqueFd log_;
  off_t log_start_ = 0;
  qemu::Launched process_;
  std::shared_ptr<qemu::Qmp> qmp_;
};

RunState first_state(const Context& context, const StartRequest& request,
                     const HostOptions& options) {
  // What had joined and left belongs to the definition.
  RunState state = request.saved ? request.saved->run : RunState{};
  state.process = {};
  state.slot = 0;
  state.helpers.clear();
  state.leaving.clear();  // nobody has asked this run's QEMU for anything
  state.started = state.suspended = false;
  state.ref = {.virt = request.domain->kvm ? "kvm" : "qemu",
               .vm = request.domain->name,
               .uuid = to_string(request.domain->uuid),
               .run = request.run};
  state.fence = !options.fence ? "none" : options.fence == kernel::CgroupVersion::V2 ? "v2" : "v1";
  state.cgroup_v2 = options.cgroup_v2;
  state.cgroup_v1 = options.cgroup_v1;
  state.uid = options.uid;
  if (!request.saved)
    state.xml = request.domain->source_xml;
  state.boot_id = context.boot_id;
  return state;
}

// There is one, but not the one that was asked for.
std::string why_unfenced(const Context& context) {
  return context.no_fence_reason.empty() ? "tenure.conf has another fence than was asked for"
                                         : context.no_fence_reason;
}

}  // namespace

Result<HostOptions> host_options(const Context& context, const StartRequest& request) {
  HostOptions options;
  std::string uuid = to_string(request.domain->uuid);
  options.base_devices = context.settings.base_devices;
  options.runtime_dir = run_dir(context.paths, uuid) + "/sockets";
  TRY(options.uid, uid_of(context.paths, context.settings, uuid));
  options.fence = request.fence;
  if (!options.fence && context.fence_v1 != nullptr)
    options.fence = kernel::CgroupVersion::V1;
  if (!request.fence && context.fence_v2 != nullptr)
    options.fence = kernel::CgroupVersion::V2;
  if (context.fence(options.fence) == nullptr) {
    if (request.require_fence.value_or(context.settings.require_fence))
      return fail(
          Errc::Denied,
          fmt::format(
              "no fence, no start: {}; require_fence = no starts it unfenced, on the record",
              why_unfenced(context)));
    options.fence = std::nullopt;
    return options;
  }
  std::string parent = context.settings.cgroup_parent;
  std::string name = (parent.empty() ? "" : "/" + parent) + "/tenure-" + uuid;
  if (options.fence == kernel::CgroupVersion::V2)
    options.cgroup_v2 = context.mounts.v2 + name;
  else
    options.cgroup_v1 = context.mounts.v1_devices + name;
  return options;
}

asio::awaitable<Result<std::shared_ptr<Guest>>> start(Context& context, StartRequest request) {
  auto options = host_options(context, request);
  if (!options) {
    RunState state = first_state(context, request, HostOptions{});
    std::string_view reason = request.saved ? "restored" : "booted";
    trail::Record record = control_record("start", reason, state, request.domain->kvm);
    record.set("why", options.error().what());
    record.success = false;
    registrar::stamp(record, state.ref, request.txn);
    std::vector<trail::Record> records{std::move(record)};
    Result<> written = co_await context.journal.write(std::move(records));
    if (!written)
      context.log(written.error().what());
    co_return std::unexpected(std::move(options).error());
  }
  RunState state = first_state(context, request, *options);
  // On the heap: GCC 12 keeps temporaries of a coroutine's caller alive in ways that are hard to
  // foresee.
  auto starter =
      std::make_unique<Starter>(context, std::move(request), std::move(*options), std::move(state));
  co_return co_await starter->run();
}

}  // namespace tenure::guest
