// SPDX-License-Identifier: Apache-2.0
// Jobs of QEMU's on the chain of a disk: commit, pull, copy. The start is one operation, the end
// another: QEMU finishes its work and waits (auto-finalize=false); the intent is written, QEMU told
// to go on, the chain looked at, and what left it is released. The caller holds the guest's turn.
#pragma once

#include <asio/awaitable.hpp>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>

#include "base/result.h"
#include "guest/plan/block_plan.h"
#include "guest/run/live.h"

namespace tenure::guest {

// QEMU's id of the job on a disk, and back; "" for what is no such id.
std::string job_id(const std::string& alias);
std::string disk_of_job(std::string_view id);

// block_job_start.cc: starts one; returns the disk's alias. On failure nothing is left granted, nor
// a file that was made. Busy if there is one on the disk.
asio::awaitable<Result<std::string>> start_job(Live& live, BlockJobRequest request,
                                               registrar::Txn txn);

// Does what the state of the job in QEMU asks for: tells that it is ready, and pivots or finishes
// if that is wanted; finalizes what waits for it; ends what has ended. Nothing if there is none.
asio::awaitable<Result<>> drive_job(Live& live, std::string alias);

// `action`: abort, pivot, finish. After pivot and finish the job ends by drive_job().
asio::awaitable<Result<>> steer_job(Live& live, std::string alias, std::string action,
                                    registrar::Txn txn);

// Bytes a second, 0 for no limit.
asio::awaitable<Result<>> limit_job(Live& live, std::string alias, uint64_t bandwidth);

// What QEMU says of the jobs of this guest: disk, op, status, done and total bytes, bandwidth.
asio::awaitable<Result<nlohmann::json>> list_jobs(Live& live);

// The word for a job that comes to its end well.
std::string good_end(const BlockJob& job);
// How it has ended: as `reason` says, or by QEMU's `error` if that is not empty.
void note_outcome(BlockJob& job, std::string_view reason, const std::string& error);

// After an adoption.
asio::awaitable<Result<>> settle_jobs(Live& live);

// Every wait for a job looks again.
void wake_job_waiters(Live& live);

}  // namespace tenure::guest
