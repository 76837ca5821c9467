// SPDX-License-Identifier: Apache-2.0
// The other end of a QMP connection, played by the test: it writes whatever bytes the test wants,
// in the same event loop as the client.
#pragma once

#include <gtest/gtest.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/io_context.hpp>
#include <asio/posix/stream_descriptor.hpp>
#include <asio/read_until.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <asio/write.hpp>
#include <chrono>
#include <nlohmann/json.hpp>
#include <string>

#include "base/unique_fd.h"

namespace tenure::qemu {

inline constexpr const char* kGreeting =
    R"({"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": ["oob"]}})"
    "\r\n";

class Peer {
 public:
  explicit Peer(asio::io_context& context) : socket(context) {
    int ends[2];
    EXPECT_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends), 0);
    client = UniqueFd(ends[0]);
    socket.assign(ends[1]);
  }

  asio::awaitable<void> send(std::string bytes) {
    asio::error_code ignored;
    co_await asio::async_write(socket, asio::buffer(bytes),
                               asio::redirect_error(asio::use_awaitable, ignored));
  }
  // null at the end of the stream.
  asio::awaitable<nlohmann::json> next_command() {
    asio::error_code error;
    size_t length =
        co_await asio::async_read_until(socket, asio::dynamic_buffer(buffer), '\n',
                                        asio::redirect_error(asio::use_awaitable, error));
    if (error)
      co_return nlohmann::json();
    nlohmann::json command = nlohmann::json::parse(buffer.substr(0, length));
    buffer.erase(0, length);
    co_return command;
  }
  // Bytes that have come and were not read.
  size_t waiting() {
    int more = 0;
    EXPECT_EQ(ioctl(socket.native_handle(), FIONREAD, &more), 0);
    return buffer.size() + static_cast<size_t>(more);
  }
  asio::awaitable<void> answer(nlohmann::json command, nlohmann::json value) {
    nlohmann::json reply = {{"return", value}, {"id", command["id"]}};
    std::string bytes = reply.dump() + "\r\n";
    co_await send(std::move(bytes));
  }
  // Greeting and qmp_capabilities.
  asio::awaitable<void> greet() {
    std::string greeting = kGreeting;
    co_await send(std::move(greeting));
    nlohmann::json command = co_await next_command();
    EXPECT_EQ(command.value("execute", ""), "qmp_capabilities");
    EXPECT_EQ(command["arguments"], nlohmann::json::parse(R"({"enable": ["oob"]})"));
    nlohmann::json nothing = nlohmann::json::object();
    co_await answer(std::move(command), std::move(nothing));
  }

  UniqueFd client;
  asio::posix::stream_descriptor socket;
  std::string buffer;
};

// Runs the loop until nothing is left to do; a test that hangs fails here.
inline void run_to_end(asio::io_context& context) {
  context.run_for(std::chrono::seconds(20));
  EXPECT_TRUE(context.stopped()) << "something still waits";
}

template <class Coroutine>
void spawn(asio::io_context& context, Coroutine coroutine) {
  asio::co_spawn(context, std::move(coroutine), [](std::exception_ptr thrown) {
    if (!thrown)
      return;
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
      ADD_FAILURE() << "thrown: " << e.what();
    }
  });
}

}  // namespace tenure::qemu
