// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp_fake.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/post.hpp>
#include <asio/redirect_error.hpp>
#include <asio/steady_timer.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "qemu/command.h"

namespace tenure::qemu {

using nlohmann::json;

struct FakeQmp::State : std::enable_shared_from_this<State> {
  explicit State(asio::any_io_executor e) : executor(std::move(e)) {}

  // Wakes whoever waits for a held command, or for a connection that is gone.
  void wake(const std::string* command) {
    for (auto& [name, timer] : waiting) {
      if (command == nullptr || name == *command)
        timer->cancel();
    }
  }
  void end(const Error& reason) {
    if (closed)
      return;
    closed = reason;
    wake(nullptr);
    if (close_handler)
      tell_closed();
  }
  void tell_closed() {
    asio::post(executor, [self = shared_from_this()] {
      if (auto handler = std::exchange(self->close_handler, nullptr))
        handler(*self->closed);
    });
  }

  asio::any_io_executor executor;
  std::map<std::string, Answer> answers;
  std::set<std::string> held;
  std::multimap<std::string, asio::steady_timer*> waiting;
  std::vector<Call> calls;
  std::vector<QmpEvent> early_events;
  std::function<void(const QmpEvent&)> event_handler;
  std::function<void(const Error&)> close_handler;
  std::optional<Error> closed;
};

FakeQmp::FakeQmp(asio::any_io_executor executor)
    : state_(std::make_shared<State>(std::move(executor))) {}

FakeQmp::~FakeQmp() {
  state_->event_handler = nullptr;
  state_->close_handler = nullptr;
  state_->end(Error(Errc::Lost, "closed by us"));
}

void FakeQmp::answer(const std::string& command, Answer answer) {
  state_->answers[command] = std::move(answer);
}

void FakeQmp::accept(const std::string& command) {
  accept(command, json::object());
}

void FakeQmp::accept(const std::string& command, const json& value) {
  answer(command, [value](const json&) { return Result<json>(value); });
}

void FakeQmp::refuse(const std::string& command, Error error) {
  answer(command, [error = std::move(error)](const json&) { return Result<json>(fail(error)); });
}

void FakeQmp::hold(const std::string& command) {
  state_->held.insert(command);
}

void FakeQmp::release(const std::string& command) {
  state_->held.erase(command);
  state_->wake(&command);
}

void FakeQmp::emit(const std::string& name, const json& data, int64_t time_us) {
  QmpEvent event{name, std::make_shared<const json>(data), time_us};
  if (auto handler = state_->event_handler)
    handler(event);
  else
    state_->early_events.push_back(std::move(event));
}

void FakeQmp::lose(const Error& reason) {
  state_->end(reason);
}

const std::vector<FakeQmp::Call>& FakeQmp::calls() const {
  return state_->calls;
}

size_t FakeQmp::count(const std::string& command) const {
  return static_cast<size_t>(std::ranges::count(state_->calls, command, &Call::command));
}

asio::awaitable<Result<json>> FakeQmp::run(std::shared_ptr<State> state, std::string command,
                                           json arguments, std::chrono::milliseconds timeout) {
  std::string name = "qmp " + command;
  asio::steady_timer timer(state->executor);
  co_await asio::post(state->executor, asio::use_awaitable);  // the real one never answers at once
  if (!state->closed && state->held.contains(command)) {
    asio::error_code woken;
    timer.expires_after(timeout);
    auto place = state->waiting.emplace(command, &timer);
    co_await timer.async_wait(asio::redirect_error(asio::use_awaitable, woken));
    state->waiting.erase(place);
    if (!woken)
      co_return fail(Errc::Timeout,
                     fmt::format("{}: no answer within {} ms", name, timeout.count()));
  }
  if (state->closed)
    co_return fail(Errc::Lost, fmt::format("{}: connection lost: {}", name, state->closed->what()));
  auto found = state->answers.find(command);
  if (found == state->answers.end())
    co_return fail(Errc::Unsupported,
                   fmt::format("{}: The command {} has not been found", name, command));
  Answer chosen = found->second;  // it may change the answers
  Result<json> result = chosen(arguments);
  if (!result)
    co_return fail(result.error().context(name));
  co_return result;
}

asio::awaitable<Result<json>> FakeQmp::execute(std::string command, json arguments,
                                               std::chrono::milliseconds timeout,
                                               std::vector<int> fds) {
  state_->calls.push_back({command, std::make_shared<const json>(arguments), fds.size()});
  return run(state_, std::move(command), std::move(arguments), timeout);
}

asio::awaitable<std::vector<Result<json>>> FakeQmp::run_all(std::shared_ptr<State> state,
                                                            std::vector<Command> commands,
                                                            std::chrono::milliseconds timeout) {
  std::vector<Result<json>> answers;
  for (Command& command : commands) {
    Result<json> answer =
        co_await run(state, std::move(command.name), std::move(command.arguments), timeout);
    if (!answer && answer.error().code() == Errc::Timeout)
      timeout = {};
    answers.push_back(std::move(answer));
  }
  co_return answers;
}

asio::awaitable<std::vector<Result<json>>> FakeQmp::execute_all(std::vector<Command> commands,
                                                                std::chrono::milliseconds timeout) {
  for (const Command& command : commands)
    state_->calls.push_back(
        {command.name, std::make_shared<const json>(command.arguments), command.fds.size()});
  return run_all(state_, std::move(commands), timeout);
}

void FakeQmp::on_event(std::function<void(const QmpEvent&)> handler) {
  state_->event_handler = std::move(handler);
  for (const QmpEvent& event : std::exchange(state_->early_events, {}))
    state_->event_handler(event);
}

void FakeQmp::on_close(std::function<void(const Error&)> handler) {
  state_->close_handler = std::move(handler);
  if (state_->closed)
    state_->tell_closed();
}

void FakeQmp::close() {
  state_->end(Error(Errc::Lost, "closed by us"));
}

}  // namespace tenure::qemu
