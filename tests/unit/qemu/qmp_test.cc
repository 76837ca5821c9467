// SPDX-License-Identifier: Apache-2.0
// The client against a scripted peer.
#include "qemu/qmp.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <filesystem>
#include <functional>

#include "tests/unit/qemu/peer.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

constexpr auto kLong = 10s;

class QmpTest : public testing::Test {
 protected:
  asio::io_context context;
  Peer peer{context};

  asio::awaitable<Result<std::shared_ptr<Qmp>>> open(std::chrono::milliseconds timeout = kLong) {
    asio::any_io_executor executor = context.get_executor();
    return open_qmp(executor, std::move(peer.client), timeout);
  }
  // Opens against a peer that greets, then runs `body`, then closes.
  void with_qmp(std::function<asio::awaitable<void>(Qmp&)> body,
                std::function<asio::awaitable<void>()> script) {
    spawn(context, [this, script]() -> asio::awaitable<void> {
      co_await peer.greet();
      co_await script();
    });
    spawn(context, [this, body]() -> asio::awaitable<void> {
      auto qmp = co_await open();
      EXPECT_TRUE(qmp) << qmp.error().what();
      if (qmp)
        co_await body(**qmp);
      peer.socket.close();
    });
    run_to_end(context);
  }
  // The error of opening against a peer that sends `bytes`.
  Error open_error(std::string bytes, bool hang_up, std::chrono::milliseconds timeout = kLong) {
    std::optional<Error> error;
    spawn(context, [&]() -> asio::awaitable<void> {
      co_await peer.send(bytes);
      if (hang_up)
        peer.socket.close();
    });
    spawn(context, [&]() -> asio::awaitable<void> {
      auto qmp = co_await open(timeout);
      EXPECT_FALSE(qmp);
      if (!qmp)
        error = qmp.error();
      peer.socket.close();
    });
    run_to_end(context);
    return error.value_or(Error(Errc::Internal, "none"));
  }
};

void expect_error(const Result<json>& result, const char* what) {
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().what(), what);
}

asio::awaitable<Result<json>> execute(Qmp& qmp, std::string command,
                                      std::chrono::milliseconds timeout = kLong,
                                      std::vector<int> fds = {}) {
  json arguments = json::object();
  return qmp.execute(std::move(command), std::move(arguments), timeout, std::move(fds));
}

// What a command gives once the peer has done `script` after having read it.
class QmpReply : public QmpTest {
 protected:
  Result<json> reply_after(std::function<asio::awaitable<void>(json command)> script,
                           std::chrono::milliseconds timeout = kLong) {
    Result<json> result = fail(Errc::Internal, "nothing");
    with_qmp(
        [&](Qmp& qmp) -> asio::awaitable<void> {
          result = co_await execute(qmp, "query-status", timeout);
        },
        [this, script]() -> asio::awaitable<void> {
          json command = co_await peer.next_command();
          co_await script(std::move(command));
        });
    return result;
  }
};

TEST_F(QmpTest, APeerThatNeverGreetsTimesOut) {
  Error error = open_error("", false, 20ms);
  EXPECT_EQ(error.code(), Errc::Timeout);
  EXPECT_EQ(error.what(), "QMP greeting: no greeting within 20 ms");
}

TEST_F(QmpTest, APeerThatHangsUpBeforeTheGreetingIsLost) {
  Error error = open_error("", true);
  EXPECT_EQ(error.code(), Errc::Lost);
  EXPECT_EQ(error.what(), "QMP greeting: QEMU hung up");
}

TEST_F(QmpTest, AGreetingCutShortIsLost) {
  Error error = open_error("{\"QMP\": {", true);
  EXPECT_EQ(error.code(), Errc::Lost);
  EXPECT_EQ(error.what(), "QMP greeting: QEMU hung up in the middle of a message");
}

TEST_F(QmpTest, AGreetingOfTheWrongShapeIsRefused) {
  Error error = open_error("{\"QMP\": {}}\r\n", false);
  EXPECT_EQ(error.code(), Errc::Invalid);
  EXPECT_EQ(error.what(), "QMP greeting: from QEMU: a greeting without version and capabilities");
}

TEST_F(QmpTest, AnythingElseThanAGreetingIsRefused) {
  Error error = open_error("{\"event\": \"STOP\"}\r\n", false);
  EXPECT_EQ(error.code(), Errc::Invalid);
  EXPECT_EQ(error.what(), "QMP greeting: from QEMU: no greeting at first");
}

TEST_F(QmpTest, AnHttpServerIsRefused) {
  Error error = open_error("HTTP/1.1 400 Bad Request\r\n", false);
  EXPECT_EQ(error.what(), "QMP greeting: from QEMU: no valid JSON");
}

