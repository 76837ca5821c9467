// SPDX-License-Identifier: Apache-2.0
// `tenure edit`: the definition in the user's editor, and back. Whatever goes wrong, the text that
// was typed is kept.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <iostream>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "cli/answer.h"
#include "cli/commands.h"
#include "cli/exit_code.h"
#include "domain/domain.h"
#include "domain/text.h"

namespace tenure::cli {
namespace {

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value != nullptr ? value : "";
}

// As sudo and git choose it.
std::string editor() {
  for (const char* name : {"VISUAL", "EDITOR"})
    if (std::string word = variable(name); !word.empty())
      return word;
  return "vi";
}

Result<std::string> make_file(const std::string& text) {
  std::string folder = variable("TMPDIR");
  // The ending is for the editor's colours.
  std::string path = (folder.empty() ? "/tmp" : folder) + "/tenure-edit-XXXXXX.xml";
  UniqueFd fd(mkostemps(path.data(), 4, O_CLOEXEC));
  if (!fd)
    return fail_sys("make a file for the editor", path);
  TRY_OK(write_all(fd.get(), text, path));
  return path;
}

// The editor may be a command with arguments ("code --wait"), so a shell reads it.
Result<> run_editor(const std::string& path) {
  std::string command = editor() + " \"$1\"";
  pid_t child = fork();
  if (child < 0)
    return fail_sys("start", editor());
  if (child == 0) {
    execl("/bin/sh", "sh", "-c", command.c_str(), "sh", path.c_str(), nullptr);
    _exit(127);
  }
  int status = 0;
  while (waitpid(child, &status, 0) < 0)
    if (errno != EINTR)
      return fail_sys("wait for", editor());
  if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
    return {};
  return fail(Errc::Io, fmt::format("{} ended with {}", editor(),
                                    WIFEXITED(status) ? WEXITSTATUS(status) : WTERMSIG(status)));
}

// The daemon would take another uuid for another guest.
Result<> check_same_guest(const std::string& xml, const std::string& uuid) {
  TRY(domain::Domain domain, domain::parse(xml, "definition"));
  if (!domain.has_uuid || to_string(domain.uuid) == uuid)
    return {};
  return fail(Errc::Invalid, "the uuid is another: use `tenure define` for a new guest");
}

Result<std::string> with_uuid(std::string xml, const std::string& text) {
  TRY(domain::Domain domain, domain::parse(xml, "definition"));
  TRY(Uuid uuid, parse_uuid(text));
  return domain.has_uuid ? Result<std::string>(std::move(xml))
                         : domain::with_uuid(std::move(xml), uuid);
}

class Edit {
 public:
  Edit(const Options& options, std::string uuid, std::string before)
      : options_(options), uuid_(std::move(uuid)), before_(std::move(before)) {}

  int run() {
    auto made = make_file(before_);
    if (!made)
      return failed_locally(options_, made.error());
    path_ = *made;
    while (true) {
      Result<> edited = run_editor(path_);
      if (!edited)
        return keep(edited.error());
      auto after = read_file(path_, domain::kMaxXml);
      if (!after)
        return keep(after.error());
      if (*after == before_)
        return done("not changed");
      Result<> defined = define(*after);
      if (defined)
        return done("defined; it holds from the next start on");
      if (!again(defined.error()))
        return keep(defined.error());
    }
  }

 private:
  Result<> define(const std::string& xml) const {
    TRY_OK(check_same_guest(xml, uuid_));
    TRY(std::string whole, with_uuid(xml, uuid_));
    auto now = call(paths_of(options_), "Show", {{"guest", uuid_}});
    if (!now)
      return fail(now.error().error);
    const nlohmann::json& stored = now->at("xml");
    if (!stored.is_string() || stored.get<std::string>() != before_)
      return fail(Errc::Busy, "the definition was changed by somebody else meanwhile");
    auto reply = call(paths_of(options_), "Define", {{"xml", whole}, {"source", "definition"}});
    if (!reply)
      return fail(reply.error().error);
    return {};
  }

  // Asks whether to edit again; without a terminal nobody can answer.
  bool again(const Error& error) const {
    if (isatty(STDIN_FILENO) == 0)
      return false;
    complain(fmt::format("edit: {}", printable(error.what())));
    std::cerr << "Edit it again? (no keeps the text in a file) [Y/n] " << std::flush;
    std::string answer;
    if (!std::getline(std::cin, answer))
      return false;
    return answer.empty() || answer.front() == 'y' || answer.front() == 'Y';
  }

  int keep(const Error& error) const {
    complain(printable(fmt::format("edit: your text is in {}", path_)));
    return failed_locally(options_, error);
  }

  int done(std::string_view what) const {
    unlink(path_.c_str());
    Out out;
    if (!options_.quiet)
      out.line(printable(fmt::format("{} {}", options_.guest, what)));
    return 0;
  }

  const Options& options_;
  std::string uuid_, before_, path_;
};

}  // namespace

int run_edit(const Options& options) {
  auto reply = call(paths_of(options), "Show", {{"guest", options.guest}});
  if (!reply)
    return failed(options, reply.error());
  const nlohmann::json& xml = reply->at("xml");
  if (!xml.is_string())
    return failed_locally(
        options, Error(Errc::NotFound, options.guest +
                                           ": not defined, only running; `tenure show --xml` and "
                                           "`tenure define` make it a definition"));
  return Edit(options, reply->value("uuid", ""), xml.get<std::string>()).run();
}

}  // namespace tenure::cli
