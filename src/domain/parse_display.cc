// SPDX-License-Identifier: Apache-2.0
// What is seen and heard: <graphics>, <video>, <sound>, <audio>.
#include <algorithm>
#include <cctype>

#include "base/text.h"
#include "domain/parse.h"

namespace tenure::domain {
namespace {

constexpr uint32_t kFirstVncPort = 5900;

// IP address or host name, as it goes into "host:display".
std::string parse_host(const Element& e, const char* attribute) {
  std::string host = e.string(attribute);
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '.' || c == ':' || c == '-';
  };
  if (host.size() > 255 || !std::ranges::all_of(host, plain)) {
    e.invalid("'" + printable(host.substr(0, 64)) + "' is not a host");
  }
  return host;
}

std::string parse_socket(const Element& e, const char* attribute) {
  std::string path = e.path(attribute);
  if (path.size() > 107)
    e.invalid("a socket's path has 107 bytes at most");
  return path;
}

void parse_listen(const Element& e, Graphics& g) {
  const auto listens = e.children("listen");
  if (listens.size() > 1)
    e.unsupported("more than one <listen>");
  if (listens.empty())
    return;
  const Element& listen = listens.front();
  const std::string type = listen.choice("type", {"address", "socket", "none"});
  if (type == "address") {
    const std::string address = parse_host(listen, "address");
    if (!g.address.empty() && !address.empty() && address != g.address) {
      listen.invalid("another address than attribute 'listen' of <graphics>");
    }
    if (!address.empty())
      g.address = address;
  } else if (type == "socket") {
    g.socket = parse_socket(listen, "socket");
    if (g.socket.empty())
      listen.unsupported("making up a socket's path is not implemented");
  }
  g.listen_none = type == "none";
}

void parse_ports(const Element& e, Graphics& g) {
  const auto port = e.number<int32_t>("port", -1, 65535);
  if (port && *port > 0)
    g.port = static_cast<uint32_t>(*port);
  if (g.port && *g.port < kFirstVncPort)
    e.invalid("VNC ports start at 5900");
  g.autoport = e.flag("autoport").value_or(!g.port);
  // libvirt writes the port of the moment into a running guest's dump; autoport says it is not a
  // wish.
  if (g.autoport)
    g.port.reset();
  const auto websocket = e.number<int32_t>("websocket", -1, 65535);
  if (websocket && *websocket == -1)
    e.unsupported("choosing a websocket is not implemented");
  if (websocket && *websocket > 0)
    g.websocket = static_cast<uint32_t>(*websocket);
}

AudioStream parse_stream(const Element& e, bool alsa_or_oss) {
  AudioStream s;
  s.mixing_engine = e.flag("mixingEngine");
  s.fixed_settings = e.flag("fixedSettings");
  s.voices = e.number<uint32_t>("voices", 1, 64);
  s.buffer_length_us = e.number<uint32_t>("bufferLength", 1);
  if (alsa_or_oss)
    s.dev = e.path("dev");
  if (auto settings = e.child("settings")) {
    s.frequency_hz = settings->number<uint32_t>("frequency", 1, 1'000'000);
    s.channels = settings->number<uint32_t>("channels", 1, 16);
    s.format = settings->choice("format", {"s8", "u8", "s16", "u16", "s32", "u32", "f32"});
  }
  return s;
}

}  // namespace

Graphics parse_graphics(const Element& e) {
  Graphics g{.place = e.place()};
  g.type = e.choice("type", {"vnc"});
  parse_ports(e, g);
  g.address = parse_host(e, "listen");
  if (const std::string socket = parse_socket(e, "socket"); !socket.empty())
    g.socket = socket;
  parse_listen(e, g);
  g.share_policy = e.choice("sharePolicy", {"allow-exclusive", "force-shared", "ignore"});
  g.keymap = e.string("keymap");
  const auto plain = [](char c) {
    return (std::isalnum(static_cast<unsigned char>(c)) != 0) || c == '-' || c == '_';
  };
  if (g.keymap.size() > 16 || !std::ranges::all_of(g.keymap, plain))
    e.invalid("no such keymap");
  if (auto audio = e.child("audio"))
    g.audio = audio->number<uint32_t>("id", 1, 999);
  return g;
}

Video parse_video(const Element& e) {
  Video v{.info = parse_info(e)};
  if (auto driver = e.child("driver")) {
    driver->choice("name", {"qemu"});
    v.info.virtio = parse_virtio(*driver);
  }
  auto model = e.child("model");
  if (!model) {
    e.invalid("<model> is missing");
    return v;
  }
  v.model = model->choice("type", {"vga", "cirrus", "qxl", "virtio", "bochs", "ramfb", "none"});
  v.primary = model->flag("primary").value_or(false);
  if (v.model == "qxl") {
    v.ram_kib = model->number<uint32_t>("ram", 1);
    v.vram64_kib = model->number<uint32_t>("vram64", 1);
  }
  if (v.model == "qxl" || v.model == "vga" || v.model == "bochs" || v.model == "cirrus") {
    v.vram_kib = model->number<uint32_t>("vram", 1);
  }
  if (v.model == "qxl")
    v.vgamem_kib = model->number<uint32_t>("vgamem", 1);
  v.heads = model->number<uint32_t>("heads", 1, 16);
  if (v.heads.value_or(1) > 1 && v.model != "qxl" && v.model != "virtio") {
    model->unsupported("more than one head of this model");
  }
  if (v.model == "virtio")
    v.blob = model->flag("blob");
  if (auto acceleration = model->child("acceleration")) {
    if (acceleration->flag("accel3d").value_or(false)) {
      acceleration->unsupported("3D acceleration is not implemented");
    }
  }
  if (auto resolution = model->child("resolution")) {
    v.width = resolution->number<uint32_t>("x", 1, 16384);
    v.height = resolution->number<uint32_t>("y", 1, 16384);
  }
  const VirtioOptions& o = v.info.virtio;
  if (v.model != "virtio" && (o.iommu || o.ats || o.packed || o.page_per_vq)) {
    e.invalid("options of virtio on another model");
  }
  return v;
}

Sound parse_sound(const Element& e) {
  Sound s{.info = parse_info(e)};
  s.model = e.choice("model", {"ich6", "ich9", "ac97", "es1370", "sb16", "usb"});
  if (s.model.empty())
    e.invalid("attribute 'model' is missing");
  for (const Element& codec : e.children("codec")) {
    s.codecs.push_back(codec.choice("type", {"duplex", "micro", "output"}));
  }
  if (!s.codecs.empty() && s.model != "ich6" && s.model != "ich9") {
    e.invalid("a codec is for ich6 and ich9");
  }
  if (auto audio = e.child("audio"))
    s.audio = audio->number<uint32_t>("id", 1, 999);
  return s;
}

Audio parse_audio(const Element& e) {
  Audio a{.place = e.place()};
  a.id = e.number<uint32_t>("id", 1, 999).value_or(0);
  if (a.id == 0)
    e.invalid("attribute 'id' is missing");
  a.type = e.choice("type", {"none", "alsa", "oss"});
  a.timer_period_us = e.number<uint32_t>("timerPeriod", 1, 1'000'000);
  const bool device = a.type != "none";
  if (auto in = e.child("input"))
    a.input = parse_stream(*in, device);
  if (auto out = e.child("output"))
    a.output = parse_stream(*out, device);
  return a;
}

}  // namespace tenure::domain
