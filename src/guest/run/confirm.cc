// SPDX-License-Identifier: Apache-2.0
#include "guest/run/confirm.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <span>

#include "base/text.h"
#include "guest/run/ask.h"
#include "guest/run/file_loan.h"
#include "kernel/net_device.h"
#include "qemu/command_line.h"

namespace tenure::guest {
namespace {

using model::Claim;
using nlohmann::json;
using trail::Kind;

// QEMU's answers, each asked for once, and only if a claim is borne out by it.
struct Answers {
  std::vector<kernel::OpenFile> files;
  json chardevs, memory, cpus, iothreads;
  json balloon;  // null without one
  // null where its answers to what plugged them are known
  json devices, objects, nodes;
};

struct Question {
  Kind kind;
  std::string_view command;
  json Answers::* answer;
  const char* path = nullptr;  // argument of qom-list
};
constexpr Question kQuestions[] = {
    {Kind::Chardev, "query-chardev", &Answers::chardevs},
    {Kind::IvshmemSocket, "query-chardev", &Answers::chardevs},
    {Kind::Fs, "query-chardev", &Answers::chardevs},
    {Kind::Hostdev, "query-chardev", &Answers::chardevs},
    {Kind::Mem, "query-memory-size-summary", &Answers::memory},
    {Kind::Vcpu, "query-cpus-fast", &Answers::cpus},
    {Kind::Iothread, "query-iothreads", &Answers::iothreads},
};
// Of what another tenured began: a descriptor may be there for another device of the guest.
constexpr char kDevices[] = "/machine/peripheral";
constexpr Question kQuestionsOfOthers[] = {
    {Kind::Net, "qom-list", &Answers::devices, kDevices},
    {Kind::Rng, "qom-list", &Answers::devices, kDevices},
    {Kind::Hostdev, "qom-list", &Answers::devices, kDevices},
    {Kind::Fs, "qom-list", &Answers::devices, kDevices},
    {Kind::Shmem, "qom-list", &Answers::devices, kDevices},
    {Kind::IvshmemSocket, "qom-list", &Answers::devices, kDevices},
    {Kind::Evdev, "qom-list", &Answers::devices, kDevices},
    {Kind::Evdev, "qom-list", &Answers::objects, "/objects"},
    {Kind::Disk, "query-named-block-nodes", &Answers::nodes},
};

std::string name_of(const Claim& claim) {
  return fmt::format("{} {} ({})", claim.kind, claim.id, claim.holder);
}

Error not_borne_out(const Claim& claim, std::string_view what) {
  return Error{Errc::Internal, fmt::format("{}: {}", name_of(claim), what)};
}

struct Scene {
  kernel::ProcessId process;
  const Answers& answers;
  const Facts& facts;
  const RunSeams& seams;
};

// An image that the definition does not know joined the chain when a daemon died: by its name then.
Result<kernel::NodeFacts> image_facts(const Facts& facts, const Claim& claim) {
  auto chain = facts.chains.find(claim.holder);
  if (chain == facts.chains.end())
    return kernel::node_facts(claim.id);
  auto image = std::ranges::find(chain->second, claim.id, &qemu::Image::path);
  return image == chain->second.end() ? kernel::node_facts(claim.id) : image->node;
}

bool same_file(const kernel::OpenFile& file, const kernel::NodeFacts& node) {
  if (node.rdev)
    return file.rdev == node.rdev;
  return file.dev == node.dev && file.ino == node.ino;
}

bool has_named(const json& list, std::string_view name) {
  return std::ranges::any_of(list, [&](const json& one) { return one.value("name", "") == name; });
}

Result<> confirm_device(const Scene& scene, const Claim& claim) {
  const json& devices = scene.answers.devices;
  if (devices.is_null() || has_named(devices, claim.holder))
    return {};
  return fail(not_borne_out(claim, "QEMU has no such device"));
}

Result<> confirm_node(const Scene& scene, const Claim& claim) {
  const json& nodes = scene.answers.nodes;
  domain::Disk disk;
  disk.info.alias = claim.holder;
  disk.target = claim.record.get("dev").value_or("");
  const std::string stem = qemu::node_stem(disk);
  auto is_it = [&](const json& node) {
    return node.value("file", "") == claim.id && node.value("node-name", "").starts_with(stem);
  };
  if (nodes.is_null() || std::ranges::any_of(nodes, is_it))
    return {};
  return fail(not_borne_out(claim, "QEMU has no block node of it"));
}

Result<> confirm_disk(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_node(scene, claim));
  TRY(const kernel::NodeFacts node, image_facts(scene.facts, claim));
  auto held = [&](const kernel::OpenFile& file) {
    return same_file(file, node) && (!claim.access.write || file.writable);
  };
  if (std::ranges::any_of(scene.answers.files, held))
    return {};
  return fail(not_borne_out(claim, "QEMU does not have it open"));
}

Result<> confirm_rdev(const Scene& scene, Claim& claim) {
  if (!claim.rdev)
    return {};
  auto held = [&](const kernel::OpenFile& file) { return file.rdev == claim.rdev; };
  if (std::ranges::any_of(scene.answers.files, held))
    return {};
  return fail(not_borne_out(claim, "QEMU does not have it open"));
}

// Of an interface that was being moved: is it there?
Result<> confirm_port(const Claim& claim) {
  const auto ifname = claim.record.get("ifname");
  const auto bridge = claim.record.get("bridge");
  if (!ifname || !bridge)
    return {};
  TRY(const std::string master, kernel::link_master(std::string(*ifname)));
  if (master == *bridge)
    return {};
  return fail(not_borne_out(
      claim, fmt::format("{} is no port of {}", printable(*ifname), printable(*bridge))));
}

// Of the descriptors that QEMU was given for the NIC one must be in its table: the tun queue by the
// name of its interface, the macvtap by its number.
Result<> confirm_net(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  TRY_OK(confirm_port(claim));
  auto nic = scene.seams.nics().find(claim.holder);
  if (nic == scene.seams.nics().end())
    return {};
  const std::string& ifname = nic->second.ifname;
  auto is_queue = [&](const kernel::OpenFile& file) {
    auto same_node = [&](const kernel::NetFd& given) { return file.rdev == given.rdev; };
    if (!file.rdev || std::ranges::none_of(nic->second.tap, same_node))
      return false;
    std::string name = kernel::tun_name_of(scene.process.pid, file.fd);
    return name.empty() || name == ifname;  // a macvtap's node is its interface's alone
  };
  if (std::ranges::none_of(scene.answers.files, is_queue))
    return fail(not_borne_out(claim, "QEMU has no descriptor of " + ifname));
  claim.record.set("ifname", ifname);
  return {};
}

const json* chardev_of(const Scene& scene, const Claim& claim) {
  for (const json& chardev : scene.answers.chardevs) {
    std::string label = chardev.value("label", "");
    if (label == "char" + claim.holder || label == claim.holder)
      return &chardev;
  }
  return nullptr;
}

Result<> confirm_pty(const json& chardev, Claim& claim) {
  std::string filename = chardev.value("filename", "");
  if (!filename.starts_with("pty:"))
    return fail(not_borne_out(claim, "QEMU has no pty for it"));
  std::string path = filename.substr(4);
  claim.record.set("new-chardev", path);
  if (auto node = kernel::node_facts(path); node && node->rdev)
    claim.record.set("devtype", "c").set("rdev", rdev_hex(*node->rdev));
  claim = model::claim_of(std::move(claim.record));
  return {};
}

Result<> confirm_opened(const Scene& scene, const Claim& claim) {
  TRY(kernel::NodeFacts node, kernel::node_facts(claim.id));
  auto held = [&](const kernel::OpenFile& file) { return same_file(file, node); };
  if (std::ranges::any_of(scene.answers.files, held))
    return {};
  return fail(not_borne_out(claim, "QEMU does not have it open"));
}

Result<> confirm_chardev(const Scene& scene, Claim& claim) {
  std::string type(claim.record.get("type").value_or(""));
  if (type == "file")
    return confirm_opened(scene, claim);
  if (type == "dev")
    return confirm_rdev(scene, claim);
  const json* chardev = chardev_of(scene, claim);
  if (chardev == nullptr)
    return fail(not_borne_out(claim, "QEMU has no character device of that name"));
  return type == "pty" ? confirm_pty(*chardev, claim) : Result<>{};
}

Result<> confirm_stream(const Scene& scene, const Claim& claim) {
  if (chardev_of(scene, claim) == nullptr)
    return fail(not_borne_out(claim, "QEMU has no character device of that name"));
  return {};
}

Result<> confirm_ivshmem_socket(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  return confirm_stream(scene, claim);
}

// The connection of a folder's server is a stream; what it serves is looked at in the server.
Result<> confirm_fs(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  const json* chardev = chardev_of(scene, claim);
  if (chardev == nullptr)
    return fail(not_borne_out(claim, "QEMU has no character device of that name"));
  if (!scene.seams.is_served(claim.holder))
    return {};
  auto helper = scene.seams.helpers().find(claim.holder);
  if (helper == scene.seams.helpers().end())
    return fail(not_borne_out(claim, "nobody serves it"));
  if (chardev->value("filename", "").starts_with("disconnected"))
    return fail(not_borne_out(claim, "QEMU is not connected to its server"));
  if (Result<> served = confirm_served(helper->second, scene.seams, claim); !served)
    return fail(std::move(served).error().context(name_of(claim)));
  claim.record.set("helper-pid", static_cast<uint64_t>(helper->second.state.process.pid));
  return {};
}

// A redirected device is a stream; all others are a node that is open.
Result<> confirm_hostdev(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  return claim.record.get("source") ? confirm_stream(scene, claim) : confirm_rdev(scene, claim);
}

Result<> confirm_rng(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  return confirm_rdev(scene, claim);
}

Result<> confirm_shmem(const Scene& scene, Claim& claim) {
  TRY_OK(confirm_device(scene, claim));
  return confirm_opened(scene, claim);
}

// A device of the guest, or an object that feeds its own keyboard and mouse.
Result<> confirm_evdev(const Scene& scene, Claim& claim) {
  if (!has_named(scene.answers.objects, claim.holder))
    TRY_OK(confirm_device(scene, claim));
  return confirm_rdev(scene, claim);
}

Result<> confirm_memory(const Scene& scene, Claim& claim) {
  uint64_t kib = memory_kib_of(scene.answers.memory, scene.answers.balloon);
  if (kib == 0)
    return fail(not_borne_out(claim, "QEMU reports no memory"));
  claim.record.set("new-mem", kib);
  claim = model::claim_of(std::move(claim.record));
  return {};
}

Result<> confirm_count(const json& list, std::string_view key, Claim& claim) {
  if (!list.is_array() || (list.empty() && claim.id != "0"))
    return fail(not_borne_out(claim, "QEMU reports none"));
  claim.record.set(key, list.size());
  claim = model::claim_of(std::move(claim.record));
  return {};
}

Result<> confirm_vcpus(const Scene& scene, Claim& claim) {
  return confirm_count(scene.answers.cpus, "new-vcpu", claim);
}

Result<> confirm_iothreads(const Scene& scene, Claim& claim) {
  return confirm_count(scene.answers.iothreads, "new-iothread", claim);
}

// Read once by QEMU before its greeting; that it greets is the proof. A file that it was lent is
// seen in its table (after the death of a tenured in the midst of a save).
Result<> confirm_read(const Scene& scene, Claim& claim) {
  return is_loan(claim) ? confirm_opened(scene, claim) : Result<>{};
}

struct Confirmation {
  Kind kind;
  Result<> (*confirm)(const Scene&, Claim&);
};
constexpr Confirmation kChecks[] = {
    {Kind::Disk, confirm_disk},       {Kind::Net, confirm_net},
    {Kind::Chardev, confirm_chardev}, {Kind::Rng, confirm_rng},
    {Kind::Hostdev, confirm_hostdev}, {Kind::Shmem, confirm_shmem},
    {Kind::Fs, confirm_fs},           {Kind::IvshmemSocket, confirm_ivshmem_socket},
    {Kind::Evdev, confirm_evdev},     {Kind::Mem, confirm_memory},
    {Kind::Vcpu, confirm_vcpus},      {Kind::Iothread, confirm_iothreads},
    {Kind::File, confirm_read},
};

Result<> confirm_one(const Scene& scene, Claim& claim) {
  auto check = std::ranges::find(kChecks, claim.record.kind, &Confirmation::kind);
  if (check == std::end(kChecks))
    return fail(not_borne_out(claim, "no way to confirm it"));
  return check->confirm(scene, claim);
}

constexpr DeviceNumber kTun{DeviceType::Char, 10, 200};  // TUN_MINOR of linux/miscdevice.h

// One of QEMU's descriptors of that device that no earlier claim was given.
Result<> take_descriptor(std::vector<kernel::OpenFile>& files, kernel::ProcessId process,
                         Claim& claim) {
  auto file = std::ranges::find_if(
      files, [&](const kernel::OpenFile& f) { return f.rdev && f.rdev == claim.rdev; });
  if (file == files.end())
    return fail(not_borne_out(claim, "QEMU does not have it open"));
  std::string ifname = kernel::tun_name_of(process.pid, file->fd);
  if (ifname.empty() && *claim.rdev == kTun)
    return fail(Errc::Io, fmt::format("the interface of descriptor {} cannot be read", file->fd));
  if (!ifname.empty()) {
    auto index = kernel::link_index(ifname);
    if (!index && index.error().code() != Errc::NotFound)
      return std::unexpected(std::move(index).error());
    claim.record.set("ifname", ifname);
    if (index)
      claim.record.set("ifindex", uint64_t{*index});
  }
  files.erase(file);
  return {};
}

asio::awaitable<Result<>> ask_questions(const std::shared_ptr<qemu::Qmp>& qmp,
                                        std::span<const Question> questions,
                                        const std::vector<Claim*>& claims, Answers& answers) {
  for (const Question& question : questions) {
    auto is_of = [&](const Claim* claim) { return claim->record.kind == question.kind; };
    if (!(answers.*question.answer).is_null() || std::ranges::none_of(claims, is_of))
      continue;
    qemu::Command query{std::string(question.command), json::object()};
    if (question.path != nullptr)
      query.arguments["path"] = question.path;
    CO_TRY(answers.*question.answer, co_await ask(qmp, std::move(query)));
  }
  co_return Result<>{};
}

asio::awaitable<Result<>> ask_about(const std::shared_ptr<qemu::Qmp>& qmp,
                                    const std::vector<Claim*>& claims, Answers& answers) {
  CO_TRY_OK(co_await ask_questions(qmp, kQuestions, claims, answers));
  // A guest that runs, or was saved, may have a balloon, which holds some of its memory.
  auto is_memory = [](const Claim* claim) { return claim->record.kind == Kind::Mem; };
  if (std::ranges::none_of(claims, is_memory))
    co_return Result<>{};
  qemu::Command query{"query-balloon", json::object()};
  if (auto balloon = co_await ask(qmp, std::move(query)))
    answers.balloon = std::move(*balloon);
  co_return Result<>{};
}

Result<> confirm_guarded(const Scene& scene, Claim& claim) {
  try {
    return confirm_one(scene, claim);
  } catch (const json::exception& error) {
    return fail(Errc::Corrupt,
                fmt::format("QEMU's answer is not of the form of its schema: {}", error.what()));
  }
}

// Denied by not_borne_out(), or as there is no such file or interface; any other error is a look
// that failed. A QEMU that does not answer may still do what it was told and has not read.
Result<bool> verdict_of(const Result<>& borne_out, const Result<>& asked) {
  if (borne_out)
    return true;
  const Errc code = borne_out.error().code();
  if (code != Errc::Internal && code != Errc::NotFound)
    return std::unexpected(borne_out.error());
  return asked ? Result<bool>(false) : std::unexpected(asked.error());
}

// What /proc alone can show.
bool shown_by_files(const Claim& claim) {
  if (claim.record.kind == Kind::Chardev)
    return claim.record.get("type") == "file" || claim.record.get("type") == "dev";
  return claim.record.kind == Kind::Disk || claim.record.kind == Kind::Shmem ||
         claim.rdev.has_value();
}

}  // namespace

