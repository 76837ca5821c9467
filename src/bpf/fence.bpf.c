// SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause)
/*
 * The device ACL of all guests on cgroup v2: one program, attached to the cgroup of each guest. The
 * cgroup's storage says which guest it is, one hash map says what that guest may do. Rules change
 * by map updates; the program itself is loaded once and never replaced, since each load and unload
 * leaves records in the audit log.
 *
 * The license is dual since bpf_probe_read_kernel, for the audit identity, is a GPL-only helper.
 */
#include <linux/bpf.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_helpers.h>

#include "fence_layout.h"

char fence_license[] SEC("license") = "Dual BSD/GPL";

/* Only the fields that we read; their offsets are taken from the running kernel's BTF at load. */
typedef struct {
  __u32 val;
} __attribute__((preserve_access_index)) kuid_t;

struct task_struct {
  kuid_t loginuid;
  unsigned int sessionid;
} __attribute__((preserve_access_index));

struct {
  __uint(type, BPF_MAP_TYPE_CGROUP_STORAGE);
  __type(key, struct bpf_cgroup_storage_key);
  __type(value, struct tenure_guest);
} guests SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(map_flags, BPF_F_NO_PREALLOC);
  __uint(max_entries, TENURE_MAX_RULES);
  __type(key, struct tenure_rule);
  __type(value, __u32);
} rules SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_RINGBUF);
  __uint(max_entries, TENURE_RING_BYTES);
} denials SEC(".maps");

struct {
  __uint(type, BPF_MAP_TYPE_ARRAY);
  __uint(max_entries, TENURE_COUNTERS);
  __type(key, __u32);
  __type(value, __u64);
} counters SEC(".maps");

/* What the rules allow of `wanted`: the union of the exact rule and the one for any minor. */
static __always_inline __u32 allowed(struct tenure_rule* rule, __u32 wanted) {
  __u32* exact = bpf_map_lookup_elem(&rules, rule);
  __u32 access = exact ? *exact : 0;
  if ((access & wanted) == wanted)
    return access;
  rule->minor = TENURE_ANY_MINOR;
  __u32* any = bpf_map_lookup_elem(&rules, rule);
  return any ? access | *any : access;
}

static __always_inline void count_lost(void) {
  __u32 index = TENURE_COUNTER_LOST;
  __u64* lost = bpf_map_lookup_elem(&counters, &index);
  if (lost)
    __sync_fetch_and_add(lost, 1);
}

/* A kernel built without audit has neither field: (__u32)-1 is what audit says for "unset". */
static __always_inline void add_audit_identity(struct tenure_denial* denial) {
  struct task_struct* task = bpf_get_current_task_btf();
  denial->auid = -1;
  denial->ses = -1;
  if (bpf_core_field_exists(task->loginuid))
    denial->auid = BPF_CORE_READ(task, loginuid.val);
  if (bpf_core_field_exists(task->sessionid))
    denial->ses = BPF_CORE_READ(task, sessionid);
}

static __always_inline void describe(struct bpf_cgroup_dev_ctx* ctx, __u32 slot) {
  struct tenure_denial* denial = bpf_ringbuf_reserve(&denials, sizeof(*denial), 0);
  if (!denial) {
    count_lost();
    return;
  }
  denial->boottime_ns = bpf_ktime_get_boot_ns();
  denial->slot = slot;
  denial->type = ctx->access_type & 0xffff;
  denial->major = ctx->major;
  denial->minor = ctx->minor;
  denial->access = ctx->access_type >> 16;
  denial->tgid = bpf_get_current_pid_tgid() >> 32;
  denial->uid = (__u32)bpf_get_current_uid_gid();
  denial->unused = 0;
  add_audit_identity(denial);
  bpf_get_current_comm(denial->comm, sizeof(denial->comm));
  bpf_ringbuf_submit(denial, 0);
}

/* Returns 1 to allow, 0 to deny (EPERM). An access check for none of r, w, m touches no device. */
SEC("cgroup/dev")
int tenure_fence(struct bpf_cgroup_dev_ctx* ctx) {
  struct tenure_guest* guest = bpf_get_local_storage(&guests, 0);
  __u32 wanted = ctx->access_type >> 16;
  struct tenure_rule rule = {
      .slot = guest->slot,
      .type = ctx->access_type & 0xffff,
      .major = ctx->major,
      .minor = ctx->minor,
  };
  if (rule.slot && (allowed(&rule, wanted) & wanted) == wanted)
    return 1;
  __sync_fetch_and_add(&guest->denials, 1);
  describe(ctx, guest->slot);
  return 0;
}
