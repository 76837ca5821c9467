// SPDX-License-Identifier: Apache-2.0
#include "guest/guest_events.h"

#include <fmt/format.h>

#include <algorithm>
#include <asio/co_spawn.hpp>
#include <asio/detached.hpp>
#include <asio/redirect_error.hpp>
#include <asio/use_awaitable.hpp>
#include <nlohmann/json.hpp>

#include "base/text.h"
#include "guest/change/let_go.h"
#include "guest/change/steps.h"
#include "guest/guest.h"

namespace tenure::guest {
namespace {

using namespace std::chrono_literals;
using nlohmann::json;

constexpr auto kPeriod = 1s;

// QEMU is no friend: a member that is missing or of another type is "".
std::string text(const json& data, const char* key) {
  auto it = data.find(key);
  return it != data.end() && it->is_string() ? it->get<std::string>() : std::string();
}

const domain::Interface* interface_of(const domain::Domain& domain, const std::string& alias) {
  auto nic = std::ranges::find_if(domain.interfaces,
                                  [&](const auto& one) { return one.info.alias == alias; });
  return nic == domain.interfaces.end() ? nullptr : &*nic;
}

}  // namespace

GuestEvents::Story GuestEvents::refusal_of(std::string device, std::string why) const {
  return {.op = "detach",
          .reason = "guest-error",
          .device = std::move(device),
          .why = std::move(why),
          .success = false};
}

std::optional<GuestEvents::Story> GuestEvents::story_of(const qemu::QmpEvent& event) {
  const json& data = *event.data;
  if (event.name == "DEVICE_TRAY_MOVED") {
    auto open = data.find("tray-open");
    bool opened = open != data.end() && open->is_boolean() && open->get<bool>();
    return Story{.op = "tray",
                 .reason = opened ? "opened" : "closed",
                 .device = text(data, "id"),
                 .why = "by the guest"};
  }
  if (event.name == "MEM_UNPLUG_ERROR") {
    unplug_error_ = text(data, "device");
    return refusal_of(unplug_error_, "the guest refused: " + printable(text(data, "msg")));
  }
  if (event.name == "DEVICE_UNPLUG_GUEST_ERROR") {
    std::string device = text(data, "device");
    // Of memory QEMU says it twice (docs/about/deprecated.rst of QEMU 7.2).
    if (!device.empty() && std::exchange(unplug_error_, "") == device)
      return std::nullopt;
    return refusal_of(std::move(device), "the guest refused to let go of it");
  }
  if (event.name == "NIC_RX_FILTER_CHANGED" && interface_of(*live_.domain, text(data, "name")))
    return Story{.op = "mac",
                 .reason = "changed",
                 .device = text(data, "name"),
                 .why = "by the guest",
                 .look_at_mac = true};
  return std::nullopt;
}

void GuestEvents::handle(const qemu::QmpEvent& event, std::shared_ptr<void> owner) {
  auto story = story_of(event);
  if (story)
    tell_paced(std::move(*story), std::move(owner));
}

void GuestEvents::look_at_macs(const std::shared_ptr<void>& owner) {
  for (const domain::Interface& nic : live_.domain->interfaces)
    if (nic.model.starts_with("virtio"))
      tell_paced(Story{.op = "mac",
                       .reason = "found",
                       .device = nic.info.alias,
                       .why = "it may have been so before",
                       .look_at_mac = true},
                 owner);
}

void GuestEvents::tell_paced(Story story, std::shared_ptr<void> owner) {
  std::string key = story.op + " " + story.device;
  last_.insert_or_assign(key, std::move(story));
  if (!pacer_.happened(key))
    return;
  auto task = [this, key, owner]() mutable -> asio::awaitable<void> {
    co_await tell_each_second(std::move(key), std::move(owner));
  };
  asio::co_spawn(live_.context.executor, std::move(task), asio::detached);
}

asio::awaitable<void> GuestEvents::tell_each_second(std::string key, std::shared_ptr<void>) {
  uint64_t count = 1;
  auto timer = std::make_shared<asio::steady_timer>(live_.context.executor);
  timers_.push_back(timer);
  while (count > 0) {
    Story story = last_.at(key);
    co_await tell(std::move(story), count);
    if (!closed_) {
      timer->expires_after(kPeriod);
      asio::error_code error;
      co_await timer->async_wait(asio::redirect_error(asio::use_awaitable, error));
    }
    count = pacer_.due(key);
  }
  last_.erase(key);
  std::erase(timers_, timer);
}

// The MAC that the guest has set, if that was not told yet.
asio::awaitable<std::string> GuestEvents::new_mac(std::string alias) {
  qemu::Command query{"query-rx-filter", {{"name", alias}}};
  auto answer = co_await ask(live_, std::move(query));
  const domain::Interface* nic = interface_of(*live_.domain, alias);
  if (!answer || !answer->is_array() || answer->empty() || nic == nullptr)
    co_return "";
  std::string mac = text(answer->front(), "main-mac");
  auto [told, first] = macs_.try_emplace(std::move(alias), nic->mac);
  if (mac.empty() || mac == told->second)
    co_return "";
  told->second = mac;
  co_return mac;
}

// Whoever wanted the device out, if it is that which the guest refused; else nobody of this host.
registrar::Txn GuestEvents::txn_of(const Story& story) {
  auto asked = live_.state.leaving.find(story.device);
  if (story.success || asked == live_.state.leaving.end())
    return {.id = live_.context.new_txn(), .who = Requester{}};
  registrar::Txn txn = asked->second.txn;
  forget_request(live_, story.device);
  return txn;
}

asio::awaitable<void> GuestEvents::tell(Story story, uint64_t count) {
  std::string mac;
  if (story.look_at_mac) {
    mac = co_await new_mac(story.device);
    if (mac.empty())
      co_return;
  }
  trail::Record record = control_record(story.op, story.reason, live_.state, live_.domain->kvm);
  record.set("device", story.device).set("why", story.why);
  if (const domain::Interface* nic = interface_of(*live_.domain, story.device))
    record.set("net", nic->mac);
  if (!mac.empty())
    record.set("mac", mac);
  if (count > 1)
    record.set("count", count);
  record.success = story.success;
  registrar::Txn txn = txn_of(story);
  registrar::stamp(record, live_.state.ref, txn);
  std::vector<trail::Record> records{std::move(record)};
  Result<> written = co_await live_.context.journal.write(std::move(records));
  if (!written)
    live_.context.log(
        fmt::format("{}: {}: {}", live_.state.ref.vm, story.op, written.error().what()));
}

void GuestEvents::close() {
  closed_ = true;
  for (const auto& timer : timers_) timer->cancel();
}

}  // namespace tenure::guest
