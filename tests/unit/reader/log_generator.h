// SPDX-License-Identifier: Apache-2.0
// Makes audit logs of a libvirt host, from a seed, together with the truth: which guest held what,
// from which record to which. The truth comes from what the simulated host does, not from reading
// the log.
#pragma once

#include <cstdint>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace tenure::reader {

struct TrueTenure {
  std::string uuid, kind, id;
  uint64_t from_serial = 0;
  int64_t from_ms = 0;
  uint64_t until_serial = 0;  // 0: open, or (see reason) not told by a record
  std::string reason;         // "" while open
  std::string certainty;
  auto operator<=>(const TrueTenure&) const = default;
};

class LogGenerator {
 public:
  struct Options {
    uint64_t seed = 1;
    int guests = 8;
    double virt_share = 1.0;  // of the bytes; the rest is what auditd logs besides
  };

  explicit LogGenerator(Options options) : options_(options), random_(options.seed) {
    for (int i = 0; i < options_.guests; ++i) guests_.push_back(make_guest(i));
  }

  // Some more lines.
  std::string next() {
    std::string out;
    std::swap(out, text_);
    step();
    virt_bytes_ += text_.size();
    fill_with_noise();
    std::swap(out, text_);
    return out;
  }
  std::string text(size_t bytes) {
    std::string out;
    while (out.size() < bytes) out += next();
    return out;
  }
  // What was held until now; open tenures included.
  std::vector<TrueTenure> truth() const {
    std::vector<TrueTenure> all = ended_;
    for (const Guest& guest : guests_) {
      for (const auto& [key, tenure] : guest.held) all.push_back(tenure);
    }
    return all;
  }

 private:
  struct Guest {
    std::string name, uuid;
    bool running = false;
    int disks = 0, nics = 0;
    int mem = 0;
    std::map<std::string, TrueTenure> held;  // by kind and id
  };

  Guest make_guest(int i) {
    static constexpr char kDigits[] = "0123456789abcdef";
    std::string uuid = "xxxxxxxx-xxxx-4xxx-8xxx-xxxxxxxxxxxx";
    for (char& c : uuid) {
      if (c == 'x')
        c = kDigits[random_() % 16];
    }
    // Some names have to be encoded.
    const std::string name = (i % 3 == 1 ? "web server " : "guest-") + std::to_string(i);
    return {.name = name, .uuid = uuid};
  }

  uint64_t pick(uint64_t below) { return random_() % below; }

  std::string header(const std::string& type, uint64_t serial) {
    char buffer[128];
    std::snprintf(buffer, sizeof buffer, "type=%s msg=audit(%lld.%03lld:%llu): ", type.c_str(),
                  static_cast<long long>(now_ms_ / 1000), static_cast<long long>(now_ms_ % 1000),
                  static_cast<unsigned long long>(serial));
    return buffer;
  }
  static std::string value(const std::string& text) {
    static constexpr char kHex[] = "0123456789ABCDEF";
    if (text.find(' ') == std::string::npos)
      return '"' + text + '"';
    std::string out;
    for (const char c : text) {
      out += kHex[static_cast<unsigned char>(c) >> 4];
      out += kHex[static_cast<unsigned char>(c) & 15];
    }
    return out;
  }

  void tick() {
    now_ms_ += static_cast<int64_t>(pick(40));
    ++serial_;
  }
  void virt(const std::string& type, const std::string& before, const Guest& guest,
            const std::string& after, bool success = true) {
    tick();
    text_ += header("VIRT_" + type, serial_) +
             "pid=900 uid=0 auid=4294967295 ses=4294967295 msg='virt=kvm " + before +
             " vm=" + value(guest.name) + " uuid=" + guest.uuid + " " + after +
             " exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=" +
             (success ? "success" : "failed") + "'\x1dUID=\"root\" AUID=\"unset\"\n";
  }
  void resource(const Guest& guest, const std::string& kind, const std::string& reason,
                const std::string& after, bool success = true) {
    virt("RESOURCE", "resrc=" + kind + " reason=" + reason, guest, after, success);
  }

  void grant(Guest& guest, const std::string& kind, const std::string& id) {
    guest.held[kind + "\n" + id] = {guest.uuid, kind, id, serial_, now_ms_, 0, "", "open"};
  }
  void release(Guest& guest, const std::string& key, const std::string& reason,
               const std::string& certainty, bool told = true) {
    auto node = guest.held.extract(key);
    if (node.empty())
      return;
    TrueTenure tenure = node.mapped();
    tenure.until_serial = told ? serial_ : 0;
    tenure.reason = reason;
    tenure.certainty = certainty;
    ended_.push_back(tenure);
  }
  void release_all(Guest& guest, const std::string& reason, const std::string& certainty,
                   bool told) {
    while (!guest.held.empty()) release(guest, guest.held.begin()->first, reason, certainty, told);
    guest.running = false;
    guest.disks = guest.nics = 0;
  }