TEST_F(QmpTest, CapabilitiesThatAreNeverAnsweredTimeOut) {
  Error error = open_error(kGreeting, false, 50ms);
  EXPECT_EQ(error.code(), Errc::Timeout);
  EXPECT_NE(error.what().find("qmp qmp_capabilities: no answer within"), std::string::npos);
}

TEST_F(QmpTest, SomethingThatIsNoSocketIsAnError) {
  spawn(context, [&]() -> asio::awaitable<void> {
    UniqueFd file(::open("/dev/null", O_RDWR | O_CLOEXEC));
    asio::any_io_executor executor = context.get_executor();
    auto qmp = co_await open_qmp(executor, std::move(file), 100ms);
    EXPECT_FALSE(qmp);
    UniqueFd none;
    qmp = co_await open_qmp(executor, std::move(none), 100ms);
    EXPECT_FALSE(qmp);
  });
  run_to_end(context);
}

TEST_F(QmpReply, IsTheReturnValue) {
  auto result = reply_after([this](json command) -> asio::awaitable<void> {
    EXPECT_EQ(command["execute"], "query-status");
    json value = {{"running", true}};
    co_await peer.answer(std::move(command), std::move(value));
  });
  ASSERT_TRUE(result) << result.error().what();
  EXPECT_EQ((*result)["running"], true);
}

TEST_F(QmpReply, ARefusalCarriesTheReason) {
  auto result = reply_after([this](json command) -> asio::awaitable<void> {
    json refusal = {{"id", command["id"]},
                    {"error", {{"class", "DeviceNotFound"}, {"desc", "Device 'x' not found"}}}};
    std::string bytes = refusal.dump() + "\n";
    co_await peer.send(std::move(bytes));
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::NotFound);
  EXPECT_EQ(result.error().what(), "qmp query-status: Device 'x' not found");
}

TEST_F(QmpReply, SilenceTimesOut) {
  auto result = reply_after([](json) -> asio::awaitable<void> { co_return; }, 20ms);
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::Timeout);
  EXPECT_EQ(result.error().what(), "qmp query-status: no answer within 20 ms");
}

TEST_F(QmpReply, DeathOfThePeerIsLost) {
  auto result = reply_after([this](json) -> asio::awaitable<void> {
    peer.socket.close();
    co_return;
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::Lost);
  EXPECT_EQ(result.error().what(), "qmp query-status: connection lost: QEMU hung up");
}

struct Garbage {
  std::string bytes;
  const char* reason;
};
class QmpGarbage : public QmpReply, public testing::WithParamInterface<Garbage> {};
TEST_P(QmpGarbage, EndsTheConnectionWithAReason) {
  auto result = reply_after([this](json) -> asio::awaitable<void> {
    std::string bytes = GetParam().bytes;
    co_await peer.send(std::move(bytes));
  });
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), Errc::Lost);
  EXPECT_EQ(result.error().what(),
            std::string("qmp query-status: connection lost: from QEMU: ") + GetParam().reason);
}
INSTANTIATE_TEST_SUITE_P(
    All, QmpGarbage,
    testing::Values(
        Garbage{"\x01\x02\xff\n", "no valid JSON"},
        Garbage{std::string(1000, '[') + "\n", "nested deeper than 64"},
        Garbage{std::string(kMaxQmpMessage + 4096, 'x'), "a message longer than 16777216 bytes"},
        Garbage{kGreeting, "a second greeting"},
        Garbage{"{\"return\": {}, \"id\": 77}\n", "a reply to command 77, which was never sent"},
        Garbage{"{\"return\": {}, \"id\": 0}\n", "a reply to command 0, which was never sent"},
        Garbage{"{\"return\": {}}\n", "a reply without an id of ours"},
        Garbage{"{\"error\": {\"desc\": \"JSON parse error\"}}\n",
                "a reply without an id of ours: JSON parse error"}));

TEST_F(QmpTest, RepliesAreMatchedByIdInAnyOrder) {
  std::vector<std::string> done;
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        for (const char* name : {"a", "b", "c"}) {
          spawn(context, [&qmp, &done, name]() -> asio::awaitable<void> {
            auto result = co_await execute(qmp, name);
            EXPECT_TRUE(result);
            if (result)
              done.push_back(name + result->get<std::string>());
          });
        }
        auto last = co_await execute(qmp, "last");
        EXPECT_TRUE(last);
      },
      [this]() -> asio::awaitable<void> {
        std::vector<json> commands;
        for (int i = 0; i < 4; ++i) {
          json command = co_await peer.next_command();
          commands.push_back(std::move(command));
        }
        for (size_t i = commands.size(); i-- > 0;) {
          json command = commands[i];
          json value = command["execute"];
          if (value != "last")
            co_await peer.answer(std::move(command), std::move(value));
        }
        for (json& command : commands) {
          if (command["execute"] == "last")
            co_await peer.answer(command, json());
        }
      });
  EXPECT_EQ(done, (std::vector<std::string>{"cc", "bb", "aa"}));
}

