// SPDX-License-Identifier: Apache-2.0
#include "cli/client.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "base/unix_socket.h"
#include "cli/exit_code.h"
#include "cli/programs.h"

namespace tenure::cli {
namespace {

using nlohmann::json;

constexpr int kStartTimeoutMs = 60'000;     // recovery of many guests comes before the socket
constexpr size_t kMaxReply = 256UL << 20U;  // bytes

struct ErrorName {
  std::string_view name;
  Errc code;
};
constexpr ErrorName kErrorNames[] = {
    {"Invalid", Errc::Invalid},   {"NotFound", Errc::NotFound},
    {"Exists", Errc::Exists},     {"Denied", Errc::Denied},
    {"Busy", Errc::Busy},         {"Unsupported", Errc::Unsupported},
    {"Corrupt", Errc::Corrupt},   {"Io", Errc::Io},
    {"Lost", Errc::Lost},         {"Timeout", Errc::Timeout},
    {"Internal", Errc::Internal},
};

std::unexpected<CallError> unreached(Error error) {
  return std::unexpected(CallError{std::move(error), false});
}

// Never returns. Its own session, so that a terminal's hang-up does not reach it.
[[noreturn]] void become_daemon(const std::string& path, const std::string& root, int log_fd,
                                int ready_fd) {
  setsid();
  int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
  dup2(null_fd, STDIN_FILENO);
  dup2(log_fd, STDOUT_FILENO);
  dup2(log_fd, STDERR_FILENO);
  fcntl(ready_fd, F_SETFD, 0);
  std::string number = std::to_string(ready_fd);
  std::string root_word = root.empty() ? "/" : root;
  if (chdir("/") == 0)
    execlp(path.c_str(), path.c_str(), "--root", root_word.c_str(), "--ready-fd", number.c_str(),
           nullptr);
  _exit(127);
}

std::string last_line(const std::string& log) {
  auto text = read_file(log, 64U << 20U);
  if (!text)
    return "see " + log;
  std::string_view lines = trim(*text);
  size_t newline = lines.rfind('\n');
  return printable(newline == lines.npos ? lines : lines.substr(newline + 1));
}

// The daemon detaches by a second fork, so that we leave no zombie and it is nobody's child.
Result<> start_daemon(const Paths& paths) {
  TRY_OK(make_dirs(paths.logs, 0750));
  std::string log = paths.logs + "/tenured.log";
  TRY(UniqueFd log_fd, open_file(log, O_WRONLY | O_CREAT | O_APPEND, 0640));
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0)
    return fail_sys("pipe", "");
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  pid_t child = fork();
  if (child < 0)
    return fail_sys("fork", "");
  if (child == 0) {
    if (fork() == 0)
      become_daemon(program_path("tenured"), paths.root, log_fd.get(), write_end.get());
    _exit(0);
  }
  waitpid(child, nullptr, 0);
  write_end.reset();
  pollfd ready{.fd = read_end.get(), .events = POLLIN, .revents = 0};
  if (poll(&ready, 1, kStartTimeoutMs) != 1)
    return fail(Errc::Timeout, "tenured does not get ready; see " + log);
  char byte = 0;
  if (read(read_end.get(), &byte, 1) == 1)
    return {};
  return fail(Errc::Io, "tenured did not start: " + last_line(log));
}

Result<UniqueFd> connect_or_start(const Paths& paths) {
  auto socket = connect_unix(paths.socket);
  if (socket || socket.error().code() == Errc::Denied)
    return socket;
  Result<> started = start_daemon(paths);
  // Another `tenure` may have won the race to start it.
  auto again = connect_unix(paths.socket);
  if (!again && !started)
    return fail(std::move(started).error());
  return again;
}

Result<std::string> read_reply(int fd) {
  std::string reply;
  char chunk[4096];
  for (;;) {
    ssize_t n = read(fd, chunk, sizeof chunk);
    if (n < 0 && errno == EINTR)
      continue;
    if (n < 0)
      return fail_sys("read", "tenured");
    if (n == 0)
      return fail(Errc::Lost,
                  "tenured hung up; what it began is finished or undone at its next start");
    reply.append(chunk, static_cast<size_t>(n));
    if (reply.size() > kMaxReply)
      return fail(Errc::Invalid, "tenured's answer is too long");
    if (reply.back() == '\0') {
      reply.pop_back();
      return reply;
    }
  }
}

Error error_of(const json& reply) {
  std::string name = reply.value("error", "");
  std::string message = name;
  if (auto parameters = reply.find("parameters");
      parameters != reply.end() && parameters->is_object())
    message = parameters->value("message", name);
  if (name.starts_with("org.tenure."))
    name.erase(0, sizeof "org.tenure." - 1);
  auto known = std::ranges::find(kErrorNames, name, &ErrorName::name);
  return Error{known == std::end(kErrorNames) ? Errc::Internal : known->code, message};
}

std::expected<json, CallError> call_over(Result<UniqueFd> socket, const std::string& method,
                                         const json& parameters) {
  if (!socket)
    return unreached(std::move(socket).error());
  json message = {{"method", "org.tenure." + method}, {"parameters", parameters}};
  std::string text = message.dump(-1, ' ', false, json::error_handler_t::replace);
  text.push_back('\0');
  if (Result<> sent = write_all(socket->get(), text, "tenured"); !sent)
    return unreached(std::move(sent).error());
  auto reply = read_reply(socket->get());
  if (!reply)
    return unreached(std::move(reply).error());
  json answer = json::parse(*reply, nullptr, false);
  if (!answer.is_object())
    return unreached(Error{Errc::Corrupt, "tenured's answer is not JSON"});
  if (answer.contains("error"))
    return std::unexpected(CallError{error_of(answer), true});
  return answer.value("parameters", json::object());
}

}  // namespace

std::expected<json, CallError> call(const Paths& paths, const std::string& method,
                                    const json& parameters) {
  return call_over(connect_or_start(paths), method, parameters);
}

std::expected<json, CallError> call_running(const Paths& paths, const std::string& method,
                                            const json& parameters) {
  return call_over(connect_unix(paths.socket), method, parameters);
}

int exit_code(const CallError& error) {
  if (!error.reached)
    return to_int(error.error.code() == Errc::Denied ? ExitCode::NotPermitted
                                                     : ExitCode::DaemonUnreachable);
  if (error.error.code() == Errc::NotFound)
    return to_int(ExitCode::NoSuchGuest);
  // A record that audit lost is a refusal by policy; the daemon is there.
  if (error.error.code() == Errc::Lost)
    return to_int(ExitCode::Failed);
  return to_int(exit_code_of(error.error));
}

}  // namespace tenure::cli
