// SPDX-License-Identifier: Apache-2.0
// One coroutine reads for the life of the connection; each command waits on a timer of its own,
// which its reply, its timeout or the end of the connection wakes. Commands are written at once,
// and only when the socket is full by a second coroutine.
#include "qemu/qmp.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <deque>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>

#include "qemu/command.h"
#include "qemu/qmp_message.h"
#include "qemu/qmp_outgoing.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using Milliseconds = std::chrono::milliseconds;

// Somebody who waits for one answer. Never set twice.
struct Waiter {
  explicit Waiter(const asio::any_io_executor& executor) : timer(executor) {}
  void answer(Result<json> value) {
    result = std::move(value);
    timer.cancel();
  }
  asio::steady_timer timer;
  std::optional<Result<json>> result;
};
using WaiterPtr = std::shared_ptr<Waiter>;

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  using Ptr = std::shared_ptr<Connection>;

  explicit Connection(asio::any_io_executor executor)
      : executor_(std::move(executor)),
        socket_(executor_),
        greeting_(std::make_shared<Waiter>(executor_)) {}

  Result<> start(UniqueFd socket);
  // Its capabilities.
  static asio::awaitable<Result<json>> await_greeting(Ptr self, Milliseconds timeout);
  static asio::awaitable<Result<json>> run(Ptr self, std::string command, json arguments,
                                           Milliseconds timeout, std::vector<int> fds);
  static asio::awaitable<std::vector<Result<json>>> run_all(Ptr self, std::vector<Command> commands,
                                                            Milliseconds timeout);
  void on_event(std::function<void(const QmpEvent&)> handler);
  void on_close(std::function<void(const Error&)> handler);
  void end(const Error& reason);
  // Nobody listens any more.
  void abandon();

 private:
  static asio::awaitable<void> read_all(Ptr self);
  static asio::awaitable<void> write_rest(Ptr self);

  // A command on its way. What could not be sent is answered already.
  struct Submitted {
    std::string name;  // "qmp query-status"
    uint64_t id = 0;
    WaiterPtr waiter;
  };
  Result<Outgoing> prepare(const std::string& command, const json& arguments,
                           const std::vector<int>& fds);
  Submitted submit(const std::string& command, const json& arguments, const std::vector<int>& fds);
  static asio::awaitable<Result<json>> answer_to(Ptr self, Submitted submitted,
                                                 Milliseconds timeout);
  // What became of a command whose time is over; takes it back if not a byte of it is written.
  Error give_up(uint64_t id, Milliseconds timeout);
  void write();
  bool flush();
  void receive(std::string_view bytes);
  Result<> take(QmpMessage message);
  Result<> take_event(const QmpEvent& event);
  Result<> take_reply(QmpMessage message);
  void deliver_early_events();
  void call_event_handler(const QmpEvent& event);
  void tell_closed();

  asio::any_io_executor executor_;
  asio::posix::stream_descriptor socket_;
  QmpLines lines_;
  WaiterPtr greeting_;
  bool greeted_ = false;
  uint64_t last_id_ = 0;
  std::map<uint64_t, WaiterPtr> pending_;
  std::deque<Outgoing> queue_;
  bool writing_ = false;  // write_rest() runs
  uint64_t lending_ = 0;  // the command that took fds along and is not answered; 0 for none
  std::deque<QmpEvent> early_events_;
  std::function<void(const QmpEvent&)> event_handler_;
  std::function<void(const Error&)> close_handler_;
  std::optional<Error> closed_;
};

Result<> Connection::start(UniqueFd socket) {
  asio::error_code error;
  socket_.assign(socket.get(), error);
  if (error)
    return fail_sys("watch the QMP socket", "", error.value());
  (void)socket.release();
  socket_.native_non_blocking(true, error);
  if (error)
    return fail_sys("set the QMP socket non-blocking", "", error.value());
  asio::co_spawn(executor_, read_all(shared_from_this()), asio::detached);
  return {};
}

