// SPDX-License-Identifier: Apache-2.0
// Screens and sound. A sound card without a backend of its own plays to nobody (driver none): the
// host's sound devices are opened only if the definition asks for alsa or oss.
#include <algorithm>
#include <array>

#include "qemu/command_line_parts.h"

namespace tenure::qemu {
namespace {

using domain::AudioStream;
using domain::Graphics;
using domain::Sound;
using domain::Video;

constexpr uint32_t kFirstVncPort = 5900;
constexpr uint32_t kImplicitAudio = 1;  // id of the backend that nobody named

std::string audio_id(uint32_t id) {
  return "audio" + std::to_string(id);
}

uint32_t audio_of(const domain::Domain& d, const std::optional<uint32_t>& wanted) {
  if (wanted)
    return *wanted;
  return d.audios.empty() ? kImplicitAudio : d.audios.front().id;
}

Json stream(const AudioStream& s) {
  Json json;
  json.maybe("mixing-engine", s.mixing_engine)
      .maybe("fixed-settings", s.fixed_settings)
      .maybe("voices", s.voices)
      .maybe("buffer-length", s.buffer_length_us)
      .maybe("frequency", s.frequency_hz)
      .maybe("channels", s.channels)
      .maybe("format", s.format)
      .maybe("dev", s.dev);
  return json;
}

std::string vnc(const domain::Domain& d, const Graphics& g) {
  std::string value;
  if (g.listen_none) {
    value = "none";
  } else if (!g.socket.empty()) {
    value = "unix:" + doubled_commas(g.socket);
  } else {
    const std::string host = g.address.empty() ? "127.0.0.1" : g.address;
    const bool v6 = host.find(':') != std::string::npos;
    value =
        (v6 ? "[" + host + "]" : host) + ":" + std::to_string(g.port ? *g.port - kFirstVncPort : 0);
    // The first free one from 5900 on; query-vnc tells which.
    if (!g.port)
      value += ",to=255";
  }
  if (g.websocket)
    value += ",websocket=" + std::to_string(*g.websocket);
  if (!g.share_policy.empty())
    value += ",share=" + g.share_policy;
  if (g.audio)
    value += ",audiodev=" + audio_id(audio_of(d, g.audio));
  return value;
}

struct VideoName {
  std::string_view model, primary, secondary;
};
constexpr std::array<VideoName, 6> kVideos = {{{"vga", "VGA", ""},
                                               {"cirrus", "cirrus-vga", ""},
                                               {"qxl", "qxl-vga", "qxl"},
                                               {"virtio", "virtio-vga", "virtio-gpu-pci"},
                                               {"bochs", "bochs-display", "bochs-display"},
                                               {"ramfb", "ramfb", ""}}};

std::optional<uint32_t> mib(const std::optional<uint32_t>& kib) {
  if (!kib)
    return std::nullopt;
  return *kib / 1024 + (*kib % 1024 != 0 ? 1 : 0);
}

std::optional<uint64_t> bytes(const std::optional<uint32_t>& kib) {
  if (!kib)
    return std::nullopt;
  return uint64_t{*kib} * 1024;
}

void add_video_memory(Json& json, const Video& v) {
  if (v.model == "qxl") {
    json.maybe("ram_size", bytes(v.ram_kib))
        .maybe("vram_size", bytes(v.vram_kib))
        .maybe("vram64_size_mb", mib(v.vram64_kib))
        .maybe("vgamem_mb", mib(v.vgamem_kib));
  } else if (v.model == "bochs") {
    json.maybe("vgamem", bytes(v.vram_kib));
  } else if (v.model == "vga" || v.model == "cirrus") {
    json.maybe("vgamem_mb", mib(v.vram_kib));
  }
}

Result<> add_video(Builder& b, const Video& v) {
  const auto found = std::ranges::find(kVideos, v.model, &VideoName::model);
  if (found == kVideos.end())
    return fail(b.unsupported(v.info.place, "<video>: this model"));
  Json json("driver", v.primary ? found->primary : found->secondary);
  add_video_memory(json, v);
  if (v.model == "virtio" || v.model == "qxl")
    json.maybe("max_outputs", v.heads);
  json.maybe("blob", v.blob).maybe("xres", v.width).maybe("yres", v.height);
  Builder::virtio(json, v.info.virtio);
  b.place(json, v.info);
  b.device(json);
  return {};
}

struct SoundName {
  std::string_view model, device;
  bool has_codecs;
};
constexpr std::array<SoundName, 6> kSounds = {{{"ich6", "intel-hda", true},
                                               {"ich9", "ich9-intel-hda", true},
                                               {"ac97", "AC97", false},
                                               {"es1370", "ES1370", false},
                                               {"sb16", "sb16", false},
                                               {"usb", "usb-audio", false}}};

Result<> add_sound(Builder& b, const Sound& s) {
  const auto found = std::ranges::find(kSounds, s.model, &SoundName::model);
  if (found == kSounds.end())
    return fail(b.unsupported(s.info.place, "<sound>: this model"));
  const std::string backend = audio_id(audio_of(b.domain(), s.audio));
  Json json("driver", found->device);
  if (!found->has_codecs)
    json.text("audiodev", backend);
  b.place(json, s.info);
  b.device(json);
  if (!found->has_codecs)
    return {};
  std::vector<std::string> codecs = s.codecs;
  if (codecs.empty())
    codecs.emplace_back("duplex");
  for (size_t i = 0; i < codecs.size(); ++i) {
    b.device(Json("driver", "hda-" + codecs[i])
                 .text("id", s.info.alias + "-codec" + std::to_string(i))
                 .text("bus", s.info.alias + ".0")
                 .number("cad", i)
                 .text("audiodev", backend));
  }
  return {};
}

}  // namespace

Result<> add_audio(Builder& b) {
  const domain::Domain& d = b.domain();
  for (const domain::Audio& a : d.audios) {
    Json json("id", audio_id(a.id));
    json.text("driver", a.type).maybe("timer-period", a.timer_period_us);
    const Json in = stream(a.input), out = stream(a.output);
    if (!in.empty())
      json.object("in", in);
    if (!out.empty())
      json.object("out", out);
    b.add("-audiodev", json);
  }
  if (d.audios.empty() && !d.sounds.empty()) {
    b.add("-audiodev", Json("id", audio_id(kImplicitAudio)).text("driver", "none"));
  }
  return {};
}

Result<> add_graphics(Builder& b) {
  const domain::Domain& d = b.domain();
  if (d.graphics.empty())
    b.add("-display", "none");
  for (const Graphics& g : d.graphics) {
    b.add("-vnc", vnc(d, g));
    if (!g.keymap.empty())
      b.add("-k", g.keymap);
  }
  return {};
}

Result<> add_videos(Builder& b) {
  for (const Video& v : b.domain().videos) {
    if (v.model != "none")
      TRY_OK(add_video(b, v));
  }
  return {};
}

Result<> add_sounds(Builder& b) {
  for (const Sound& s : b.domain().sounds) TRY_OK(add_sound(b, s));
  return {};
}

}  // namespace tenure::qemu
