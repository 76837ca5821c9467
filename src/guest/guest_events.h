// SPDX-License-Identifier: Apache-2.0
// What the guest does to its devices by itself, on the record: it moves the tray of a drive,
// refuses to let a device go when nobody waits for its answer any more, gives an interface another
// MAC. One record a second of each device; the next one says how many events it stands for. One
// thread: the event loop's.
#pragma once

#include <asio/awaitable.hpp>
#include <asio/steady_timer.hpp>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "guest/event_pacer.h"
#include "guest/run/live.h"

namespace tenure::guest {

class GuestEvents {
 public:
  explicit GuestEvents(Live& live) : live_(live) {}

  // An event that no operation waits for. `owner` owns this, and lives until it is recorded.
  void handle(const qemu::QmpEvent& event, std::shared_ptr<void> owner);
  // Looks at the MACs as if the guest had just set them: QEMU tells of a change once, until it is
  // asked (NIC_RX_FILTER_CHANGED in qapi/net.json).
  void look_at_macs(const std::shared_ptr<void>& owner);
  // QEMU is gone: what was counted is told at once.
  void close();

 private:
  // What is to be told of one event.
  struct Story {
    std::string op, reason;
    std::string device;  // alias
    std::string why;
    bool success = true;
    bool look_at_mac = false;  // tells nothing if that is as it was
  };
  std::optional<Story> story_of(const qemu::QmpEvent& event);
  Story refusal_of(std::string device, std::string why) const;
  void tell_paced(Story story, std::shared_ptr<void> owner);
  asio::awaitable<void> tell_each_second(std::string key, std::shared_ptr<void> owner);
  asio::awaitable<void> tell(Story story, uint64_t count);
  asio::awaitable<std::string> new_mac(std::string alias);
  registrar::Txn txn_of(const Story& story);

  Live& live_;
  EventPacer pacer_;
  std::map<std::string, Story> last_;        // by what is paced
  std::map<std::string, std::string> macs_;  // by alias, as last told
  std::string unplug_error_;                 // device of the last MEM_UNPLUG_ERROR
  std::vector<std::shared_ptr<asio::steady_timer>> timers_;
  bool closed_ = false;
};

}  // namespace tenure::guest
