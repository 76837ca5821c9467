// SPDX-License-Identifier: Apache-2.0
// <memory model=>: modules of memory. nvdimm, virtio-pmem and virtio-mem are refused by name.
#include "domain/parse.h"

namespace tenure::domain {
namespace {

constexpr uint64_t kMaxModuleKib = 1ULL << 40U;  // 1 PiB, far above what a host has
constexpr uint32_t kMaxHostNodes = 1024;         // MAX_NUMNODES of the kernel
constexpr uint32_t kMaxGuestNodes = 128;         // MAX_NODES, include/sysemu/numa.h of QEMU

}  // namespace

MemoryDevice parse_memory_device(const Element& e) {
  MemoryDevice memory{.info = parse_info(e)};
  if (e.choice("model", {"dimm"}).empty())
    e.invalid("attribute 'model' is missing");
  memory.access = e.choice("access", {"shared", "private"});
  if (auto source = e.child("source")) {
    if (auto nodes = source->child("nodemask")) {
      memory.nodeset = nodes->text();
      check_ranges(*nodes, memory.nodeset, kMaxHostNodes);
    }
    if (auto page = source->child("pagesize"))
      memory.page_kib = page->text_kib();
  }
  if (auto target = e.child("target")) {
    if (auto size = target->child("size"))
      memory.size_kib = size->text_kib();
    if (auto node = target->child("node"))
      memory.node = node->text_number<uint32_t>(0, kMaxGuestNodes - 1);
  }
  if (memory.size_kib == 0 || memory.size_kib > kMaxModuleKib)
    e.invalid("<target><size> is missing, or more than 1 PiB");
  return memory;
}

}  // namespace tenure::domain
