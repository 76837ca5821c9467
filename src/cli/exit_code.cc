// SPDX-License-Identifier: Apache-2.0
#include "cli/exit_code.h"

namespace tenure::cli {

ExitCode exit_code_of(const Error& error) {
  struct Row {
    Errc errc;
    ExitCode code;
  };
  static constexpr Row kRows[] = {
      {Errc::Denied, ExitCode::NotPermitted},
      {Errc::NotFound, ExitCode::NoSuchGuest},
      {Errc::Invalid, ExitCode::Usage},
      {Errc::Lost, ExitCode::DaemonUnreachable},
  };
  for (const Row& row : kRows) {
    if (row.errc == error.code())
      return row.code;
  }
  return ExitCode::Failed;
}

}  // namespace tenure::cli