TEST_F(QmpTest, ALateReplyIsDroppedAndTheNextOneIsRight) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        auto first = co_await execute(qmp, "slow", 10ms);
        EXPECT_FALSE(first);
        auto second = co_await execute(qmp, "quick");
        EXPECT_TRUE(second);
        if (second) {
          EXPECT_EQ(*second, "quick");
        }
      },
      [this]() -> asio::awaitable<void> {
        json slow = co_await peer.next_command();
        json quick = co_await peer.next_command();
        co_await peer.answer(std::move(slow), "slow");
        co_await peer.answer(std::move(quick), "quick");
      });
}

TEST_F(QmpTest, EventsComeInOrderAlsoThoseBeforeTheHandler) {
  std::vector<std::string> seen;
  spawn(context, [this]() -> asio::awaitable<void> {
    std::string greeting = kGreeting;
    co_await peer.send(std::move(greeting));
    json command = co_await peer.next_command();
    std::string early = "{\"event\":\"E1\"}\n{\"event\":\"E2\"}\n";
    co_await peer.send(std::move(early));
    co_await peer.answer(std::move(command), json::object());
    std::string late = "{\"event\":\"E3\"}\n{\"event\":\"E4\"}\n";
    co_await peer.send(std::move(late));
    peer.socket.close();
  });
  spawn(context, [&]() -> asio::awaitable<void> {
    auto qmp = co_await open();
    EXPECT_TRUE(qmp);
    if (!qmp)
      co_return;
    std::shared_ptr<Qmp> keep = *qmp;
    keep->on_event([&](const QmpEvent& event) { seen.push_back(event.name); });
    keep->on_close([&seen, keep](const Error& reason) { seen.push_back(reason.what()); });
  });
  run_to_end(context);
  EXPECT_EQ(seen, (std::vector<std::string>{"E1", "E2", "E3", "E4", "QEMU hung up"}));
}

TEST_F(QmpTest, AFloodOfEventsThatNobodyTakesEndsIt) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        auto result = co_await execute(qmp, "x");
        expect_error(result,
                     "qmp x: connection lost: from QEMU: more than 1024 events that nobody took");
      },
      [this]() -> asio::awaitable<void> {
        std::string flood;
        for (size_t i = 0; i <= kMaxQmpEarlyEvents; ++i) flood += "{\"event\":\"E\"}\n";
        co_await peer.send(std::move(flood));
      });
}

TEST_F(QmpTest, AHandlerThatThrowsEndsTheConnectionNotTheProgram) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        qmp.on_event([](const QmpEvent&) { throw std::runtime_error("oh"); });
        auto result = co_await execute(qmp, "x");
        expect_error(result, "qmp x: connection lost: handler of QMP event E: oh");
      },
      [this]() -> asio::awaitable<void> {
        json command = co_await peer.next_command();
        std::string event = "{\"event\":\"E\"}\n";
        co_await peer.send(std::move(event));
      });
}

TEST_F(QmpTest, CloseFailsWhatIsPendingAndTellsOnce) {
  int told = 0;
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        qmp.on_close([&](const Error& reason) {
          ++told;
          EXPECT_EQ(reason.what(), "closed by us");
        });
        spawn(context, [&qmp]() -> asio::awaitable<void> {
          asio::any_io_executor executor = co_await asio::this_coro::executor;
          co_await asio::post(executor, asio::use_awaitable);
          qmp.close();
          qmp.close();
        });
        auto result = co_await execute(qmp, "x");
        EXPECT_FALSE(result);
        auto after = co_await execute(qmp, "y");
        expect_error(after, "qmp y: connection lost: closed by us");
        asio::any_io_executor executor = co_await asio::this_coro::executor;
        co_await asio::post(executor, asio::use_awaitable);
      },
      []() -> asio::awaitable<void> { co_return; });
  EXPECT_EQ(told, 1);
}

