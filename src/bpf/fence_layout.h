/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/*
 * What the device program and the daemon share: keys and values of the maps. The maps are pinned
 * and outlive the daemon, so any change here, or in what the program does, takes a new
 * TENURE_FENCE_LAYOUT; the daemon refuses pins of another layout.
 */
#pragma once

#include <linux/types.h>

#define TENURE_FENCE_LAYOUT 2

/* Kernel minors have 20 bits (MINORBITS of linux/kdev_t.h), so this is never a real one. */
#define TENURE_ANY_MINOR 0xffffffffU

#define TENURE_MAX_RULES 65536   /* about 20 a guest */
#define TENURE_RING_BYTES 4096   /* doorbells only; one page is the least */
#define TENURE_MAX_REFUSALS 4096 /* distinct refusals of one window, all guests */
#define TENURE_COMM_BYTES 16     /* TASK_COMM_LEN */

/* Indices of the map `counters`. */
enum tenure_counter {
  TENURE_COUNTER_LAYOUT = 0,    /* TENURE_FENCE_LAYOUT */
  TENURE_COUNTER_LAST_SLOT = 1, /* the highest slot ever given out */
  TENURE_COUNTER_LOST = 2,      /* denials that no refusal had room to describe */
  TENURE_COUNTER_WINDOW = 3,    /* 0 or 1: which map of refusals the program writes */
  TENURE_COUNTER_ARMED = 4,     /* not 0: the next denial rings the doorbell, and makes it 0 */
  TENURE_COUNTERS = 5,
};

/* Cgroup storage: which guest this is. Slot 0, as the kernel makes it, denies everything. */
struct tenure_guest {
  __u32 slot;
  __u32 unused;
  __u64 denials;   /* all refused accesses */
  __u64 overflows; /* those of them that no refusal describes */
};

/* type is BPF_DEVCG_DEV_*; the value is a __u32 of BPF_DEVCG_ACC_* bits, never 0. */
struct tenure_rule {
  __u32 slot;
  __u32 type;
  __u32 major;
  __u32 minor; /* or TENURE_ANY_MINOR */
};

/* Equal refusals of one window are one entry, with an exact count. */
struct tenure_refusal_key {
  __u32 slot;
  __u32 type;
  __u32 major;
  __u32 minor;
  __u32 access;
  __u32 probe; /* 1: access(2) and its kin, which open nothing */
  char comm[TENURE_COMM_BYTES];
};
struct tenure_refusal {
  __u64 count;
  __u64 first_ns; /* CLOCK_BOOTTIME */
  __u64 last_ns;
  __u32 tgid; /* of the first: */
  __u32 uid;
  __u32 auid;
  __u32 ses;
};
