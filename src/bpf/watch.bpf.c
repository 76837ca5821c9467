// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * Sees who changes maps and attachments of BPF programs, and who moves tasks between cgroups. The
 * kernel audits neither. bpf(2) alone is slower for it (0.7 us); no other system call is touched.
 *
 * The file descriptors that a call names are resolved while it runs, in the caller's own table, so
 * that the daemon knows which map or cgroup was meant and blames nobody for a change of another
 * one.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "watch_layout.h"

char watch_license[] SEC("license") = "Dual BSD/GPL";

/* Only the fields that we read; their offsets are taken from the running kernel's BTF at load. */
typedef struct {
  __u32 val;
} __attribute__((preserve_access_index)) kuid_t;
struct inode {
  unsigned long i_ino;
} __attribute__((preserve_access_index));
struct file {
  void* private_data;
  struct inode* f_inode;
} __attribute__((preserve_access_index));
struct fdtable {
  unsigned int max_fds;
  struct file** fd;
} __attribute__((preserve_access_index));
struct files_struct {
  struct fdtable* fdt;
} __attribute__((preserve_access_index));
struct bpf_map {
  __u32 id;
} __attribute__((preserve_access_index));
struct task_struct {
  int tgid;
  kuid_t loginuid;
  struct files_struct* files;
} __attribute__((preserve_access_index));
struct kernfs_node {
  __u64 id;
} __attribute__((preserve_access_index));
struct cgroup {
  struct kernfs_node* kn;
} __attribute__((preserve_access_index));

const volatile __u32 own_tgid = 0;

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, TENURE_WATCH_RING_BYTES);
} sightings SEC(".maps");

/* From a call's begin to its end, by thread. */
struct pending {
  __u32 command;
  __u32 unused;
  __u64 object;
};
struct {
  __uint(type, BPF_MAP_TYPE_LRU_HASH);
  __uint(max_entries, 1024);
  __type(key, __u64);
  __type(value, struct pending);
} calls SEC(".maps");

static __always_inline struct file* file_of(__u32 fd) {
  struct task_struct* task = (struct task_struct*)bpf_get_current_task();
  struct fdtable* table = BPF_CORE_READ(task, files, fdt);
  if (fd >= BPF_CORE_READ(table, max_fds))
    return 0;
  struct file** slot = BPF_CORE_READ(table, fd) + fd;
  struct file* file = 0;
  bpf_probe_read_kernel(&file, sizeof(file), slot);
  return file;
}

static __always_inline __u64 map_id(__u32 fd) {
  struct file* file = file_of(fd);
  if (!file)
    return 0;
  struct bpf_map* map = BPF_CORE_READ(file, private_data);
  return BPF_CORE_READ(map, id);
}

static __always_inline __u64 inode_of(__u32 fd) {
  struct file* file = file_of(fd);
  return file ? BPF_CORE_READ(file, f_inode, i_ino) : 0;
}

static __always_inline __u32 word_at(const char* attr, __u32 offset) {
  __u32 word = 0;
  bpf_probe_read_user(&word, sizeof(word), attr + offset);
  return word;
}

/* Offsets within union bpf_attr (uapi/linux/bpf.h), which never change. */
#define MAP_FD 0
#define BATCH_MAP_FD 36
#define ATTACH_TARGET_FD 0
#define LINK_TARGET_FD 4

/* Layout of the syscall tracepoints: events/syscalls/sys_enter_bpf/format. */
struct enter_args {
  __u64 common;
  __u64 number;
  __u64 command;
  const char* attr;
};
struct exit_args {
  __u64 common;
  __u64 number;
  long result;
};

SEC("tracepoint/syscalls/sys_enter_bpf")
int tenure_bpf_enter(struct enter_args* args) {
  struct pending call = {.command = (__u32)args->command};
  __u64 thread = bpf_get_current_pid_tgid();
  if (thread >> 32 == own_tgid)
    return 0;
  switch (call.command) {
    case BPF_MAP_UPDATE_ELEM:
    case BPF_MAP_DELETE_ELEM:
    case BPF_MAP_LOOKUP_AND_DELETE_ELEM:
      call.object = map_id(word_at(args->attr, MAP_FD));
      break;
    case BPF_MAP_UPDATE_BATCH:
    case BPF_MAP_DELETE_BATCH:
    case BPF_MAP_LOOKUP_AND_DELETE_BATCH:
      call.object = map_id(word_at(args->attr, BATCH_MAP_FD));
      break;
    case BPF_PROG_ATTACH:
    case BPF_PROG_DETACH:
      call.object = inode_of(word_at(args->attr, ATTACH_TARGET_FD));
      break;
    case BPF_LINK_CREATE:
      call.object = inode_of(word_at(args->attr, LINK_TARGET_FD));
      break;
    case BPF_LINK_UPDATE:
    case BPF_LINK_DETACH:
      break;
    default:
      return 0;
  }
  bpf_map_update_elem(&calls, &thread, &call, BPF_ANY);
  return 0;
}

static __always_inline struct tenure_sighting* sighting(__u32 sight) {
  struct tenure_sighting* seen = bpf_ringbuf_reserve(&sightings, sizeof(*seen), 0);
  if (!seen)
    return 0;
  struct task_struct* task = (struct task_struct*)bpf_get_current_task();
  seen->sight = sight;
  seen->command = 0;
  seen->moved = 0;
  seen->tgid = bpf_get_current_pid_tgid() >> 32;
  seen->uid = (__u32)bpf_get_current_uid_gid();
  seen->auid = -1;
  if (bpf_core_field_exists(task->loginuid))
    seen->auid = BPF_CORE_READ(task, loginuid.val);
  bpf_get_current_comm(seen->comm, sizeof(seen->comm));
  return seen;
}

SEC("tracepoint/syscalls/sys_exit_bpf")
int tenure_bpf_exit(struct exit_args* args) {
  __u64 thread = bpf_get_current_pid_tgid();
  struct pending* call = bpf_map_lookup_elem(&calls, &thread);
  if (!call)
    return 0;
  struct pending done = *call;
  bpf_map_delete_elem(&calls, &thread);
  if (args->result < 0)
    return 0;
  struct tenure_sighting* seen = sighting(TENURE_SIGHT_BPF);
  if (!seen)
    return 0;
  seen->command = done.command;
  seen->object = done.object;
  bpf_ringbuf_submit(seen, 0);
  return 0;
}

SEC("tp_btf/cgroup_attach_task")
int tenure_cgroup_move(__u64* args) {
  struct cgroup* group = (struct cgroup*)args[0];
  struct task_struct* task = (struct task_struct*)args[2];
  struct tenure_sighting* seen = sighting(TENURE_SIGHT_MOVE);
  if (!seen)
    return 0;
  seen->object = BPF_CORE_READ(group, kn, id);
  seen->moved = BPF_CORE_READ(task, tgid);
  bpf_ringbuf_submit(seen, 0);
  return 0;
}
