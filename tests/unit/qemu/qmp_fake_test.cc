// SPDX-License-Identifier: Apache-2.0
#include "qemu/qmp_fake.h"

#include "tests/unit/qemu/peer.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using namespace std::chrono_literals;

class FakeQmpTest : public testing::Test {
 protected:
  asio::io_context context;
  FakeQmp qmp{context.get_executor()};

  Result<json> ask(std::string command, std::chrono::milliseconds timeout = 10s) {
    Result<json> result = fail(Errc::Internal, "nothing");
    spawn(context, [&]() -> asio::awaitable<void> {
      json arguments = {{"id", "disk0"}};
      std::vector<int> fds;
      result =
          co_await qmp.execute(std::move(command), std::move(arguments), timeout, std::move(fds));
    });
    run_to_end(context);
    context.restart();
    return result;
  }
};

TEST_F(FakeQmpTest, AnswersAndRemembersCalls) {
  qmp.answer("device_del", [this](const json& arguments) -> Result<json> {
    qmp.emit("DEVICE_DELETED", {{"device", arguments["id"]}});
    return json::object();
  });
  std::string deleted;
  qmp.on_event([&](const QmpEvent& e) { deleted = e.data->value("device", ""); });
  EXPECT_TRUE(ask("device_del"));
  EXPECT_EQ(deleted, "disk0");
  EXPECT_EQ(qmp.count("device_del"), 1U);
  EXPECT_EQ((*qmp.calls()[0].arguments)["id"], "disk0");
}

TEST_F(FakeQmpTest, FailsAsTheRealOneDoes) {
  EXPECT_EQ(ask("unheard").error().code(), Errc::Unsupported);
  qmp.refuse("device_add", Error(Errc::Denied, "no"));
  EXPECT_EQ(ask("device_add").error().what(), "qmp device_add: no");
  qmp.accept("cont");
  qmp.hold("cont");
  EXPECT_EQ(ask("cont", 10ms).error().code(), Errc::Timeout);
  qmp.release("cont");
  EXPECT_TRUE(ask("cont"));
  bool told = false;
  qmp.on_close([&](const Error&) { told = true; });
  qmp.lose(Error(Errc::Lost, "QEMU hung up"));
  EXPECT_EQ(ask("cont").error().what(), "qmp cont: connection lost: QEMU hung up");
  EXPECT_TRUE(told);
}

TEST_F(FakeQmpTest, AHeldCommandIsWokenByReleaseAndByLoss) {
  qmp.accept("a");
  qmp.accept("b");
  qmp.hold("a");
  qmp.hold("b");
  asio::post(context, [this] { asio::post(context, [this] { qmp.release("a"); }); });
  EXPECT_TRUE(ask("a"));
  asio::post(context,
             [this] { asio::post(context, [this] { qmp.lose(Error(Errc::Lost, "gone")); }); });
  EXPECT_EQ(ask("b").error().code(), Errc::Lost);
}

}  // namespace
}  // namespace tenure::qemu