TEST_F(QmpTest, FdsTravelWithTheirCommand) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        UniqueFd file(::open("/etc/passwd", O_RDONLY | O_CLOEXEC));
        std::vector<int> fds = {file.get()};
        auto result = co_await execute(qmp, "add-fd", kLong, std::move(fds));
        EXPECT_TRUE(result);
        std::vector<int> closed = {999};
        auto refused = co_await execute(qmp, "add-fd", kLong, std::move(closed));
        EXPECT_FALSE(refused);
        std::vector<int> many(300, file.get());
        auto too_many = co_await execute(qmp, "add-fd", kLong, std::move(many));
        EXPECT_FALSE(too_many);
        if (!too_many) {
          EXPECT_EQ(too_many.error().code(), Errc::Invalid);
        }
      },
      [this]() -> asio::awaitable<void> {
        asio::error_code error;
        co_await peer.socket.async_wait(asio::posix::stream_descriptor::wait_read,
                                        asio::redirect_error(asio::use_awaitable, error));
        char bytes[200];
        iovec part = {bytes, sizeof bytes};
        alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))];
        msghdr header = {};
        header.msg_iov = &part;
        header.msg_iovlen = 1;
        header.msg_control = control;
        header.msg_controllen = sizeof control;
        ssize_t n = recvmsg(peer.socket.native_handle(), &header, MSG_CMSG_CLOEXEC);
        EXPECT_GT(n, 0);
        cmsghdr* rights = CMSG_FIRSTHDR(&header);
        EXPECT_NE(rights, nullptr);
        if (rights == nullptr || n <= 0)
          co_return;
        int number = -1;
        memcpy(&number, CMSG_DATA(rights), sizeof number);
        UniqueFd received(number);
        struct stat theirs{};
        struct stat ours{};
        EXPECT_EQ(fstat(received.get(), &theirs), 0);
        EXPECT_EQ(stat("/etc/passwd", &ours), 0);
        EXPECT_EQ(theirs.st_ino, ours.st_ino);
        json command = json::parse(std::string(bytes, static_cast<size_t>(n)));
        co_await peer.answer(std::move(command), json::object());
      });
}

// A peer that stops reading: the first command fills the socket, the second is never begun.
TEST_F(QmpTest, ACommandThatCouldNotBeSentSaysSo) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        spawn(context, [&qmp]() -> asio::awaitable<void> {
          json arguments = {{"text", std::string(1 << 20, 'x')}};
          std::string command = "large";
          std::vector<int> none;
          auto result =
              co_await qmp.execute(std::move(command), std::move(arguments), 60ms, std::move(none));
          expect_error(result, "qmp large: no answer within 60 ms");
        });
        asio::any_io_executor executor = co_await asio::this_coro::executor;
        co_await asio::post(executor, asio::use_awaitable);
        auto second = co_await execute(qmp, "second", 80ms);
        expect_error(second, "qmp second: never sent, as QEMU read nothing for 80 ms");
      },
      []() -> asio::awaitable<void> { co_return; });
}

TEST_F(QmpTest, ALargeCommandToASlowReaderArrivesWhole) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        json arguments = {{"text", std::string(1 << 20, 'x')}};
        std::string command = "large";
        std::vector<int> none;
        auto result =
            co_await qmp.execute(std::move(command), std::move(arguments), kLong, std::move(none));
        EXPECT_TRUE(result) << result.error().what();
      },
      [this]() -> asio::awaitable<void> {
        json command = co_await peer.next_command();
        EXPECT_EQ(command["arguments"]["text"].get_ref<std::string&>().size(), 1U << 20);
        co_await peer.answer(std::move(command), json::object());
      });
}

TEST_F(QmpTest, ALargeReplyArrivesWhole) {
  with_qmp(
      [&](Qmp& qmp) -> asio::awaitable<void> {
        auto result = co_await execute(qmp, "large");
        EXPECT_TRUE(result) << result.error().what();
        if (result) {
          EXPECT_EQ(result->get_ref<std::string&>().size(), 2U << 20);
        }
      },
      [this]() -> asio::awaitable<void> {
        json command = co_await peer.next_command();
        co_await peer.answer(std::move(command), std::string(2 << 20, 'y'));
      });
}

TEST_F(QmpTest, DroppingItEndsTheConnection) {
  bool hung_up = false;
  spawn(context, [&]() -> asio::awaitable<void> {
    co_await peer.greet();
    json end = co_await peer.next_command();
    hung_up = end.is_null();
  });
  spawn(context, [&]() -> asio::awaitable<void> {
    auto qmp = co_await open();
    EXPECT_TRUE(qmp);
    if (qmp)
      (*qmp)->on_close([](const Error&) { ADD_FAILURE() << "nobody is there to be told"; });
  });
  run_to_end(context);
  EXPECT_TRUE(hung_up);
}

TEST(QmpLifetime, ALoopThatIsTornDownMidwayLeaksNothing) {
  auto count = [] {
    return std::distance(std::filesystem::directory_iterator("/proc/self/fd"),
                         std::filesystem::directory_iterator{});
  };
  auto before = count();
  {
    asio::io_context context;
    Peer peer(context);
    spawn(context, [&]() -> asio::awaitable<void> { co_await peer.greet(); });
    spawn(context, [&]() -> asio::awaitable<void> {
      asio::any_io_executor executor = context.get_executor();
      auto qmp = co_await open_qmp(executor, std::move(peer.client), kLong);
      context.stop();
      if (qmp)
        (void)co_await execute(**qmp, "never");
    });
    context.run();
  }
  EXPECT_EQ(count(), before);
}

}  // namespace
}  // namespace tenure::qemu
