// SPDX-License-Identifier: Apache-2.0
#include "qemu/process.h"
