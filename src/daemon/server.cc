// SPDX-License-Identifier: Apache-2.0
#include "daemon/server.h"

#include <sys/socket.h>
#include <unistd.h>

#include <asio/buffer.hpp>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/local/stream_protocol.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <list>
#include <memory>
#include <nlohmann/json.hpp>

#include "kernel/process.h"

namespace tenure::daemon {
namespace {

using asio::local::stream_protocol;
using nlohmann::json;
using namespace std::chrono_literals;

// A peer that has begun a message must end it, and take its reply, within this time.
constexpr auto kStallTimeout = 30s;
constexpr size_t kChunk = 16384;  // bytes

class Connection;

// What all connections share.
struct Peers {
  std::list<Connection*> idle;  // waiting for a call, or for the rest of one; the longest first
  size_t count = 0;
  size_t unfinished = 0;  // bytes of messages that have begun
};

class Connection : public std::enable_shared_from_this<Connection> {
 public:
  Connection(stream_protocol::socket socket, Api& api, std::shared_ptr<Peers> peers)
      : socket_(std::move(socket)),
        deadline_(socket_.get_executor()),
        api_(api),
        peers_(std::move(peers)) {
    ++peers_->count;
  }
  ~Connection() {
    leave_idle();
    forget_unfinished();
    --peers_->count;
  }
  void hang_up() {
    leave_idle();
    asio::error_code ignored;
    socket_.close(ignored);
  }

  asio::awaitable<void> run() {
    if (!allowed())
      co_return;
    for (;;) {
      std::string message;
      peers_->idle.push_back(this);
      bool complete = co_await read(message);
      leave_idle();
      forget_unfinished();
      if (!complete)
        co_return;
      json call = json::parse(message, nullptr, false);
      if (!call.is_object())
        co_return;
      // Asked for anew with each call: the peer of a socket may have handed it to another process,
      // and exits are seen.
      auto who = kernel::peer_requester(socket_.native_handle());
      if (!who)
        co_return;
      json reply = co_await api_.call(std::move(call), std::move(*who));
      std::string text = reply.dump(-1, ' ', false, json::error_handler_t::replace);
      text.push_back('\0');
      bool written = co_await write(std::move(text));
      if (!written)
        co_return;
    }
  }

 private:
  void leave_idle() { std::erase(peers_->idle, this); }
  void forget_unfinished() { peers_->unfinished -= std::exchange(unfinished_, 0); }
  // False if all peers together hold too much.
  bool account() {
    peers_->unfinished += buffer_.size() - unfinished_;
    unfinished_ = buffer_.size();
    return peers_->unfinished <= kMaxUnfinished;
  }

  bool allowed() {
    ucred peer{};
    socklen_t size = sizeof peer;
    if (getsockopt(socket_.native_handle(), SOL_SOCKET, SO_PEERCRED, &peer, &size) < 0)
      return false;
    return peer.uid == 0 || peer.uid == geteuid();
  }

  void arm() {
    deadline_.expires_after(kStallTimeout);
    auto self = weak_from_this();
    deadline_.async_wait([self](asio::error_code error) {
      auto connection = self.lock();
      if (error || !connection)
        return;
      asio::error_code ignored;
      connection->socket_.close(ignored);
    });
  }

  // One message without its NUL. What follows it stays in the buffer.
  asio::awaitable<bool> read(std::string& message) {
    for (size_t seen = 0;;) {
      size_t end = buffer_.find('\0', seen);
      if (end != buffer_.npos) {
        message = buffer_.substr(0, end);
        buffer_.erase(0, end + 1);
        deadline_.cancel();
        co_return true;
      }
      seen = buffer_.size();
      if (seen > kMaxMessage || !account())
        co_return false;
      if (seen > 0)
        arm();
      buffer_.resize(seen + kChunk);
      auto space = asio::buffer(buffer_.data() + seen, kChunk);
      asio::error_code error;
      size_t n =
          co_await socket_.async_read_some(space, asio::redirect_error(asio::use_awaitable, error));
      buffer_.resize(seen + n);
      if (error)
        co_return false;
    }
  }

  asio::awaitable<bool> write(std::string text) {
    arm();
    asio::error_code error;
    auto bytes = asio::buffer(text);
    co_await asio::async_write(socket_, bytes, asio::redirect_error(asio::use_awaitable, error));
    deadline_.cancel();
    co_return !error;
  }

  stream_protocol::socket socket_;
  asio::steady_timer deadline_;
  Api& api_;
  std::shared_ptr<Peers> peers_;
  size_t unfinished_ = 0;  // of this one, as accounted
  std::string buffer_;
};

}  // namespace

asio::awaitable<void> serve(asio::any_io_executor executor, UniqueFd listener, Api& api,
                            std::function<void(const std::string&)> log) {
  stream_protocol::acceptor acceptor(executor);
  acceptor.assign(stream_protocol(), listener.release());
  auto peers = std::make_shared<Peers>();
  for (;;) {
    asio::error_code error;
    stream_protocol::socket socket =
        co_await acceptor.async_accept(asio::redirect_error(asio::use_awaitable, error));
    if (error == asio::error::operation_aborted)
      co_return;
    if (error) {
      // Out of fds or memory: those that are being served go on; wait rather than spin.
      log("accept: " + error.message());
      asio::steady_timer pause(executor, 100ms);
      co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
      continue;
    }
    if (peers->count >= kMaxConnections && peers->idle.empty())
      continue;
    if (peers->count >= kMaxConnections)
      peers->idle.front()->hang_up();
    auto connection = std::make_shared<Connection>(std::move(socket), api, peers);
    auto task = [connection]() -> asio::awaitable<void> { co_await connection->run(); };
    asio::co_spawn(executor, std::move(task), asio::detached);
  }
}

}  // namespace tenure::daemon
