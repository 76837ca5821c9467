// SPDX-License-Identifier: Apache-2.0
#include "reader/files.h"

#include <dirent.h>
#include <fcntl.h>
#include <spawn.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <tuple>

#include "base/file.h"
#include "base/text.h"
#include "ledger/ledger.h"
#include "reader/byte_stream.h"

extern char** environ;

namespace tenure::reader {
namespace {

constexpr char kDefaultLog[] = "/var/log/audit/audit.log";
constexpr size_t kMaxConf = 1 << 20;
constexpr size_t kMaxFiles = 100000;  // a folder with more is not a folder of logs

std::string base_of(const std::string& path) {
  return path.substr(path.rfind('/') + 1);
}

Result<std::vector<std::string>> regular_files(const std::string& folder) {
  std::unique_ptr<DIR, int (*)(DIR*)> dir(::opendir(folder.c_str()), ::closedir);
  if (!dir)
    return fail_sys("open folder", folder);
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(dir.get())) {
    if (entry->d_name[0] == '.')
      continue;
    struct stat st{};
    if (::fstatat(::dirfd(dir.get()), entry->d_name, &st, 0) != 0 || !S_ISREG(st.st_mode))
      continue;
    names.emplace_back(entry->d_name);
    if (names.size() > kMaxFiles) {
      return fail(Errc::Invalid, "read folder " + folder + ": more than 100000 files");
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

// O_NONBLOCK so that a FIFO without a writer is refused by the check below instead of hanging us.
Result<Source> open_log(const std::string& path) {
  TRY(UniqueFd fd, open_file(path, O_RDONLY | O_NONBLOCK | O_NOCTTY));
  struct stat st{};
  if (::fstat(fd.get(), &st) != 0)
    return fail_sys("stat", path);
  Source source;
  source.name = path;
  source.fd = std::move(fd);
  if (!S_ISREG(st.st_mode)) {
    source.kind = SourceKind::Stream;
    const int flags = ::fcntl(source.fd.get(), F_GETFL);
    ::fcntl(source.fd.get(), F_SETFL, flags & ~O_NONBLOCK);
    return source;
  }
  source.size = static_cast<uint64_t>(st.st_size);
  char first[kPeek];
  const ssize_t got = ::pread(source.fd.get(), first, sizeof first, 0);
  if (got < 0)
    return fail_sys("read", path);
  const Content content = content_of({first, static_cast<size_t>(got)});
  source.kind = content == Content::Plain ? SourceKind::Log : SourceKind::Stream;
  return source;
}

bool is_folder(const std::string& path) {
  struct stat st{};
  return ::stat(path.c_str(), &st) == 0 && S_ISDIR(st.st_mode);
}

bool is_ledger(const std::string& folder) {
  const auto none = [](uint64_t, std::string_view) { return false; };
  const auto read = ledger::read_entries(folder, 0, none);
  return read || read.error().code() != Errc::NotFound;
}

Source ledger_source(const std::string& folder) {
  Source source;
  source.kind = SourceKind::Ledger;
  source.name = folder;
  return source;
}

// Seconds of the first record in the file, 0 if there is none in its first 64 KiB.
uint64_t first_second(const std::string& path) {
  auto source = open_log(path);
  if (!source || (source->kind == SourceKind::Stream && source->size == 0))
    return 0;
  auto stream = open_content(fd_stream(std::move(source->fd), path), path);
  if (!stream)
    return 0;
  std::string text(65536, '\0');
  size_t got = 0;
  while (got < text.size()) {
    const auto more = (*stream)->read(text.data() + got, text.size() - got);
    if (!more || *more == 0)
      break;
    got += *more;
  }
  text.resize(got);
  const size_t at = text.find("audit(");
  if (at == std::string::npos)
    return 0;
  const std::string_view rest = std::string_view(text).substr(at + 6);
  return parse_int<uint64_t>(rest.substr(0, rest.find_first_not_of("0123456789"))).value_or(0);
}

// The files of a folder: families in the order of their first record's time.
Result<std::vector<std::string>> folder_files(const std::string& folder) {
  TRY(std::vector<std::string> names, regular_files(folder));
  for (std::string& name : names) name = folder + "/" + name;
  sort_rotated(names);
  std::map<std::string, std::pair<uint64_t, size_t>> rank;  // family -> first second, first place
  for (size_t i = 0; i < names.size(); ++i) {
    const std::string family = parse_rotated(names[i]).family;
    if (!rank.contains(family))
      rank[family] = {first_second(names[i]), i};
  }
  std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return rank[parse_rotated(a).family] < rank[parse_rotated(b).family];
  });
  return names;
}

// The files of one family in its folder, oldest first.
Result<std::vector<std::string>> family_files(const std::string& newest) {
  const std::string folder = folder_of(newest);
  TRY(const std::vector<std::string> names, regular_files(folder));
  std::vector<std::string> paths;
  for (const std::string& name : names) {
    if (parse_rotated(name).family == base_of(newest))
      paths.push_back(folder + "/" + name);
  }
  sort_rotated(paths);
  return paths;
}

// Whether each path still names the file that was opened.
bool same_files(const std::vector<Source>& sources) {
  return std::all_of(sources.begin(), sources.end(), [](const Source& source) {
    struct stat by_fd{};
    struct stat by_name{};
    return ::fstat(source.fd.get(), &by_fd) == 0 && ::stat(source.name.c_str(), &by_name) == 0 &&
           by_fd.st_ino == by_name.st_ino && by_fd.st_dev == by_name.st_dev;
  });
}

void add_all(std::vector<Source>& to, std::vector<Source> from) {
  std::move(from.begin(), from.end(), std::back_inserter(to));
}

// A rotation between listing and opening shows as a name that moved on: then all is opened again.
void open_system_logs(const std::string& newest, SourceSet& set) {
  if (::access(folder_of(newest).c_str(), F_OK) != 0)
    return;
  constexpr int kTries = 5;
  std::vector<Source> sources;
  std::vector<Error> problems;
  for (int i = 0; i < kTries; ++i) {
    sources.clear();
    problems.clear();
    auto paths = family_files(newest);
    if (!paths)
      problems.push_back(paths.error());
    for (const std::string& path : paths ? *paths : std::vector<std::string>{}) {
      auto source = open_log(path);
      if (!source) {
        problems.push_back(source.error());
        continue;
      }
      source->growing = path == newest;
      sources.push_back(std::move(*source));
    }
    if (same_files(sources))
      break;
  }
  add_all(set.sources, std::move(sources));
  std::move(problems.begin(), problems.end(), std::back_inserter(set.problems));
}

Result<Source> run_journalctl(bool follow) {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0)
    return fail_sys("pipe", "journalctl");
  UniqueFd reader(ends[0]);
  const UniqueFd writer(ends[1]);
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, writer.get(), STDOUT_FILENO);
  const char* argv[] = {"journalctl",       "-o",    "export", "--all", "--no-pager", "--no-tail",
                        "_TRANSPORT=audit", nullptr, nullptr};
  if (follow)
    argv[7] = "--follow";
  pid_t pid = 0;
  const int err =
      ::posix_spawnp(&pid, argv[0], &actions, nullptr, const_cast<char* const*>(argv), environ);
  ::posix_spawn_file_actions_destroy(&actions);
  if (err != 0)
    return fail_sys("run", "journalctl", err);
  Source source;
  source.kind = SourceKind::Stream;
  source.name = "journalctl";
  source.fd = std::move(reader);
  source.pid = pid;
  return source;
}