asio::awaitable<void> Connection::read_all(Ptr self) {
  char chunk[4096];
  while (!self->closed_) {
    asio::error_code error;
    size_t n = co_await self->socket_.async_read_some(
        asio::buffer(chunk), asio::redirect_error(asio::use_awaitable, error));
    if (self->closed_)
      co_return;
    if (error == asio::error::eof) {
      self->end(Error(Errc::Lost, self->lines_.pending() > 0
                                      ? "QEMU hung up in the middle of a message"
                                      : "QEMU hung up"));
    } else if (error) {
      Error reason = sys_error("read from QEMU", "", error.value());
      self->end(Error(Errc::Lost, reason.what(), reason.sys_errno()));
    } else {
      self->receive(std::string_view(chunk, n));
    }
  }
}

void Connection::receive(std::string_view bytes) {
  lines_.feed(bytes);
  while (!closed_) {
    auto line = lines_.next();
    if (!line)
      return end(line.error().context("from QEMU"));
    if (!*line)
      return;
    auto message = parse_qmp_message(**line);
    if (!message)
      return end(message.error().context("from QEMU"));
    if (auto taken = take(std::move(*message)); !taken)
      return end(taken.error().context("from QEMU"));
  }
}

Result<> Connection::take(QmpMessage message) {
  if (greeted_ == (message.kind == QmpMessage::Kind::Greeting))
    return fail(Errc::Invalid, greeted_ ? "a second greeting" : "no greeting at first");
  if (message.kind == QmpMessage::Kind::Greeting) {
    greeted_ = true;
    greeting_->answer(std::move(*message.value));
    return {};
  }
  if (message.kind == QmpMessage::Kind::Event)
    return take_event(message.event);
  return take_reply(std::move(message));
}

Result<> Connection::take_reply(QmpMessage message) {
  if (message.id == lending_) {
    lending_ = 0;
    asio::post(executor_, [self = shared_from_this()] { self->write(); });
  }
  auto found = pending_.find(message.id);
  if (found == pending_.end()) {
    // Late replies to what has timed out are of no use to anybody.
    if (message.id >= 1 && message.id <= last_id_)
      return {};
    return fail(Errc::Invalid,
                fmt::format("a reply to command {}, which was never sent", message.id));
  }
  WaiterPtr waiter = std::move(found->second);
  pending_.erase(found);
  if (message.error)
    waiter->answer(fail(std::move(*message.error)));
  else
    waiter->answer(std::move(*message.value));
  return {};
}

Result<> Connection::take_event(const QmpEvent& event) {
  if (event_handler_ && early_events_.empty()) {
    call_event_handler(event);
    return {};
  }
  if (early_events_.size() >= kMaxQmpEarlyEvents)
    return fail(Errc::Invalid,
                fmt::format("more than {} events that nobody took", kMaxQmpEarlyEvents));
  early_events_.push_back(event);
  return {};
}

void Connection::call_event_handler(const QmpEvent& event) {
  auto handler = event_handler_;  // it may set another one
  try {
    handler(event);
  } catch (const std::exception& e) {
    end(Error(Errc::Internal, fmt::format("handler of QMP event {}: {}", event.name, e.what())));
  }
}

void Connection::on_event(std::function<void(const QmpEvent&)> handler) {
  event_handler_ = std::move(handler);
  if (!early_events_.empty())
    asio::post(executor_, [self = shared_from_this()] { self->deliver_early_events(); });
}

void Connection::deliver_early_events() {
  while (event_handler_ && !early_events_.empty()) {
    QmpEvent event = std::move(early_events_.front());
    call_event_handler(event);
    // Only now, so that an event that comes meanwhile queues up behind.
    if (!early_events_.empty())
      early_events_.pop_front();
  }
}

void Connection::on_close(std::function<void(const Error&)> handler) {
  close_handler_ = std::move(handler);
  if (closed_)
    asio::post(executor_, [self = shared_from_this()] { self->tell_closed(); });
}

void Connection::tell_closed() {
  auto handler = std::exchange(close_handler_, nullptr);
  if (!handler)
    return;
  try {
    handler(*closed_);
  } catch (const std::exception&) {
    // The connection is gone already; there is nobody left to tell.
  }
}

void Connection::end(const Error& reason) {
  if (closed_)
    return;
  closed_ = reason;
  asio::error_code ignored;
  socket_.close(ignored);
  queue_.clear();
  Error lost(Errc::Lost, "connection lost: " + reason.what(), reason.sys_errno());
  for (auto& [id, waiter] : std::exchange(pending_, {})) waiter->answer(fail(lost));
  if (!greeted_)
    greeting_->answer(fail(reason));
  if (close_handler_)
    asio::post(executor_, [self = shared_from_this()] { self->tell_closed(); });
}

