// SPDX-License-Identifier: Apache-2.0
#include "qemu/image_info.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/text.h"
#include "qemu/process.h"

namespace tenure::qemu {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr const char* kQemuImg = "/usr/bin/qemu-img";
constexpr std::chrono::seconds kTimeout{10};
constexpr size_t kMaxOutput = 1UL << 20;
constexpr size_t kMaxExtents = 200;
constexpr size_t kMaxReason = 500;  // bytes of qemu-img's text that reach our message

struct Pipe {
  UniqueFd read, write;
};
Result<Pipe> make_pipe() {
  int ends[2];
  if (pipe2(ends, O_CLOEXEC) < 0)
    return fail_sys("pipe2", "for qemu-img");
  return Pipe{UniqueFd(ends[0]), UniqueFd(ends[1])};
}

// Ends and reaps the process on every way out.
class Running {
 public:
  explicit Running(Launched launched) : launched_(std::move(launched)) {}
  ~Running() {
    if (!launched_.pidfd)
      return;
    syscall(SYS_pidfd_send_signal, launched_.pidfd.get(), SIGKILL, nullptr, 0);
    (void)wait();
  }
  Running(const Running&) = delete;
  Running& operator=(const Running&) = delete;

  // Blocks. Exit code, or -signal.
  int wait() {
    siginfo_t info{};
    while (waitid(P_PIDFD, static_cast<id_t>(launched_.pidfd.get()), &info, WEXITED) < 0 &&
           errno == EINTR) {
    }
    launched_.pidfd.reset();
    return info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
  }

 private:
  Launched launched_;
};

// One read of what waits; false at the end.
Result<bool> read_some(int fd, std::string& text) {
  char chunk[4096];
  ssize_t n = read(fd, chunk, sizeof chunk);
  if (n < 0 && errno != EINTR)
    return fail_sys("read", "qemu-img's output");
  if (n > 0)
    text.append(chunk, static_cast<size_t>(n));
  if (text.size() > kMaxOutput)
    return fail(Errc::Invalid, "qemu-img wrote too much");
  return n != 0;
}

// Both outputs until qemu-img has closed them.
Result<std::array<std::string, 2>> read_both(int out, int err, Clock::time_point deadline) {
  std::array<std::string, 2> texts;
  std::array<pollfd, 2> polled{pollfd{out, POLLIN, 0}, pollfd{err, POLLIN, 0}};
  while (polled[0].fd >= 0 || polled[1].fd >= 0) {
    auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0)
      return fail(Errc::Timeout, fmt::format("qemu-img took more than {} s", kTimeout.count()));
    if (poll(polled.data(), polled.size(), static_cast<int>(left.count())) < 0 && errno != EINTR)
      return fail_sys("poll", "qemu-img");
    for (size_t i = 0; i < polled.size(); ++i) {
      if (polled[i].revents == 0)
        continue;
      TRY(bool more, read_some(polled[i].fd, texts[i]));
      if (!more)
        polled[i].fd = -1;
    }
  }
  return texts;
}

// As the owner of the image where we may, otherwise as ourselves.
Result<Launched> launch_confined(LaunchSpec spec, const std::string& path) {
  struct stat st{};
  if (stat(path.c_str(), &st) < 0)
    return fail_sys("stat", path);
  if (geteuid() == 0) {
    LaunchSpec confined = spec;
    confined.uid = st.st_uid;
    confined.gid = st.st_gid;
    confined.no_network = true;
    auto launched = launch(confined);
    if (launched || launched.error().code() != Errc::Denied)
      return launched;
  }
  return launch(spec);
}

std::string reason_of(std::string_view complaint) {
  std::string_view line = trim(complaint);
  line = line.substr(0, line.find('\n'));
  return line.empty() ? "qemu-img failed without a reason" : printable(line.substr(0, kMaxReason));
}

std::string text_in(const json& object, const char* key) {
  auto found = object.find(key);
  return found != object.end() && found->is_string() ? found->get<std::string>() : std::string();
}

// format-specific.data.extents[].filename
Result<std::vector<std::string>> extents_of(const json& info) {
  std::vector<std::string> names;
  const json::json_pointer pointer("/format-specific/data/extents");
  if (!info.contains(pointer))
    return names;
  const json& extents = info.at(pointer);
  if (!extents.is_array() || extents.size() > kMaxExtents)
    return fail(Errc::Invalid, fmt::format("more than {} extents", kMaxExtents));
  for (const json& extent : extents) {
    if (!extent.is_object() || text_in(extent, "filename").empty())
      return fail(Errc::Invalid, "an extent without a name");
    names.push_back(text_in(extent, "filename"));
  }
  return names;
}

}  // namespace

Result<ImageInfo> parse_image_info(std::string_view text) {
  if (text.size() > kMaxOutput)
    return fail(Errc::Invalid, "qemu-img wrote too much");
  try {
    json info = json::parse(text.begin(), text.end(), nullptr, false);
    if (!info.is_object())
      return fail(Errc::Invalid, "qemu-img did not write a JSON object");
    auto encrypted = info.find("encrypted");
    if (encrypted != info.end() && *encrypted != false)
      return fail(Errc::Unsupported, "encrypted, which is not supported");
    ImageInfo result;
    result.backing_file = text_in(info, "backing-filename");
    result.backing_format = text_in(info, "backing-filename-format");
    TRY(result.extents, extents_of(info));
    return result;
  } catch (const std::exception& e) {
    return fail(Errc::Invalid, fmt::format("qemu-img's answer: {}", printable(e.what())));
  }
}

Result<ImageInfo> image_info(const std::string& path, const std::string& format) {
  if (access(kQemuImg, X_OK) < 0)
    return fail(Errc::Unsupported,
                fmt::format("format {} needs {} (Debian: qemu-utils)", format, kQemuImg));
  TRY(Pipe out, make_pipe());
  TRY(Pipe err, make_pipe());
  LaunchSpec spec;
  // -U: a running guest may hold the image's lock, and only the header is read.
  spec.argv = {kQemuImg, "info", "-U", "--output=json", "-f", format, path};
  spec.environment = {"LC_ALL=C"};
  spec.stdout_fd = out.write.get();
  spec.stderr_fd = err.write.get();
  spec.nofile = 256;
  spec.address_space_bytes = 1UL << 30;
  spec.cpu_seconds = kTimeout.count();
  auto deadline = Clock::now() + kTimeout;
  TRY(Launched launched, launch_confined(std::move(spec), path));
  Running running(std::move(launched));
  out.write.reset();
  err.write.reset();
  TRY(auto texts, read_both(out.read.get(), err.read.get(), deadline));
  if (running.wait() != 0)
    return fail(Errc::Invalid, reason_of(texts[1]));
  return parse_image_info(texts[0]);
}

}  // namespace tenure::qemu
