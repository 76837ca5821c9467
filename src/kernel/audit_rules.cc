// SPDX-License-Identifier: Apache-2.0
#include "kernel/audit_rules.h"

#include <fmt/format.h>
#include <libaudit.h>
#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <optional>

#include "base/text.h"
#include "kernel/audit_socket.h"
#include "kernel/process.h"

namespace tenure::kernel {
namespace {

constexpr size_t kMaxRules = 65536;
constexpr std::array<uint16_t, 6> kOurTypes{2500, 2501, 2502, 2503, 2504, 2505};

AuditRule to_rule(const audit_rule_data& raw) {
  AuditRule rule{.list = raw.flags & ~uint32_t{AUDIT_FILTER_PREPEND}, .action = raw.action};
  for (uint32_t i = 0; i < std::min<uint32_t>(raw.field_count, AUDIT_MAX_FIELDS); ++i)
    rule.fields.push_back({raw.fields[i], raw.fieldflags[i], raw.values[i]});
  return rule;
}

std::optional<uint32_t> known_value(uint32_t field, const AuditSender& sender) {
  switch (field) {
    case AUDIT_MSGTYPE:
      return sender.type;
    case AUDIT_PID:
      return sender.pid;
    case AUDIT_UID:
      return sender.uid;
    case AUDIT_LOGINUID:
      return sender.auid;
    default:
      return std::nullopt;
  }
}

struct Operator {
  uint32_t code;
  std::string_view text;
  bool (*holds)(uint32_t, uint32_t);
};
constexpr Operator kOperators[] = {
    {AUDIT_EQUAL, "=", [](uint32_t a, uint32_t b) { return a == b; }},
    {AUDIT_NOT_EQUAL, "!=", [](uint32_t a, uint32_t b) { return a != b; }},
    {AUDIT_LESS_THAN, "<", [](uint32_t a, uint32_t b) { return a < b; }},
    {AUDIT_LESS_THAN_OR_EQUAL, "<=", [](uint32_t a, uint32_t b) { return a <= b; }},
    {AUDIT_GREATER_THAN, ">", [](uint32_t a, uint32_t b) { return a > b; }},
    {AUDIT_GREATER_THAN_OR_EQUAL, ">=", [](uint32_t a, uint32_t b) { return a >= b; }},
};

enum class Match { No, Yes, Unknown };

// A rule without fields matches nothing: its result stays 0 in audit_filter().
Match matches(const AuditRule& rule, const AuditSender& sender) {
  Match all = rule.fields.empty() ? Match::No : Match::Yes;
  for (const AuditRule::Field& field : rule.fields) {
    std::optional<uint32_t> value = known_value(field.field, sender);
    auto op = std::ranges::find(kOperators, field.op, &Operator::code);
    if (!value || op == std::end(kOperators))
      all = Match::Unknown;
    else if (!op->holds(*value, field.value))
      return Match::No;
  }
  return all;
}

std::string text_of(const AuditRule& rule) {
  std::string text = fmt::format("-a {},{}", rule.action == AUDIT_NEVER ? "never" : "always",
                                 rule.list == AUDIT_FILTER_USER ? "user" : "exclude");
  for (const AuditRule::Field& field : rule.fields) {
    const char* name = audit_field_to_name(static_cast<int>(field.field));
    auto op = std::ranges::find(kOperators, field.op, &Operator::code);
    const char* type = field.field == AUDIT_MSGTYPE
                           ? audit_msg_type_to_name(static_cast<int>(field.value))
                           : nullptr;
    text += fmt::format(" -F {}{}{}", name != nullptr ? name : "?",
                        op != std::end(kOperators) ? op->text : "?",
                        type != nullptr ? std::string(type) : fmt::format("{}", field.value));
  }
  return text;
}

}  // namespace

Result<std::vector<AuditRule>> query_audit_rules(int fd) {
  const int sequence = audit_request_rules_list_data(fd);
  if (sequence <= 0)
    return fail_sys("ask for the audit rules (AUDIT_LIST_RULES)", "",
                    sequence < 0 ? -sequence : ECONNREFUSED);
  std::vector<AuditRule> rules;
  pollfd readable{fd, POLLIN, 0};
  while (poll(&readable, 1, kAuditReplyMs) > 0) {
    audit_reply reply{};
    const int size = audit_get_reply(fd, &reply, GET_REPLY_NONBLOCKING, 0);
    if (size < 0)
      return fail_sys("read the audit rules", "", -size);
    if (reply.nlh->nlmsg_seq != static_cast<uint32_t>(sequence))
      continue;
    if (reply.type == NLMSG_DONE)
      return rules;
    if (reply.type == NLMSG_ERROR && reply.error != nullptr && reply.error->error != 0)
      return fail_sys("ask for the audit rules", "", -reply.error->error);
    if (reply.type != AUDIT_LIST_RULES || reply.ruledata == nullptr || rules.size() >= kMaxRules)
      continue;
    AuditRule rule = to_rule(*reply.ruledata);
    if (rule.list == AUDIT_FILTER_USER || rule.list == AUDIT_FILTER_EXCLUDE)
      rules.push_back(std::move(rule));
  }
  return fail(Errc::Timeout, fmt::format("the audit rules: no answer in {} ms", kAuditReplyMs));
}

std::string dropping_rule(const std::vector<AuditRule>& rules, const AuditSender& sender) {
  for (uint32_t list : {uint32_t{AUDIT_FILTER_USER}, uint32_t{AUDIT_FILTER_EXCLUDE}}) {
    for (const AuditRule& rule : rules) {
      if (rule.list != list)
        continue;
      Match match = matches(rule, sender);
      if (match == Match::Unknown)
        break;  // it may decide, so what stands behind it proves nothing
      if (match == Match::No)
        continue;
      if (list == AUDIT_FILTER_EXCLUDE || rule.action == AUDIT_NEVER)
        return text_of(rule);
      break;
    }
  }
  return "";
}

std::string rule_that_drops_ours(const std::vector<AuditRule>& rules) {
  AuditSender sender{.pid = static_cast<uint32_t>(getpid()), .uid = geteuid()};
  Result<Requester> self = requester_of(getpid());
  sender.auid = self ? self->auid : kUnsetId;
  for (uint16_t type : kOurTypes) {
    sender.type = type;
    if (std::string rule = dropping_rule(rules, sender); !rule.empty())
      return rule;
  }
  return "";
}

void add_audit_rules(int fd, AuditStatus& status) {
  auto rules = query_audit_rules(fd);
  if (!rules)
    return;
  status.rules_read = true;
  status.excluded_by = rule_that_drops_ours(*rules);
}

}  // namespace tenure::kernel