  static std::string disk_path(const Guest& guest, int disk) {
    return "/srv/" + guest.uuid.substr(0, 8) + "/" + std::to_string(disk);
  }
  static std::string rdev(int disk) {
    char buffer[16];
    std::snprintf(buffer, sizeof buffer, "08:%02X", disk);
    return buffer;
  }
  static std::string mac(const Guest& guest, int nic) {
    return "52:54:00:" + guest.uuid.substr(0, 2) + ":" + guest.uuid.substr(2, 2) + ":" +
           (nic < 10 ? "0" : "") + std::to_string(nic);
  }
  static std::string group(const Guest& guest) {
    return "cgroup=\"/machine/qemu-" + guest.uuid.substr(0, 8) + "\" ";
  }
  void allow(Guest& guest, const std::string& path, const std::string& number, bool granted) {
    resource(guest, "cgroup", "allow",
             group(guest) + "class=path path=\"" + path + "\" rdev=" + number + " acl=rw");
    if (granted)
      grant(guest, "cgroup", path);
  }
  void add_disk(Guest& guest, const std::string& reason, bool granted) {
    const int disk = guest.disks++;
    const std::string path = disk_path(guest, disk);
    allow(guest, path, rdev(disk), granted);
    resource(guest, "disk", reason, "old-disk=\"?\" new-disk=\"" + path + "\"");
    if (granted)
      grant(guest, "disk", path);
  }
  void open_net(Guest& guest, bool granted) {
    const std::string address = mac(guest, guest.nics);
    resource(guest, "net", "open", "net=" + address + " path=\"/dev/net/tun\" rdev=0A:C8");
    if (granted) {
      guest.held["net-open\n" + address] = {
          guest.uuid, "net-open", "/dev/net/tun", serial_, now_ms_, 0, "", "open"};
    }
  }
  void add_net(Guest& guest, const std::string& reason, bool granted) {
    const std::string address = mac(guest, guest.nics++);
    resource(guest, "net", reason, "old-net=? new-net=" + address);
    if (granted)
      grant(guest, "net", address);
  }
  void set_mem(Guest& guest, const std::string& reason, int mem, bool granted) {
    resource(guest, "mem", reason,
             "old-mem=" + std::to_string(guest.mem) + " new-mem=" + std::to_string(mem));
    if (granted && guest.mem != 0)
      release(guest, "mem\n" + std::to_string(guest.mem), reason, "exact");
    guest.mem = mem;
    if (granted)
      grant(guest, "mem", std::to_string(mem));
  }

  void start(Guest& guest, bool granted) {
    if (guest.running)  // its stop was lost
      release_all(guest, "superseded", "inferred", false);
    guest.mem = 0;
    virt("MACHINE_ID", "", guest, "vm-ctx=+1:+1 img-ctx=+1:+1 model=dac");
    open_net(guest, granted);
    resource(guest, "cgroup", "deny", group(guest) + "class=all");
    allow(guest, "/dev/null", "01:03", granted);
    resource(guest, "cgroup", "allow", group(guest) + "class=major category=pty maj=88 acl=rw");
    if (granted)
      grant(guest, "cgroup", "pty");
    add_disk(guest, "start", granted);
    add_net(guest, "start", granted);
    set_mem(guest, "start", 1048576, granted);
    virt("CONTROL", "op=start reason=booted", guest, "vm-pid=4711", granted);
    guest.running = granted;
    if (!granted)
      guest.disks = guest.nics = guest.mem = 0;
  }

  void stop(Guest& guest) {
    virt("CONTROL", "op=stop reason=shutdown", guest, "vm-pid=0");
    release_all(guest, "stop", "inferred", true);
  }

  void detach_disk(Guest& guest) {
    const std::string path = disk_path(guest, --guest.disks);
    resource(guest, "disk", "detach", "old-disk=\"" + path + "\" new-disk=\"?\"");
    release(guest, "disk\n" + path, "detach", "exact");
    resource(
        guest, "cgroup", "deny",
        group(guest) + "class=path path=\"" + path + "\" rdev=" + rdev(guest.disks) + " acl=rwm");
    release(guest, "cgroup\n" + path, "deny", "exact");
  }

  void detach_net(Guest& guest) {
    const std::string address = mac(guest, --guest.nics);
    resource(guest, "net", "detach", "old-net=" + address + " new-net=?");
    release(guest, "net\n" + address, "detach", "exact");
    release(guest, "net-open\n" + address, "detach", "inferred");
  }

  void failed_attach(Guest& guest) {
    resource(guest, "disk", "attach", "old-disk=\"?\" new-disk=\"/no\"", false);
  }

  void host_record(const std::string& type, uint64_t serial) {
    text_ += header(type, serial) +
             "pid=1 uid=0 auid=4294967295 ses=4294967295 msg=' comm=\"systemd\" res=success'\n";
  }
  void daemon_record(const std::string& type) {
    text_ += header(type, 5000 + pick(1000)) +
             "op=start ver=3.0.9 auid=4294967295 pid=1 "
             "uid=0 ses=4294967295 res=success\n";
  }
  void boot(bool orderly) {
    tick();
    if (orderly) {
      host_record("SYSTEM_SHUTDOWN", serial_);
      daemon_record("DAEMON_END");
    }
    now_ms_ += 60'000;
    serial_ = 1 + pick(20);
    daemon_record("DAEMON_START");
    tick();
    host_record("SYSTEM_BOOT", serial_);
    for (Guest& guest : guests_)
      release_all(guest, orderly ? "reboot" : "host-crash", "bounded", false);
  }

  void step();

  void fill_with_noise() {
    if (options_.virt_share >= 1.0)
      return;
    while (static_cast<double>(virt_bytes_) >
           options_.virt_share * static_cast<double>(virt_bytes_ + noise_bytes_)) {
      const size_t before = text_.size();
      noise();
      noise_bytes_ += text_.size() - before;
    }
  }

  void noise();

  Options options_;
  std::mt19937_64 random_;
  std::vector<Guest> guests_;
  std::vector<TrueTenure> ended_;
  std::string text_;
  int64_t now_ms_ = 1'751'328'000'000;
  uint64_t serial_ = 100;
  uint64_t virt_bytes_ = 0, noise_bytes_ = 0;
};

}  // namespace tenure::reader

#include "tests/unit/reader/log_generator_noise.h"
