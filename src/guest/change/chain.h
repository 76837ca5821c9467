// SPDX-License-Identifier: Apache-2.0
// The chain of images below a disk of a running guest: what QEMU has of it, what that needs of the
// host, and how tenures, rights and definition follow when it has changed. Private to src/guest;
// the caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "guest/plan/plan.h"
#include "guest/run/live.h"
#include "qemu/block_graph.h"

namespace tenure::guest {

// QEMU's two answers that qemu::disk_chain() reads.
struct BlockNodes {
  nlohmann::json graph, nodes;
};
asio::awaitable<Result<BlockNodes>> ask_block_nodes(Live& live);

asio::awaitable<Result<qemu::DiskChain>> look_at_chain(Live& live, domain::Disk disk);

// The disk that `word` names (domain::find_device), if its chain can change: NotFound, Unsupported.
Result<domain::Disk> chain_disk(const Live& live, const std::string& word);

// What is known of an image by its name. NotFound.
Result<qemu::Image> image_at(const std::string& path, const std::string& format, bool writable);
// Members as images, data files too: the top is writable as told, what is below it is not.
Result<qemu::ImageChain> images_of(const std::vector<qemu::ChainMember>& members, bool writable);

// What such images of the disk need: claims that nobody has yet, device nodes, and the facts that
// confirm() asks for.
struct ChainPlan {
  Plan plan;
  Facts facts;
};
Result<ChainPlan> plan_images(const Live& live, const domain::Disk& disk, qemu::ImageChain images,
                              std::string_view reason);
// Takes out the claims that the guest has.
std::vector<model::Claim> not_held(const std::vector<registrar::Hold>& holds,
                                   std::vector<model::Claim> wanted);

// Everything that the disk has beside its chain is deleted in QEMU; files are opened for writing or
// reading as the chain needs them; what the disk holds and its chain does not need is released with
// `reason`, and what it needs and does not hold is granted (after a restart); the definition says
// what the chain is. The first error; what could be done is done.
asio::awaitable<Result<>> follow_chain(Live& live, std::string alias, std::string reason,
                                       std::string why, registrar::Txn txn);

// After an adoption: follow_chain() for every disk.
asio::awaitable<Result<>> settle_chains(Live& live, registrar::Txn txn);

// QEMU writes an empty image of `size` bytes into the open storage of the member.
asio::awaitable<Result<>> create_image(Live& live, const qemu::ChainMember& member, uint64_t size,
                                       const qemu::ChainMember* backing);

}  // namespace tenure::guest
