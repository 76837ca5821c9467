// SPDX-License-Identifier: Apache-2.0
#include "kernel/node.h"