Result<> open_named(const std::vector<std::string>& logs, SourceSet& set) {
  std::vector<std::string> files;
  for (const std::string& log : logs) {
    if (log == "-") {
      Source source;
      source.kind = SourceKind::Stream;
      source.name = "-";
      source.fd = UniqueFd(::fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3));
      if (!source.fd)
        return fail_sys("open", "stdin");
      set.sources.push_back(std::move(source));
    } else if (!is_folder(log)) {
      files.push_back(log);
    } else if (is_ledger(log)) {
      set.sources.push_back(ledger_source(log));
    } else {
      TRY(const std::vector<std::string> inside, folder_files(log));
      files.insert(files.end(), inside.begin(), inside.end());
    }
  }
  sort_rotated(files);
  for (const std::string& path : files) {
    TRY(Source source, open_log(path));
    source.growing = parse_rotated(path).number == 0 && parse_rotated(path).date.empty();
    set.sources.push_back(std::move(source));
  }
  return {};
}

// There may be none yet; one that may not be read is a problem.
void add_own_ledger(const std::string& folder, SourceSet& set) {
  const auto read =
      ledger::read_entries(folder, 0, [](uint64_t, std::string_view) { return false; });
  if (!read && read.error().code() == Errc::Denied)
    set.problems.push_back(read.error());
  else if (read || read.error().code() != Errc::NotFound)
    set.sources.push_back(ledger_source(folder));
}

}  // namespace

RotatedName parse_rotated(const std::string& name) {
  RotatedName out{.family = name, .date = {}, .number = 0};
  for (const char* suffix : {".gz", ".zst", ".xz"}) {
    if (out.family.ends_with(suffix))
      out.family.resize(out.family.rfind('.'));
  }
  const size_t mark = out.family.find_last_of(".-");
  if (mark == std::string::npos || mark == 0)
    return out;
  const std::string last = out.family.substr(mark + 1);
  const auto number = parse_int<uint32_t>(last);
  if (!number)
    return out;
  if (out.family[mark] == '-' && last.size() >= 8) {
    out.date = last;
  } else if (out.family[mark] == '.') {
    out.number = *number;
  } else {
    return out;
  }
  out.family.resize(mark);
  return out;
}

void sort_rotated(std::vector<std::string>& paths) {
  std::map<std::string, size_t> place;
  for (const std::string& path : paths) place.try_emplace(parse_rotated(path).family, place.size());
  std::stable_sort(paths.begin(), paths.end(), [&](const std::string& a, const std::string& b) {
    const RotatedName left = parse_rotated(a);
    const RotatedName right = parse_rotated(b);
    return std::tuple(place[left.family], left.key()) <
           std::tuple(place[right.family], right.key());
  });
}

std::string auditd_log_file(const std::string& conf_path) {
  const auto text = read_file(conf_path, kMaxConf);
  if (!text)
    return kDefaultLog;
  for (const std::string_view line : split(*text, '\n')) {
    const size_t equals = line.find('=');
    if (equals == std::string_view::npos || trim(line.substr(0, equals)) != "log_file")
      continue;
    return std::string(trim(line.substr(equals + 1)));
  }
  return kDefaultLog;
}

Result<SourceSet> open_sources(const SourceRequest& request) {
  SourceSet set;
  if (request.journal) {
    TRY(Source journal, run_journalctl(request.follow));
    set.sources.push_back(std::move(journal));
  }
  if (!request.logs.empty())
    TRY_OK(open_named(request.logs, set));
  if (!request.logs.empty() || request.journal)
    return set;
  if (!request.ledger_only)
    open_system_logs(auditd_log_file(request.auditd_conf), set);
  add_own_ledger(request.ledger, set);
  return set;
}

}  // namespace tenure::reader
