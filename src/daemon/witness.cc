// SPDX-License-Identifier: Apache-2.0
#include "daemon/witness.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <optional>
#include <system_error>
#include <thread>

#include "base/clock.h"
#include "base/file.h"
#include "base/text.h"
#include "ledger/cosign.h"
#include "ledger/note.h"

namespace tenure::daemon {
namespace {

using Clock = std::chrono::steady_clock;
using namespace std::chrono_literals;

constexpr auto kPatience = 10s;
constexpr auto kAgain = 30s;
constexpr size_t kMaxReply = ledger::kMaxNote;

// Both ends of one hand-over: the checkpoint goes to `in`, the answer comes from `out`.
struct Channel {
  UniqueFd in, out;
  pid_t child = -1;

  Channel() = default;
  Channel(const Channel&) = delete;
  Channel& operator=(const Channel&) = delete;
  Channel(Channel&& other) noexcept
      : in(std::move(other.in)), out(std::move(other.out)), child(std::exchange(other.child, -1)) {}
  Channel& operator=(Channel&&) = delete;
  ~Channel() {
    if (child <= 0)
      return;
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
  }
};

Result<Channel> run_command(const std::vector<std::string>& words) {
  int down[2], up[2];
  if (pipe2(down, O_CLOEXEC) < 0)
    return fail_sys("pipe", "");
  UniqueFd down_read(down[0]), down_write(down[1]);
  if (pipe2(up, O_CLOEXEC) < 0)
    return fail_sys("pipe", "");
  UniqueFd up_read(up[0]), up_write(up[1]);
  posix_spawn_file_actions_t files;
  posix_spawn_file_actions_init(&files);
  posix_spawn_file_actions_adddup2(&files, down_read.get(), STDIN_FILENO);
  posix_spawn_file_actions_adddup2(&files, up_write.get(), STDOUT_FILENO);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, usual;
  sigemptyset(&none);
  sigemptyset(&usual);
  sigaddset(&usual, SIGPIPE);  // the daemon ignores it, and that would be inherited
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &usual);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
  std::vector<char*> arguments;
  for (const std::string& word : words) arguments.push_back(const_cast<char*>(word.c_str()));
  arguments.push_back(nullptr);
  Channel channel;
  int err =
      posix_spawnp(&channel.child, arguments[0], &files, &attributes, arguments.data(), environ);
  posix_spawn_file_actions_destroy(&files);
  posix_spawnattr_destroy(&attributes);
  if (err != 0) {
    channel.child = -1;
    return fail_sys("run", words[0], err);
  }
  channel.in = std::move(down_write);
  channel.out = std::move(up_read);
  fcntl(channel.in.get(), F_SETFL, O_NONBLOCK);
  fcntl(channel.out.get(), F_SETFL, O_NONBLOCK);
  return channel;
}

Result<Channel> connect_socket(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(Errc::Invalid, fmt::format("witness socket {}: the path is too long", path));
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Channel channel;
  // Non-blocking: a listener whose backlog is full answers EAGAIN at once (unix(7)).
  channel.in = UniqueFd(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!channel.in)
    return fail_sys("socket", path);
  if (connect(channel.in.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) < 0)
    return fail_sys("connect", path);
  channel.out = UniqueFd(fcntl(channel.in.get(), F_DUPFD_CLOEXEC, 0));
  return channel;
}

class Thread final : public Witness {
 public:
  Thread(WitnessConfig config, std::vector<ledger::WitnessKey> keys, std::string dir,
         std::function<void(const std::string&)> log, UniqueFd stop)
      : config_(std::move(config)),
        keys_(std::move(keys)),
        dir_(std::move(dir)),
        log_(std::move(log)),
        stop_fd_(std::move(stop)) {
    load();
  }
  ~Thread() override {
    {
      std::lock_guard lock(mutex_);
      stopping_ = true;
    }
    eventfd_write(stop_fd_.get(), 1);
    changed_.notify_all();
    if (thread_.joinable())
      thread_.join();
  }
  Thread(const Thread&) = delete;
  Thread& operator=(const Thread&) = delete;

