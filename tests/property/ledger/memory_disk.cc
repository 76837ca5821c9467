// SPDX-License-Identifier: Apache-2.0
// Each test program is built from its own folder; the disk in memory is the unit tests' one.
#include "tests/unit/ledger/memory_disk.cc"