void Connection::abandon() {
  event_handler_ = nullptr;
  close_handler_ = nullptr;
  end(Error(Errc::Lost, "closed by us"));
}

Result<Outgoing> Connection::prepare(const std::string& command, const json& arguments,
                                     const std::vector<int>& fds) {
  if (closed_)
    return fail(Errc::Lost, "connection lost: " + closed_->what());
  if (fds.size() > kMaxFds)
    return fail(Errc::Invalid, fmt::format("more than {} fds", kMaxFds));
  Outgoing message;
  for (int fd : fds) {
    UniqueFd copy(fcntl(fd, F_DUPFD_CLOEXEC, 3));
    if (!copy)
      return fail_sys("dup fd", std::to_string(fd));
    message.fds.push_back(std::move(copy));
  }
  TRY(message.bytes, encode_qmp_command(command, arguments, last_id_ + 1));
  message.id = ++last_id_;
  return message;
}

Connection::Submitted Connection::submit(const std::string& command, const json& arguments,
                                         const std::vector<int>& fds) {
  Submitted submitted{.name = "qmp " + command, .waiter = std::make_shared<Waiter>(executor_)};
  Result<Outgoing> message = prepare(command, arguments, fds);
  if (!message) {
    submitted.waiter->answer(fail(std::move(message).error()));
    return submitted;
  }
  submitted.id = message->id;
  pending_.emplace(message->id, submitted.waiter);
  queue_.push_back(std::move(*message));
  write();
  return submitted;
}

void Connection::write() {
  if (writing_ || flush())
    return;
  writing_ = true;
  asio::co_spawn(executor_, write_rest(shared_from_this()), asio::detached);
}

// False while the socket is full. While a command that took fds along is not answered, nothing else
// is sent: QEMU keeps the fds of one message only, and makes them blocking at each read until the
// command has taken them (tcp_chr_recv() of chardev/char-socket.c). Its monitor's thread, reading
// ahead, would do that to a tap that netdev_add has made non-blocking on the main thread meanwhile,
// and QEMU would stand still in its next read of the tap.
bool Connection::flush() {
  while (!closed_ && !queue_.empty()) {
    Outgoing& message = queue_.front();
    if (lending_ != 0 && lending_ != message.id)
      return true;
    ssize_t n = send_some(socket_.native_handle(), message);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
      return false;
    if (n < 0) {
      Error reason = sys_error("write to QEMU", "");
      end(Error(Errc::Lost, reason.what(), reason.sys_errno()));
      return true;
    }
    message.sent += static_cast<size_t>(n);
    if (!message.fds.empty())
      lending_ = message.id;
    message.fds.clear();
    if (message.sent == message.bytes.size())
      queue_.pop_front();
  }
  return true;
}

asio::awaitable<void> Connection::write_rest(Ptr self) {
  do {
    asio::error_code error;
    co_await self->socket_.async_wait(asio::posix::stream_descriptor::wait_write,
                                      asio::redirect_error(asio::use_awaitable, error));
  } while (!self->flush());
  self->writing_ = false;
}

Error Connection::give_up(uint64_t id, Milliseconds timeout) {
  pending_.erase(id);
  auto waiting = std::ranges::find(queue_, id, &Outgoing::id);
  if (waiting == queue_.end() || waiting->sent > 0)
    return Error(Errc::Timeout, fmt::format("no answer within {} ms", timeout.count()));
  queue_.erase(waiting);
  return Error(Errc::Timeout,
               fmt::format("never sent, as QEMU read nothing for {} ms", timeout.count()));
}

