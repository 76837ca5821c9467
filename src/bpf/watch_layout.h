/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* What the watching programs tell the daemon. */
#pragma once

#include <linux/types.h>

#define TENURE_WATCH_RING_BYTES (64 * 1024) /* about 900 sightings */
#define TENURE_WATCH_COMM_BYTES 16          /* TASK_COMM_LEN */

enum tenure_sight {
  TENURE_SIGHT_BPF = 1,  /* a bpf(2) call that changes a map or an attachment, and succeeded */
  TENURE_SIGHT_MOVE = 2, /* a task was moved into a cgroup */
};

struct tenure_sighting {
  __u32 sight;
  __u32 command; /* BPF: the command */
  __u64 object; /* BPF: id of the map, inode of the cgroup, 0 if not known; MOVE: the cgroup's id */
  __u32 moved;  /* MOVE: thread group id of the task */
  __u32 tgid;   /* of who did it */
  __u32 uid;
  __u32 auid;
  char comm[TENURE_WATCH_COMM_BYTES];
};
