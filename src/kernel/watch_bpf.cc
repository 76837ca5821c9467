// SPDX-License-Identifier: Apache-2.0
// Loads src/bpf/watch.bpf.c. The tracepoints' numbers are read from a tracefs of our own that is
// attached nowhere: the host need not have one mounted, and nobody sees that we did.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/perf_event.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>
#include <vector>

#include "base/file.h"
#include "base/text.h"
#include "bpf/watch.skel.h"
#include "bpf/watch_layout.h"
#include "kernel/bpf_handles.h"
#include "kernel/watch.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxAtOnce = 512;  // sightings a drain

struct DestroyLink {
  void operator()(bpf_link* link) const { bpf_link__destroy(link); }
};
using BpfLink = std::unique_ptr<bpf_link, DestroyLink>;

Result<UniqueFd> own_tracefs() {
  UniqueFd context(fsopen("tracefs", FSOPEN_CLOEXEC));
  if (!context)
    return fail_sys("fsopen", "tracefs");
  if (fsconfig(context.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0)
    return fail_sys("create", "tracefs");
  // FSMOUNT_CLOEXEC is 1.
  UniqueFd mount(fsmount(context.get(), 0x1, 0));
  if (!mount)
    return fail_sys("fsmount", "tracefs");
  return mount;
}

// A tracepoint's program runs on every CPU, whichever the event is opened on.
Result<BpfLink> attach_tracepoint(bpf_program* program, int tracefs, const std::string& name) {
  std::string path = "events/syscalls/" + name + "/id";
  TRY(UniqueFd file, open_at(tracefs, path, O_RDONLY));
  TRY(std::string text, read_fd(file.get(), 64, path));
  auto number = parse_int<uint64_t>(trim(text));
  if (!number)
    return fail(Errc::Corrupt, path + ": no number");
  perf_event_attr attributes{};
  attributes.type = PERF_TYPE_TRACEPOINT;
  attributes.size = sizeof attributes;
  attributes.config = *number;
  long event = syscall(SYS_perf_event_open, &attributes, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
  if (event < 0)
    return fail_sys("perf_event_open", name);
  BpfLink link(bpf_program__attach_perf_event(program, static_cast<int>(event)));
  if (!link) {
    int err = errno;
    close(static_cast<int>(event));
    return fail_sys("attach to tracepoint", name, err);
  }
  return link;
}

Sighting to_sighting(const tenure_sighting& event) {
  using enum Sighting::What;
  Sighting seen{.what = Move,
                .path = "",
                .object = event.object,
                .moved = static_cast<pid_t>(event.moved),
                .who = {.pid = static_cast<pid_t>(event.tgid),
                        .uid = event.uid,
                        .auid = event.auid,
                        .comm = "",
                        .exe = ""}};
  seen.who.comm.assign(event.comm, strnlen(event.comm, sizeof event.comm));
  if (event.sight == TENURE_SIGHT_MOVE)
    return seen;
  bool attaches = event.command == BPF_PROG_ATTACH || event.command == BPF_PROG_DETACH ||
                  event.command == BPF_LINK_CREATE || event.command == BPF_LINK_UPDATE ||
                  event.command == BPF_LINK_DETACH;
  seen.what = attaches ? Attach : Map;
  return seen;
}

class BpfCalls final : public Watch {
 public:
  Result<> open();
  int fd() const override { return ring_buffer__epoll_fd(ring_.get()); }

  Result<> drain(const std::function<void(Sighting&&)>& each) override {
    taken_.clear();
    int err = ring_buffer__consume(ring_.get());
    if (err < 0 && err != -ENOBUFS)
      return fail_sys("read", "the ring of sightings", -err);
    for (const tenure_sighting& event : taken_)
      if (event.tgid != static_cast<uint32_t>(getpid()))
        each(to_sighting(event));
    return {};
  }

 private:
  // Never allocates: an exception must not pass through C.
  static int take(void* self, void* data, size_t size) noexcept {
    auto& taken = static_cast<BpfCalls*>(self)->taken_;
    tenure_sighting event{};
    if (size < sizeof event)
      return 0;
    std::memcpy(&event, data, sizeof event);
    taken.push_back(event);
    return taken.size() < kMaxAtOnce ? 0 : -ENOBUFS;
  }

  std::unique_ptr<tenure_watch, DestroySkeleton<tenure_watch>> skeleton_;
  std::vector<BpfLink> links_;
  std::vector<tenure_sighting> taken_;
  std::unique_ptr<ring_buffer, FreeRing> ring_;
};

Result<> BpfCalls::open() {
  libbpf_set_print(nullptr);
  skeleton_.reset(tenure_watch::open());
  if (!skeleton_)
    return fail_sys("open", "the watching programs");
  skeleton_->rodata->own_tgid = static_cast<uint32_t>(getpid());
  if (int err = tenure_watch::load(skeleton_.get()); err < 0)
    return fail_sys("load", "the watching programs", -err);
  TRY(UniqueFd tracefs, own_tracefs());
  struct Point {
    bpf_program* program;
    const char* name;
  };
  const Point points[] = {{skeleton_->progs.tenure_bpf_enter, "sys_enter_bpf"},
                          {skeleton_->progs.tenure_bpf_exit, "sys_exit_bpf"}};
  for (const Point& point : points) {
    TRY(BpfLink link, attach_tracepoint(point.program, tracefs.get(), point.name));
    links_.push_back(std::move(link));
  }
  BpfLink move(bpf_program__attach(skeleton_->progs.tenure_cgroup_move));
  if (!move)
    return fail_sys("attach to tracepoint", "cgroup_attach_task");
  links_.push_back(std::move(move));
  taken_.reserve(kMaxAtOnce);
  ring_.reset(
      ring_buffer__new(bpf_map__fd(skeleton_->maps.sightings), &BpfCalls::take, this, nullptr));
  if (!ring_)
    return fail_sys("map", "the ring of sightings");
  return {};
}

}  // namespace

Result<std::unique_ptr<Watch>> watch_bpf_calls() {
  auto calls = std::make_unique<BpfCalls>();
  TRY_OK(calls->open());
  return calls;
}

}  // namespace tenure::kernel
