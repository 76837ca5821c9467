/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the device program and the daemon share: keys and values of the maps. The maps are pinned
 * and outlive the daemon, so any change here, or in what the program does, takes a new
 * TENURE_FENCE_LAYOUT; the daemon refuses pins of another layout.
 */
#pragma once

#include <linux/types.h>

#define TENURE_FENCE_LAYOUT 1

/* Kernel minors have 20 bits (MINORBITS of linux/kdev_t.h), so this is never a real one. */
#define TENURE_ANY_MINOR 0xffffffffU

#define TENURE_MAX_RULES 65536         /* about 20 a guest */
#define TENURE_RING_BYTES (256 * 1024) /* about 3600 denials of 72 bytes */
#define TENURE_COMM_BYTES 16           /* TASK_COMM_LEN */

/* Indices of the map `counters`. */
enum tenure_counter {
  TENURE_COUNTER_LAYOUT = 0,    /* TENURE_FENCE_LAYOUT */
  TENURE_COUNTER_LAST_SLOT = 1, /* the highest slot ever given out */
  TENURE_COUNTER_LOST = 2,      /* denials that the ring had no room to describe */
  TENURE_COUNTERS = 3,
};

/* Cgroup storage: which guest this is. Slot 0, as the kernel makes it, denies everything. */
struct tenure_guest {
  __u32 slot;
  __u32 unused;
  __u64 denials; /* all refused accesses, described in the ring or not */
};

/* type is BPF_DEVCG_DEV_*; the value is a __u32 of BPF_DEVCG_ACC_* bits, never 0. */
struct tenure_rule {
  __u32 slot;
  __u32 type;
  __u32 major;
  __u32 minor; /* or TENURE_ANY_MINOR */
};

struct tenure_denial {
  __u64 boottime_ns;
  __u32 slot;
  __u32 type;
  __u32 major;
  __u32 minor;
  __u32 access;
  __u32 tgid;
  __u32 uid;
  __u32 auid;
  __u32 ses;
  __u32 unused;
  char comm[TENURE_COMM_BYTES];
};
