// SPDX-License-Identifier: Apache-2.0
// Any bytes as a definition: parse, complete and write the command line without a crash, and what
// was accepted must be accepted again.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string_view>

#include "domain/domain.h"
#include "qemu/command_line.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view xml(reinterpret_cast<const char*>(data), size);
  auto parsed = tenure::domain::parse(xml, "fuzz.xml");
  if (!parsed)
    return 0;
  if (!tenure::domain::complete(*parsed))
    return 0;
  const tenure::qemu::Wiring wiring{.kvm = true, .runtime_dir = "/run", .preview = true};
  auto argv = tenure::qemu::command_line(*parsed, wiring);
  auto again = tenure::domain::parse_complete(xml, "fuzz.xml");
  if (!again)
    std::abort();
  const auto argv_again = tenure::qemu::command_line(*again, wiring);
  if (argv.has_value() != argv_again.has_value() || (argv && *argv != *argv_again))
    std::abort();
  return 0;
}
