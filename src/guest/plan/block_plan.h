// SPDX-License-Identifier: Apache-2.0
// What a block job does with the chain of a disk: which images it is about, which one it writes to
// beside the top, and how it ends. Pure.
#pragma once

#include <cstdint>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>

#include "base/result.h"
#include "qemu/block_graph.h"
#include "qemu/hotplug.h"

namespace tenure::guest {

struct BlockJobRequest {
  std::string op;          // blockcommit, blockpull, blockcopy
  std::string disk;        // domain::find_device
  std::string top, base;   // images of the chain, by path; "" for its top, and for what lies lowest
  bool shallow = false;    // commit: only into the next image; copy: only the top image
  std::string dest;        // copy: absolute
  std::string format;      // copy: of dest; "" is that of the top image
  bool existing = false;   // copy: dest is there and is used as it is
  std::string then;        // once both are alike: pivot, finish; "" waits to be told
  uint64_t bandwidth = 0;  // bytes a second; 0 for no limit
};

struct JobPlan {
  size_t top = 0;              // place in the chain
  std::optional<size_t> base;  // nullopt: below the last
  bool becomes_ready = false;  // then waits for pivot or finish; else it ends by itself
  bool writes_base = false;
};

// Invalid, NotFound: what is wrong in the request, with what the chain is.
Result<JobPlan> plan_job(const qemu::DiskChain& chain, const BlockJobRequest& request);

// The command that starts it: it waits for job-finalize before it changes the chain, and for
// job-dismiss before it is gone. `target` is the node of the copy.
qemu::Command job_command(const qemu::DiskChain& chain, const JobPlan& plan,
                          const BlockJobRequest& request, const std::string& id,
                          const std::string& target);

}  // namespace tenure::guest
