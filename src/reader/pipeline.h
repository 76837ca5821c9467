// SPDX-License-Identifier: Apache-2.0
// Reads all sources over all cores and hands out their records in the order of the stream. Plain
// files are cut into segments that are read by position (never mapped: a file that shrinks must not
// kill us, and taking a mapping of a gigabyte down costs what the copy did); everything else is one
// task a source, in parallel with the others. Threads that have nothing else to do share a stream.
#pragma once

#include <cstdint>
#include <functional>

#include "base/result.h"
#include "reader/batch.h"
#include "reader/files.h"

namespace tenure::reader {

struct ReadOptions {
  unsigned threads = 0;  // 0: as many as there are cores
  // Called now and then by the calling thread: bytes done and all (0 if not known).
  std::function<void(uint64_t, uint64_t)> progress;
};

// Calls `each`, on the calling thread, with every batch, in order; false stops. Errors of single
// sources become damage (ReadError) of a batch, so that the others are read all the same. The
// sources' descriptors are used up. Memory: about 1 MiB a thread, and what is of interest in each
// of 8 segments of 1 MiB that are ahead.
Result<> read_sources(SourceSet& set, const ReadOptions& options,
                      const std::function<bool(Batch)>& each);

}  // namespace tenure::reader
