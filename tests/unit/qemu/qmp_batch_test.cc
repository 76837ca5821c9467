// SPDX-License-Identifier: Apache-2.0
// Commands that are sent before the first of them is answered, against a scripted peer.
#include <functional>

#include "qemu/command.h"
#include "qemu/qmp.h"
#include "tests/unit/qemu/peer.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

class QmpBatch : public testing::Test {
 protected:
  using Answers = std::vector<Result<json>>;

  // What "a", "b" and "c" give once the peer, having read all three, has done `script`.
  Answers answers_after(std::function<asio::awaitable<void>(std::vector<json>)> script,
                        std::chrono::milliseconds timeout = 10s) {
    Answers answers;
    spawn(context, [&]() -> asio::awaitable<void> {
      co_await peer.greet();
      std::vector<json> commands;
      for (int i = 0; i < 3; ++i) {
        json command = co_await peer.next_command();
        commands.push_back(std::move(command));
      }
      co_await script(std::move(commands));
    });
    spawn(context, [&]() -> asio::awaitable<void> {
      asio::any_io_executor executor = context.get_executor();
      auto qmp = co_await open_qmp(executor, std::move(peer.client), 10s);
      EXPECT_TRUE(qmp) << qmp.error().what();
      if (qmp) {
        (*qmp)->on_event([this](const QmpEvent& event) { events.push_back(event.name); });
        std::vector<Command> commands{{"a", {}}, {"b", {}}, {"c", {}}};
        answers = co_await (*qmp)->execute_all(std::move(commands), timeout);
      }
      asio::error_code ignored;
      peer.socket.close(ignored);
    });
    run_to_end(context);
    return answers;
  }

  asio::awaitable<void> answer(const json& command) {
    json own = command;
    json name = command["execute"];
    co_await peer.answer(std::move(own), std::move(name));
  }

  asio::io_context context;
  Peer peer{context};
  std::vector<std::string> events;
};

void expect_value(const Result<json>& answer, const char* value) {
  ASSERT_TRUE(answer) << answer.error().what();
  EXPECT_EQ(*answer, value);
}

void expect_error(const Result<json>& answer, Errc code, const char* what) {
  ASSERT_FALSE(answer);
  EXPECT_EQ(answer.error().code(), code);
  EXPECT_EQ(answer.error().what(), what);
}

TEST_F(QmpBatch, AllAreSentBeforeTheFirstAnswerAndAnsweredInTheirOrder) {
  Answers answers = answers_after([this](std::vector<json> commands) -> asio::awaitable<void> {
    for (const json& command : commands) co_await answer(command);
  });
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[0], "a");
  expect_value(answers[1], "b");
  expect_value(answers[2], "c");
}

TEST_F(QmpBatch, AnErrorInTheMiddleIsThatOfItsCommandAlone) {
  Answers answers = answers_after([this](std::vector<json> commands) -> asio::awaitable<void> {
    co_await answer(commands[0]);
    json refusal = {{"error", {{"class", "GenericError"}, {"desc", "no b"}}},
                    {"id", commands[1]["id"]}};
    std::string bytes = refusal.dump() + "\r\n";
    co_await peer.send(std::move(bytes));
    co_await answer(commands[2]);
  });
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[0], "a");
  expect_error(answers[1], Errc::Internal, "qmp b: no b");
  expect_value(answers[2], "c");
}

TEST_F(QmpBatch, EventsBetweenAnswersAreDelivered) {
  Answers answers = answers_after([this](std::vector<json> commands) -> asio::awaitable<void> {
    for (const json& command : commands) {
      std::string event =
          "{\"event\": \"BEFORE_" + command["execute"].get<std::string>() + "\"}\r\n";
      co_await peer.send(std::move(event));
      co_await answer(command);
    }
  });
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[2], "c");
  EXPECT_EQ(events, (std::vector<std::string>{"BEFORE_a", "BEFORE_b", "BEFORE_c"}));
}

TEST_F(QmpBatch, WhatWasNotAnsweredBeforeTheEndIsLost) {
  Answers answers = answers_after([this](std::vector<json> commands) -> asio::awaitable<void> {
    co_await answer(commands[0]);
    peer.socket.close();
  });
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[0], "a");
  expect_error(answers[1], Errc::Lost, "qmp b: connection lost: QEMU hung up");
  expect_error(answers[2], Errc::Lost, "qmp c: connection lost: QEMU hung up");
}

TEST_F(QmpBatch, GarbageBetweenAnswersLosesTheRest) {
  Answers answers = answers_after([this](std::vector<json> commands) -> asio::awaitable<void> {
    co_await answer(commands[0]);
    std::string garbage = "garbage\r\n";
    co_await peer.send(std::move(garbage));
  });
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[0], "a");
  expect_error(answers[1], Errc::Lost, "qmp b: connection lost: from QEMU: no valid JSON");
  expect_error(answers[2], Errc::Lost, "qmp c: connection lost: from QEMU: no valid JSON");
}

// QEMU keeps the descriptors of one message only, and changes them at each byte that it reads
// before their command has taken them.
TEST_F(QmpBatch, NothingIsSentBehindDescriptorsBeforeTheyAreTaken) {
  std::vector<std::string> order;
  spawn(context, [&]() -> asio::awaitable<void> {
    co_await peer.greet();
    json first = co_await peer.next_command();
    order.push_back(first["execute"]);
    EXPECT_EQ(peer.waiting(), 0U) << "what follows has come before the answer";
    co_await answer(first);
    std::vector<json> more;
    for (int i = 0; i < 3; ++i) {
      json next = co_await peer.next_command();
      order.push_back(next["execute"]);
      more.push_back(std::move(next));
      if (i < 1)
        continue;
      EXPECT_EQ(peer.waiting(), 0U) << "what follows has come before the answer";
      for (const json& command : std::exchange(more, {})) co_await answer(command);
    }
  });
  spawn(context, [&]() -> asio::awaitable<void> {
    asio::any_io_executor executor = context.get_executor();
    auto qmp = co_await open_qmp(executor, std::move(peer.client), 10s);
    EXPECT_TRUE(qmp) << qmp.error().what();
    std::vector<Command> commands{{"a", {}, {0}}, {"b", {}}, {"c", {}, {0}}, {"d", {}}};
    Answers answers = co_await (*qmp)->execute_all(std::move(commands), 10s);
    for (const Result<json>& one : answers) EXPECT_TRUE(one) << one.error().what();
    peer.socket.close();
  });
  run_to_end(context);
  EXPECT_EQ(order, (std::vector<std::string>{"a", "b", "c", "d"}));
}

TEST_F(QmpBatch, BehindOneThatTimedOutNoneIsWaitedFor) {
  Answers answers = answers_after(
      [this](std::vector<json> commands) -> asio::awaitable<void> { co_await answer(commands[0]); },
      50ms);
  ASSERT_EQ(answers.size(), 3U);
  expect_value(answers[0], "a");
  expect_error(answers[1], Errc::Timeout, "qmp b: no answer within 50 ms");
  expect_error(answers[2], Errc::Timeout, "qmp c: no answer within 0 ms");
}

}  // namespace
}  // namespace tenure::qemu