uint64_t memory_kib_of(const json& summary, const json& balloon) {
  if (balloon.is_object() && balloon.contains("actual"))
    return balloon.value("actual", uint64_t{0}) / 1024;
  if (!summary.is_object())
    return 0;
  return (summary.value("base-memory", uint64_t{0}) +
          summary.value("plugged-memory", uint64_t{0})) /
         1024;
}

asio::awaitable<std::vector<Result<bool>>> confirm_each(const std::shared_ptr<qemu::Qmp>& qmp,
                                                        kernel::ProcessId process,
                                                        const Facts& facts, const RunSeams& seams,
                                                        std::vector<Claim*> claims) {
  Answers answers;
  Result<> asked = fail(Errc::Lost, "no monitor to QEMU");
  if (qmp != nullptr)
    asked = co_await ask_about(qmp, claims, answers);
  if (asked)
    asked = co_await ask_questions(qmp, kQuestionsOfOthers, claims, answers);
  auto files = kernel::open_files(process.pid);
  if (files)
    answers.files = *files;
  Scene scene{process, answers, facts, seams};
  std::vector<Result<bool>> verdicts;
  for (Claim* claim : claims) {
    Result<> borne_out;
    if (!files)
      borne_out = std::unexpected(files.error());
    else if (claim->record.kind == Kind::NetOpen)
      borne_out = take_descriptor(*files, process, *claim);
    else if (!asked && !shown_by_files(*claim))
      borne_out = asked;
    else
      borne_out = confirm_guarded(scene, *claim);
    verdicts.push_back(verdict_of(borne_out, asked));
  }
  co_return verdicts;
}

asio::awaitable<Result<>> confirm(const std::shared_ptr<qemu::Qmp>& qmp, kernel::ProcessId process,
                                  const Facts& facts, const RunSeams& seams,
                                  std::vector<Claim*> claims) {
  Answers answers;
  CO_TRY(answers.files, kernel::open_files(process.pid));
  CO_TRY_OK(co_await ask_about(qmp, claims, answers));
  Scene scene{process, answers, facts, seams};
  for (Claim* claim : claims) CO_TRY_OK(confirm_guarded(scene, *claim));
  co_return Result<>{};
}

Result<> confirm_confinement(kernel::ProcessId process, std::optional<uint32_t> uid) {
  if (!uid)
    return {};
  TRY(kernel::ProcessStatus status, kernel::process_status(process.pid));
  if (status.uid != *uid || status.euid != *uid)
    return fail(Errc::Internal,
                fmt::format("QEMU runs as uid {} instead of {}", status.euid, *uid));
  if (status.cap_eff != 0)
    return fail(Errc::Internal, fmt::format("QEMU has capabilities {:x}", status.cap_eff));
  return {};
}

}  // namespace tenure::guest
