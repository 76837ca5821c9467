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

struct pt_regs {
  unsigned long orig_ax; /* x86 */
  int syscallno;         /* arm64 */
} __attribute__((preserve_access_index));

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

/*
 * Two, written in turn: the daemon closes a window by naming the other one, and reads what is no
 * longer written a second later. So no addition is ever lost to a reader, and nothing is copied for
 * each refusal.
 */
struct refusals {
  __uint(type, BPF_MAP_TYPE_HASH);
  __uint(max_entries, TENURE_MAX_REFUSALS);
  __type(key, struct tenure_refusal_key);
  __type(value, struct tenure_refusal);
};
struct refusals refusals_a SEC(".maps");
struct refusals refusals_b SEC(".maps");

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

static __always_inline __u64* counter(__u32 index) {
  return bpf_map_lookup_elem(&counters, &index);
}

/* A kernel built without audit has neither field: (__u32)-1 is what audit says for "unset". */
static __always_inline void add_audit_identity(struct tenure_refusal* refusal) {
  struct task_struct* task = bpf_get_current_task_btf();
  refusal->auid = -1;
  refusal->ses = -1;
  if (bpf_core_field_exists(task->loginuid))
    refusal->auid = BPF_CORE_READ(task, loginuid.val);
  if (bpf_core_field_exists(task->sessionid))
    refusal->ses = BPF_CORE_READ(task, sessionid);
}

/* access, faccessat and faccessat2 ask for a device's permission and open nothing. Numbers of
 * x86-64 and arm64. */
static __always_inline __u32 is_probe(void) {
  struct pt_regs* regs = (struct pt_regs*)bpf_task_pt_regs(bpf_get_current_task_btf());
  if (bpf_core_field_exists(regs->orig_ax)) {
    unsigned long call = BPF_CORE_READ(regs, orig_ax);
    return call == 21 || call == 269 || call == 439;
  }
  if (bpf_core_field_exists(regs->syscallno)) {
    int call = BPF_CORE_READ(regs, syscallno);
    return call == 48 || call == 439;
  }
  return 0;
}

/* Returns 0 if there is no room for one more. */
static __always_inline int note(void* map, struct tenure_refusal_key* key) {
  struct tenure_refusal* known = bpf_map_lookup_elem(map, key);
  if (!known) {
    struct tenure_refusal fresh = {.first_ns = bpf_ktime_get_boot_ns()};
    fresh.tgid = bpf_get_current_pid_tgid() >> 32;
    fresh.uid = (__u32)bpf_get_current_uid_gid();
    add_audit_identity(&fresh);
    bpf_map_update_elem(map, key, &fresh, BPF_NOEXIST); /* or another CPU was first */
    known = bpf_map_lookup_elem(map, key);
    if (!known)
      return 0;
  }
  __sync_fetch_and_add(&known->count, 1);
  known->last_ns = bpf_ktime_get_boot_ns();
  return 1;
}

static __always_inline void ring(void) {
  __u64* armed = counter(TENURE_COUNTER_ARMED);
  if (!armed || !*armed)
    return;
  *armed = 0; /* two at once ring twice, which does no harm */
  __u64* bell = bpf_ringbuf_reserve(&denials, sizeof(*bell), 0);
  if (!bell)
    return; /* it is full of doorbells */
  *bell = 1;
  bpf_ringbuf_submit(bell, 0);
}

static __always_inline void describe(struct bpf_cgroup_dev_ctx* ctx, struct tenure_guest* guest) {
  struct tenure_refusal_key key = {
      .slot = guest->slot,
      .type = ctx->access_type & 0xffff,
      .major = ctx->major,
      .minor = ctx->minor,
      .access = ctx->access_type >> 16,
      .probe = is_probe(),
  };
  bpf_get_current_comm(key.comm, sizeof(key.comm));
  __u64* window = counter(TENURE_COUNTER_WINDOW);
  int noted = window && *window ? note(&refusals_b, &key) : note(&refusals_a, &key);
  if (!noted) {
    __u64* lost = counter(TENURE_COUNTER_LOST);
    __sync_fetch_and_add(&guest->overflows, 1);
    if (lost)
      __sync_fetch_and_add(lost, 1);
  }
  ring();
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
  describe(ctx, guest);
  return 0;
}
