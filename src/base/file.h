// SPDX-License-Identifier: Apache-2.0
// Whole small files, bounded and atomic. Thread-safe (no state).
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace tenure {

// Opens with O_CLOEXEC added. `mode` is used with O_CREAT only.
Result<UniqueFd> open_file(const std::string& path, int flags, unsigned mode = 0600);
// openat(2), O_CLOEXEC added; `path` is relative to `dir_fd`.
Result<UniqueFd> open_at(int dir_fd, const std::string& path, int flags, unsigned mode = 0600);

// The whole content, also of /proc and /sys files (size unknown); more than `max_bytes` is Invalid.
Result<std::string> read_file(const std::string& path, size_t max_bytes);
Result<std::string> read_fd(int fd, size_t max_bytes, std::string_view name_for_errors);

// write(2) until all is written or it fails.
Result<> write_all(int fd, std::string_view bytes, std::string_view name_for_errors);

// Writes `path`.tmp beside it, fsyncs, renames over `path`, fsyncs the folder: after a crash the
// file is the old or the new one, whole.
Result<> write_file_atomic(const std::string& path, std::string_view bytes, unsigned mode = 0600);

// Names in a folder, sorted, without those that begin with a dot; more than `max` is Invalid.
Result<std::vector<std::string>> folder_names(const std::string& path, size_t max);

// Absolute, without . and ..; symbolic links stay. `path` itself if the working folder is gone.
std::string absolute_path(const std::string& path);

// The folder that `path` lies in: "." for a bare name, "/" for what lies in the root.
std::string folder_of(const std::string& path);

// mkdir -p; `mode` for the folders that it makes.
Result<> make_dirs(const std::string& path, unsigned mode = 0755);

}  // namespace tenure
