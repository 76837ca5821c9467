// SPDX-License-Identifier: Apache-2.0
// Deleters for what libbpf hands out, for std::unique_ptr.
#pragma once

#include <bpf/libbpf.h>

namespace tenure::kernel {

struct FreeRing {
  void operator()(ring_buffer* ring) const { ring_buffer__free(ring); }
};

// Of a skeleton that bpftool generated.
template <class Skeleton>
struct DestroySkeleton {
  void operator()(Skeleton* skeleton) const { Skeleton::destroy(skeleton); }
};

}  // namespace tenure::kernel
