// SPDX-License-Identifier: Apache-2.0
// Tenures and runs as JSON lines (schema 1, tenure-json(5)) and CSV. An append-only writer of our
// own: a hundred thousand lines have to cost less than reading the log did.
//
// Text is UTF-8. Control characters become \u00XX. In a text that is not valid UTF-8 each invalid
// byte, and each '%', becomes %XX (upper-case hex), so that nothing is lost and every line is valid
// JSON.
#pragma once

#include <string>
#include <string_view>

#include "model/tenure.h"

namespace tenure::model {

inline constexpr int kJsonSchema = 1;

// Each appends one object and a newline. `run` is the tenure's.
void append_json_line(std::string& out, const Tenure& tenure, const Run& run);
void append_json_line(std::string& out, const Run& run);

// RFC 4180, same columns in the same order; times as SECONDS.MMM, requester as auid and uid.
void append_csv_header(std::string& out);
void append_csv_line(std::string& out, const Tenure& tenure, const Run& run);

// For other writers of JSON: a quoted string by the rule above.
void append_json_string(std::string& out, std::string_view text);

// "audit(1751328000.250:424)", or "ledger(17)" for what the kernel did not confirm.
std::string proof_of(const Position& at);

}  // namespace tenure::model