  // Throws std::system_error.
  void start() {
    thread_ = std::thread([this] { run(); });
  }
  void offer() override {
    std::lock_guard lock(mutex_);
    offered_ = true;
    changed_.notify_all();
  }
  WitnessState state() const override {
    std::lock_guard lock(mutex_);
    return state_;
  }

 private:
  void run();
  void load();
  Result<> hand_over();
  Result<std::string> ask(std::string_view note);
  Result<std::string> exchange(Channel& channel, std::string_view note, Clock::time_point until);
  Result<std::string> cosigned(const std::string& note, std::string_view answer) const;

  const WitnessConfig config_;
  const std::vector<ledger::WitnessKey> keys_;
  const std::string dir_;
  const std::function<void(const std::string&)> log_;
  const UniqueFd stop_fd_;

  mutable std::mutex mutex_;
  std::condition_variable changed_;
  WitnessState state_;
  bool offered_ = true;  // what was published before this start
  bool stopping_ = false;
  std::thread thread_;
};

// The text of a note, with its final newline.
std::string text_of(const std::string& note) {
  return note.substr(0, note.find("\n\n") + 1);
}

// What an earlier daemon had got; only if the cosignature still verifies under today's keys.
void Thread::load() {
  auto note = read_file(dir_ + "/checkpoint.witnessed", ledger::kMaxNote);
  auto checkpoint = note ? ledger::peek_checkpoint(*note)
                         : Result<ledger::Checkpoint>(std::unexpected(note.error()));
  if (!checkpoint || (!keys_.empty() && !cosigned(*note, *note)))
    return;
  state_.witnessed = checkpoint->size;
}

void Thread::run() {
  std::unique_lock lock(mutex_);
  while (!stopping_) {
    auto wake = [this] { return stopping_ || offered_; };
    if (state_.error.empty())
      changed_.wait(lock, wake);
    else
      changed_.wait_for(lock, kAgain, wake);
    if (stopping_)
      return;
    offered_ = false;
    lock.unlock();
    Result<> done = hand_over();
    lock.lock();
    std::string error = done ? "" : done.error().what();
    if (error != state_.error && !error.empty() && !stopping_)
      log_("witness: " + error);
    state_.error = std::move(error);
  }
}

Result<> Thread::hand_over() {
  TRY(std::string note, read_file(dir_ + "/checkpoint", ledger::kMaxNote));
  TRY(ledger::Checkpoint checkpoint, ledger::peek_checkpoint(note));
  {
    std::lock_guard lock(mutex_);
    if (checkpoint.size <= state_.witnessed)
      return {};
  }
  TRY(std::string answer, ask(note));
  std::string kept = note;
  if (!keys_.empty()) {
    TRY(kept, cosigned(note, answer));
  }
  TRY_OK(write_file_atomic(dir_ + "/checkpoint.witnessed", kept, 0600));
  std::lock_guard lock(mutex_);
  state_.witnessed = checkpoint.size;
  state_.witnessed_ms = system_clock().realtime_ns() / 1'000'000;
  return {};
}

Result<std::string> Thread::ask(std::string_view note) {
  const Clock::time_point until = Clock::now() + kPatience;
  TRY(Channel channel,
      config_.command.empty() ? connect_socket(config_.socket) : run_command(config_.command));
  TRY(std::string answer, exchange(channel, note, until));
  if (channel.child <= 0)
    return answer;
  // It has closed its output; its exit may take a moment more.
  int status = 0;
  pid_t ended = 0;
  while ((ended = waitpid(channel.child, &status, WNOHANG)) == 0 && Clock::now() < until) {
    pollfd stop{stop_fd_.get(), POLLIN, 0};
    if (poll(&stop, 1, 10) > 0)
      break;
  }
  if (ended != channel.child)
    return fail(Errc::Timeout, fmt::format("{} does not end", config_.command[0]));
  channel.child = -1;
  if (!WIFEXITED(status) || WEXITSTATUS(status) != 0)
    return fail(Errc::Io, fmt::format("{} ended with status {:#x}", config_.command[0], status));
  return answer;
}

// Writes all, then tells the end, while reading up to the other side's end.
Result<std::string> Thread::exchange(Channel& channel, std::string_view note,
                                     Clock::time_point until) {
  std::string answer;
  for (;;) {
    const auto left =
        std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
    if (left <= 0)
      return fail(Errc::Timeout, fmt::format("no answer within {} s", kPatience.count()));
    pollfd waiting[] = {{stop_fd_.get(), POLLIN, 0},
                        {channel.out.get(), POLLIN, 0},
                        {note.empty() ? -1 : channel.in.get(), POLLOUT, 0}};
    if (poll(waiting, 3, static_cast<int>(left)) < 0 && errno != EINTR)
      return fail_sys("poll", "the witness");
    if (waiting[0].revents != 0)
      return fail(Errc::Busy, "tenured ends");
    if (waiting[2].revents != 0 && !note.empty()) {
      ssize_t n = write(channel.in.get(), note.data(), note.size());
      if (n < 0 && errno != EAGAIN && errno != EPIPE)
        return fail_sys("write to", "the witness");
      // One that closes its input has read enough; its answer and exit say whether that was so.
      note.remove_prefix(n > 0                     ? static_cast<size_t>(n)
                         : n < 0 && errno == EPIPE ? note.size()
                                                   : 0);
      if (note.empty()) {
        shutdown(channel.in.get(), SHUT_WR);
        channel.in.reset();
      }
    }
    if (waiting[1].revents == 0)
      continue;
    char chunk[4096];
    ssize_t n = read(channel.out.get(), chunk, sizeof chunk);
    if (n < 0 && errno != EAGAIN && errno != EINTR)
      return fail_sys("read from", "the witness");
    if (n == 0)
      return answer;
    if (n > 0)
      answer.append(chunk, static_cast<size_t>(n));
    if (answer.size() > kMaxReply)
      return fail(Errc::Invalid, "the witness's answer is too long");
  }
}

// The checkpoint with the lines of the answer that verify under a key of ours; at least one.
Result<std::string> Thread::cosigned(const std::string& note, std::string_view answer) const {
  const std::string text = text_of(note);
  std::string lines;
  std::string why = "the witness returned no cosignature of a configured key";
  for (std::string_view line : split(answer, '\n')) {
    for (const ledger::WitnessKey& key : keys_) {
      auto seen = key.check(text, line);
      if (seen)
        lines += fmt::format("{}\n", line);
      else if (seen.error().code() == Errc::Corrupt)
        why = seen.error().what();
    }
  }
  if (lines.empty())
    return fail(Errc::Corrupt, why);
  // Of the log's own lines, without any that the note had got before.
  std::string own = note.substr(0, note.find('\n', text.size() + 1) + 1);
  return own + lines;
}

}  // namespace

Result<std::unique_ptr<Witness>> open_witness(const WitnessConfig& config, std::string ledger_dir,
                                              std::function<void(const std::string&)> log) {
  std::vector<ledger::WitnessKey> keys;
  for (const std::string& vkey : config.keys) {
    TRY(ledger::WitnessKey key, ledger::WitnessKey::from_vkey(vkey));
    keys.push_back(std::move(key));
  }
  UniqueFd stop(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!stop)
    return fail_sys("eventfd", "");
  try {
    auto witness = std::make_unique<Thread>(config, std::move(keys), std::move(ledger_dir),
                                            std::move(log), std::move(stop));
    witness->start();
    return witness;
  } catch (const std::system_error& error) {
    return fail(Errc::Io, fmt::format("start a thread: {}", error.what()));
  }
}

}  // namespace tenure::daemon