asio::awaitable<Result<json>> Connection::answer_to(Ptr self, Submitted submitted,
                                                    Milliseconds timeout) {
  Waiter& waiter = *submitted.waiter;
  if (!waiter.result) {
    asio::error_code woken;
    waiter.timer.expires_after(timeout);
    co_await waiter.timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
  if (!waiter.result)
    co_return fail(self->give_up(submitted.id, timeout).context(submitted.name));
  if (!*waiter.result)
    co_return fail(waiter.result->error().context(submitted.name));
  co_return std::move(**waiter.result);
}

asio::awaitable<Result<json>> Connection::run(Ptr self, std::string command, json arguments,
                                              Milliseconds timeout, std::vector<int> fds) {
  Submitted submitted = self->submit(command, arguments, fds);
  co_return co_await answer_to(self, std::move(submitted), timeout);
}

asio::awaitable<std::vector<Result<json>>> Connection::run_all(Ptr self,
                                                               std::vector<Command> commands,
                                                               Milliseconds timeout) {
  std::vector<Submitted> sent;
  for (const Command& command : commands)
    sent.push_back(self->submit(command.name, command.arguments, command.fds));
  std::vector<Result<json>> answers;
  for (Submitted& submitted : sent) {
    Result<json> answer = co_await answer_to(self, std::move(submitted), timeout);
    if (!answer && answer.error().code() == Errc::Timeout)
      timeout = Milliseconds(0);
    answers.push_back(std::move(answer));
  }
  co_return answers;
}

asio::awaitable<Result<json>> Connection::await_greeting(Ptr self, Milliseconds timeout) {
  WaiterPtr waiter = self->greeting_;
  if (!waiter->result) {
    asio::error_code woken;
    waiter->timer.expires_after(timeout);
    co_await waiter->timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
  }
  if (!waiter->result)
    co_return fail(Errc::Timeout, fmt::format("no greeting within {} ms", timeout.count()));
  co_return std::move(*waiter->result);
}

// With out-of-band commands on, of which we have none, QEMU reads the next command while it runs
// one. It reads byte by byte, 4 us each, so that takes longer than the running.
json capabilities_of(const json& offered) {
  const bool oob = std::ranges::find(offered, "oob") != offered.end();
  return oob ? json{{"enable", json::array({"oob"})}} : json();
}

// What the caller holds: its end is the connection's end.
class Handle final : public Qmp {
 public:
  explicit Handle(Connection::Ptr connection) : connection_(std::move(connection)) {}
  ~Handle() override { connection_->abandon(); }
  Handle(const Handle&) = delete;
  Handle& operator=(const Handle&) = delete;

  asio::awaitable<Result<json>> execute(std::string command, json arguments, Milliseconds timeout,
                                        std::vector<int> fds) override {
    return Connection::run(connection_, std::move(command), std::move(arguments), timeout,
                           std::move(fds));
  }
  asio::awaitable<std::vector<Result<json>>> execute_all(std::vector<Command> commands,
                                                         Milliseconds timeout) override {
    return Connection::run_all(connection_, std::move(commands), timeout);
  }
  void on_event(std::function<void(const QmpEvent&)> handler) override {
    connection_->on_event(std::move(handler));
  }
  void on_close(std::function<void(const Error&)> handler) override {
    connection_->on_close(std::move(handler));
  }
  void close() override { connection_->end(Error(Errc::Lost, "closed by us")); }

 private:
  Connection::Ptr connection_;
};

}  // namespace

asio::awaitable<Result<std::shared_ptr<Qmp>>> open_qmp(asio::any_io_executor executor,
                                                       UniqueFd socket, Milliseconds timeout) {
  auto deadline = std::chrono::steady_clock::now() + timeout;
  auto connection = std::make_shared<Connection>(std::move(executor));
  // From here on every way out ends the connection.
  auto handle = std::make_shared<Handle>(connection);
  if (auto started = connection->start(std::move(socket)); !started)
    co_return fail(std::move(started).error());
  Result<json> greeted = co_await Connection::await_greeting(connection, timeout);
  if (!greeted)
    co_return fail(greeted.error().context("QMP greeting"));
  auto left = std::max(Milliseconds(0), std::chrono::duration_cast<Milliseconds>(
                                            deadline - std::chrono::steady_clock::now()));
  std::string command = "qmp_capabilities";
  json arguments = capabilities_of(*greeted);
  std::vector<int> no_fds;
  Result<json> negotiated = co_await Connection::run(connection, std::move(command),
                                                     std::move(arguments), left, std::move(no_fds));
  if (!negotiated)
    co_return fail(std::move(negotiated).error());
  co_return std::shared_ptr<Qmp>(std::move(handle));
}

}  // namespace tenure::qemu
