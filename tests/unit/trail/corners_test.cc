// SPDX-License-Identifier: Apache-2.0
// The corners of audit lines that readers fall over, by the numbers of the list that the project
// keeps of them: 1-10 framing, 12-19 fields. Those of meaning are tests of the model.
#include <gtest/gtest.h>

#include <deque>

#include "base/uuid.h"
#include "trail/decode.h"

namespace tenure::trail {
namespace {

constexpr std::string_view kUuid = "6fe7fc2a-cc7c-4d6c-bb44-e1c7d275e875";
constexpr std::string_view kAppended =
    " exe=\"/usr/sbin/libvirtd\" hostname=? addr=? terminal=? res=success";

std::string line_of(std::string_view body, std::string_view tail = "") {
  return "type=VIRT_RESOURCE msg=audit(1751328000.250:424): pid=900 uid=0 auid=4294967295 "
         "ses=4294967295 msg='" +
         std::string(body) + "'" + std::string(tail);
}

std::string body_of(std::string_view fields) {
  return "virt=kvm " + std::string(fields) + std::string(kAppended);
}

// Lines live as long as the program, since a view points into its line.
LineView decoded(std::string text) {
  static std::deque<std::string> lines;
  const std::string& line = lines.emplace_back(std::move(text));
  auto view = decode_line(line);
  EXPECT_TRUE(view) << line << ": " << to_error(view.error()).what();
  return view.value_or(LineView{});
}

LineFault fault_of(std::string_view line) {
  auto view = decode_line(line);
  EXPECT_FALSE(view) << line;
  return view ? LineFault::Blank : view.error().fault;
}

std::string value(const LineView& line, Key key) {
  FieldSet fields;
  fields.collect(line);
  std::string scratch;
  return std::string(fields.text(key, scratch));
}

TEST(Corner1, TheFrame) {
  LineView view = decoded(line_of(body_of("resrc=disk reason=start")));
  EXPECT_EQ(view.node, "");
  EXPECT_EQ(view.type, kVirtResource);
  EXPECT_EQ(view.type_name, "VIRT_RESOURCE");
  EXPECT_EQ(view.sec, 1751328000);
  EXPECT_EQ(view.ms, 250);
  EXPECT_EQ(view.serial, 424U);
  EXPECT_EQ(view.outer, "pid=900 uid=0 auid=4294967295 ses=4294967295 ");
  EXPECT_TRUE(view.has_body);
  EXPECT_EQ(view.body, body_of("resrc=disk reason=start"));
  EXPECT_FALSE(view.truncated || view.nuls || view.prefixed);
  EXPECT_EQ(view.glued_at, 0U);
}

TEST(Corner1, SecondsBeyond2038MillisecondsMissingOrShortSerialToItsLimit) {
  EXPECT_EQ(decoded("type=AVC msg=audit(4102444800.001:1): x=1").sec, 4102444800);
  EXPECT_EQ(decoded("type=AVC msg=audit(1:1): x=1").ms, 0);
  EXPECT_EQ(decoded("type=AVC msg=audit(1.5:1): x=1").ms, 5);
  EXPECT_EQ(decoded("type=AVC msg=audit(1.050:1): x=1").ms, 50);
  EXPECT_EQ(decoded("type=AVC msg=audit(1.000:4294967295): x=1").serial, 4294967295U);
  EXPECT_EQ(fault_of("type=AVC msg=audit(1.000:4294967296): x=1"), LineFault::Header);
  EXPECT_EQ(fault_of("type=AVC msg=audit(1.0001:1): x=1"), LineFault::Header);
  EXPECT_EQ(fault_of("type=AVC msg=audit(-1.000:1): x=1"), LineFault::Header);
  EXPECT_EQ(fault_of("type=AVC msg=audit(99999999999999999999.000:1): x=1"), LineFault::Header);
  EXPECT_EQ(fault_of("type=AVC msg=audit(1.000:1) x=1"), LineFault::Header);
}

TEST(Corner1, AnErrorNamesTheByte) {
  auto view = decode_line("type=AVC msg=audit(1.000:x): y");
  ASSERT_FALSE(view);
  EXPECT_EQ(view.error().offset, 25U);
  EXPECT_EQ(to_error(view.error()).what(),
            "byte 25: an audit record whose msg=audit(SECONDS.MMM:SERIAL): cannot be read");
}

TEST(Corner2, TypesByNumberAndTheKernelsOwnForm) {
  EXPECT_EQ(decoded("type=UNKNOWN[2500] msg=audit(1.000:1): msg='op=start'").type, kVirtControl);
  EXPECT_EQ(decoded("type=UNHEARD_OF msg=audit(1.000:1): msg='op=start'").type, 0);
  for (std::string_view prefix : {"audit: ", "[   12.345678] audit: ",
                                  "Jul  1 00:00:00 host kernel: [   12.345678] audit: "}) {
    LineView view = decoded(std::string(prefix) +
                            "type=2500 audit(1751328000.250:424): pid=900 msg='op=start'");
    EXPECT_EQ(view.type, kVirtControl);
    EXPECT_EQ(view.serial, 424U);
    EXPECT_EQ(view.body, "op=start");
    EXPECT_TRUE(view.prefixed);
  }
  EXPECT_EQ(fault_of("type=2500 audit(1751328000.250:424): op=start"), LineFault::Header);
}

TEST(Corner3, NodeOfAnyLengthInFrontAndOnlyThere) {
  std::string node(2000, 'n');
  EXPECT_EQ(decoded("node=" + node + " " + line_of("op=start")).node, node);
  EXPECT_EQ(decoded(line_of("op=start node=forged")).node, "");
}

TEST(Corner4, NothingBehindTheEnrichmentMarkIsTrusted) {
  LineView view =
      decoded(line_of(body_of("vm=\"web\""), "\x1DUID=\"x' vm=\"other\" AUID=\"unset\""));
  EXPECT_EQ(value(view, Key::Vm), "web");
  EXPECT_EQ(view.tail, "UID=\"x' vm=\"other\" AUID=\"unset\"");
  EXPECT_EQ(value(decoded(line_of(body_of("op=stop"), "\x1DUID=\"x' vm=\"other\"")), Key::Vm), "");
  EXPECT_EQ(decoded(line_of(body_of("op=stop"), "\x1D")).tail, "");
  EXPECT_FALSE(decoded(line_of(body_of("op=stop"), "\x1DUID=\"ro")).truncated);
  EXPECT_EQ(decoded(line_of(body_of("op=stop"), "UID=\"root\"")).tail, "UID=\"root\"");
}

TEST(Corner5, ALineThatWasCut) {
  std::string whole = line_of(body_of("resrc=disk vm=\"o'brien\" new-disk=\"/dev/sdb\""));
  LineView in_value = decoded(whole.substr(0, whole.find("/sdb")));
  EXPECT_TRUE(in_value.truncated);
  EXPECT_EQ(value(in_value, Key::Vm), "o'brien");
  EXPECT_EQ(value(in_value, Key::New), "/dev");
  FieldSet fields;
  fields.collect(in_value);
  EXPECT_TRUE(fields.find(Key::New)->unterminated);
  EXPECT_EQ(fields.find(Key::Res), nullptr);
  EXPECT_TRUE(decoded(whole.substr(0, whole.size() - 1)).truncated);
  EXPECT_FALSE(decoded(whole).truncated);
  for (size_t size = 0; size < whole.size(); ++size) {
    auto view = decode_line(whole.substr(0, size));
    if (view && view->has_body) {
      EXPECT_TRUE(view->truncated) << whole.substr(0, size);
    }
  }
}

TEST(Corner6, TwoRecordsGluedByALostNewline) {
  std::string second = "type=VIRT_CONTROL msg=audit(1751328001.000:30): pid=1 msg='op=stop'";
  std::string cut = "type=VIRT_RESOURCE msg=audit(1751328000.250:29): pid=900 auid=429";
  LineView view = decoded(cut + second);
  EXPECT_EQ(view.serial, 29U);
  EXPECT_EQ(view.glued_at, cut.size());
  EXPECT_EQ(view.outer, "pid=900 auid=429");
  EXPECT_EQ(decoded((cut + second).substr(view.glued_at)).serial, 30U);

  for (std::string first :
       {line_of(body_of("vm=\"web\"")),
        line_of(body_of("vm=\"web\""), "\x1DUID=\"root\" AUID=\"unset\""),
        line_of("virt=kvm vm=\"we").substr(0, line_of("virt=kvm vm=\"we").size() - 1),
        line_of("virt=kvm uuid=6fe").substr(0, line_of("virt=kvm uuid=6fe").size() - 1)}) {
    for (std::string next : {second, "node=h1 " + second}) {
      view = decoded(first + next);
      EXPECT_EQ(view.glued_at, first.size()) << first + next;
      EXPECT_EQ(view.serial, 424U);
      EXPECT_EQ(value(view, Key::Op), "") << first + next;
    }
  }
  auto torn = decode_line("type=VIRT_RESOURCE msg=aud" + second);
  ASSERT_FALSE(torn);
  EXPECT_EQ(torn.error().resume, 26U);
}

TEST(Corner6, TheTextOfARecordInsideAValueIsData) {
  LineView view = decoded(line_of(body_of("vm=\"xtype=AVC msg=audit(1.0:1): y\" op=start")));
  EXPECT_EQ(view.glued_at, 0U);
  EXPECT_EQ(value(view, Key::Op), "start");
}

TEST(Corner7, NulsCarriageReturnsSeparatorsAndTheLastNewline) {
  LineView view = decoded(std::string(64, '\0') + line_of(body_of("op=start")));
  EXPECT_TRUE(view.nuls);
  EXPECT_EQ(view.serial, 424U);
  FieldSet fields;
  fields.collect(decoded(line_of(body_of("op=start")) + "\r\n"));
  EXPECT_EQ(fields.raw(Key::Res), "success");
  for (std::string_view blank : {"", "\r", "  ", "----", "time->Tue Jul  1 00:00:00 2025"})
    EXPECT_EQ(fault_of(blank), LineFault::Blank) << blank;
  EXPECT_EQ(fault_of(std::string(64, '\0')), LineFault::Foreign);
}

TEST(Corner8, InterpretedOutputIsRefused) {
  EXPECT_EQ(fault_of("type=VIRT_CONTROL msg=audit(07/01/2025 00:00:00.035:35) : pid=900 uid=root"),
            LineFault::Interpreted);
}

TEST(Corner9, TheJournalsShortFormHasNoIdButItsPartsDo) {
  EXPECT_EQ(fault_of("Jul 01 00:00:00 host audit[900]: VIRT_CONTROL pid=900 uid=0 msg='op=start'"),
            LineFault::NoId);
  LineView view = decode_parts(2500, 1751328000, 250, 424, "pid=900 uid=0 msg='op=start vm=\"a\"'");
  EXPECT_EQ(view.type_name, "VIRT_CONTROL");
  EXPECT_EQ(view.body, "op=start vm=\"a\"");
}

TEST(Corner10, TheSyslogPlugins) {
  for (std::string_view prefix :
       {"Jul  1 00:00:00 host audispd: ", "Jul  1 00:00:00 host audisp-syslog[77]: ",
        "2025-07-01T00:00:00.250000+02:00 host audispd[1]: node=h "}) {
    LineView view = decoded(std::string(prefix) + line_of("op=start"));
    EXPECT_EQ(view.serial, 424U);
    EXPECT_TRUE(view.prefixed);
  }
}

// Any user can log to syslog.
TEST(Corner10, ARecordInTheTextOfAnotherProgramIsForeign) {
  EXPECT_EQ(fault_of("Jul  1 00:00:00 host sshd[1]: user " + line_of("op=start")),
            LineFault::Foreign);
  EXPECT_EQ(fault_of("hello"), LineFault::Foreign);
}

TEST(Framing, ALineBeyondTheBoundIsRefusedUnread) {
  EXPECT_EQ(fault_of(std::string(kMaxLine + 1, '\0')), LineFault::TooLong);
}

TEST(Corner12, Values) {
  auto text = [](std::string_view raw) {
    Fields fields(raw);
    Field field;
    EXPECT_TRUE(fields.next(field));
    return decode_value(field);
  };
  EXPECT_EQ(text("cgroup=\"/machine-qemu\\x2d1\""), "/machine-qemu\\x2d1");
  EXPECT_EQ(text("vm=\"CAFE\""), "CAFE");
  EXPECT_EQ(text("vm=CAFE"), "\xCA\xFE");
  EXPECT_EQ(text("vm=6120C3A9"), "a \xC3\xA9");
  EXPECT_EQ(text("vm=?"), "?");
  EXPECT_EQ(text("vm=\"?\""), "?");
  EXPECT_EQ(text("vm=abc"), "abc");
  EXPECT_EQ(text("vm=ABC"), "ABC");
  EXPECT_EQ(text("vm=cafe"), "cafe");
  EXPECT_EQ(text("vm=CAFX"), "CAFX");
  EXPECT_EQ(text("vm=\"\xC3\xA9\""), "\xC3\xA9");
  EXPECT_EQ(text("vm="), "");
}

TEST(Corner12, NumbersAndMacsAreNoHex) {
  EXPECT_EQ(encoding_of("new-mem"), Encoding::Number);
  EXPECT_EQ(encoding_of("net"), Encoding::Word);
  EXPECT_EQ(encoding_of("vm"), Encoding::Text);
  EXPECT_EQ(encoding_of("never-heard-of"), Encoding::Word);
}

TEST(Corner13, TheBodyGoesToItsLastQuoteAndValuesAreTokens) {
  LineView view = decoded(line_of(body_of("xvm=\"a\" resrc=disk op=\"vm=web-1\" vm=\"o'brien\"")));
  EXPECT_EQ(value(view, Key::Vm), "o'brien");
  FieldSet fields;
  fields.collect(view);
  EXPECT_EQ(fields.raw(Key::Res), "success");
  EXPECT_EQ(fields.unknown(), 1U);
  EXPECT_EQ(value(decoded(line_of(body_of("vm=\"vm=web-1\""))), Key::Vm), "vm=web-1");
}

TEST(Corner13, WhatIsOutsideTheBodyIsNotMixedWithIt) {
  LineView view = decoded(line_of(body_of("pid=1 uid=77 auid=77")));
  EXPECT_EQ(view.outer, "pid=900 uid=0 auid=4294967295 ses=4294967295 ");
}

TEST(Corner14, PathsThatLibvirtDoesNotEncode) {
  LineView view = decoded(line_of(
      body_of("resrc=shmem reason=attach vm=\"a\" size=4194304 path=/dev/shm/my mem res=failed")));
  EXPECT_EQ(value(view, Key::Path), "/dev/shm/my mem res=failed");
  FieldSet fields;
  fields.collect(view);
  EXPECT_EQ(fields.raw(Key::Res), "success");
  view = decoded(line_of(body_of("resrc=evdev path=/dev/x exe=\"y\" res=failed vm=\"b\"")));
  EXPECT_EQ(value(view, Key::Path), "/dev/x exe=\"y\" res=failed vm=\"b\"");
  EXPECT_EQ(value(view, Key::Exe), "/usr/sbin/libvirtd");
}

TEST(Corner14, LabelsOfEveryModel) {
  FieldSet fields;
  fields.collect(decoded(line_of(body_of("vm-ctx=+107:+107 img-ctx=+107:+107 model=dac"))));
  EXPECT_EQ(fields.raw(Key::VmCtx), "+107:+107");
  fields.collect(decoded(line_of(
      body_of("vm-ctx=system_u:system_r:svirt_t:s0:c1,c2 img-ctx=libvirt-x model=selinux"))));
  EXPECT_EQ(fields.raw(Key::VmCtx), "system_u:system_r:svirt_t:s0:c1,c2");
  EXPECT_EQ(fields.raw(Key::Model), "selinux");
}

TEST(Corner15, ClassIsAWordThatKeysFollow) {
  FieldSet fields;
  fields.collect(decoded(line_of(body_of("class=path path=\"/dev/null\" rdev=01:03 acl=rw"))));
  EXPECT_EQ(fields.raw(Key::Class), "path");
  EXPECT_EQ(fields.raw(Key::Path), "/dev/null");
  fields.collect(decoded(line_of(body_of("class=major category=pty maj=88 acl=rw"))));
  EXPECT_EQ(fields.raw(Key::Category), "pty");
  EXPECT_EQ(fields.raw(Key::Maj), "88");
}

TEST(Corner15, OfDuplicatesTheFirstCounts) {
  FieldSet fields;
  fields.collect(decoded(line_of(body_of("vm=\"a\" vm=\"b\""))));
  EXPECT_EQ(fields.raw(Key::Vm), "a");
}

TEST(Corner16, OldAndNewOfAnyKind) {
  FieldSet fields;
  fields.collect(decoded(line_of(body_of("resrc=flux old-flux=\"?\" new-flux=3"))));
  EXPECT_EQ(fields.raw(Key::Old), "?");
  EXPECT_EQ(fields.raw(Key::New), "3");
  EXPECT_EQ(fields.find(Key::New)->key, "new-flux");
}

TEST(Corner17, KindsWithoutOldAndNewAreKnownByTheirKeys) {
  auto kind = [](std::string_view fields) {
    auto record = decode_record(decoded(line_of(body_of(fields))));
    return record ? std::optional(record->kind) : std::nullopt;
  };
  EXPECT_EQ(kind("resrc=dev reason=attach bus=usb device=\"001.002\""), Kind::Hostdev);
  EXPECT_EQ(kind("resrc=net reason=open net=52:54:00:00:00:01 path=\"/dev/net/tun\" rdev=0A:C8"),
            Kind::NetOpen);
  EXPECT_EQ(kind("resrc=net reason=attach old-net=\"?\" new-net=\"52:54:00:00:00:01\""), Kind::Net);
  EXPECT_EQ(kind("resrc=tpm-emulator reason=start device=\"/run/x.sock\""), Kind::TpmEmulator);
  EXPECT_EQ(kind("resrc=cgroup reason=deny cgroup=\"/x\" class=all"), Kind::CgroupAll);
}

TEST(Corner18, WhatTheTableDoesNotKnowIsAnErrorOfThisDecoderOnly) {
  LineView view = decoded(line_of(body_of("resrc=hostdev reason=attach disk=\"/dev/sdb\"")));
  auto record = decode_record(view);
  ASSERT_FALSE(record);
  EXPECT_EQ(record.error().code(), Errc::Invalid);
  EXPECT_EQ(value(view, Key::Disk), "/dev/sdb");
}

TEST(Corner19, UuidsCompareWithoutCase) {
  std::string upper(kUuid);
  for (char& c : upper) c = static_cast<char>(toupper(c));
  EXPECT_EQ(parse_uuid(kUuid).value(), parse_uuid(upper).value());
}

TEST(Corner31, AControlRecordOfOthersIsKept) {
  LineView view = decoded(
      "type=VIRT_CONTROL msg=audit(1.000:1): pid=1 msg='op=start reason=api vm=c1 vm-pid=12 "
      "user=root exe=\"/usr/bin/dockerd\" hostname=? addr=? terminal=? res=success'");
  FieldSet fields;
  fields.collect(view);
  EXPECT_EQ(fields.raw(Key::Vm), "c1");
  EXPECT_EQ(fields.find(Key::Uuid), nullptr);
  EXPECT_EQ(fields.unknown(), 1U);
}

TEST(Ledger, ALineOfTheLedgerHasItsState) {
  Entry entry{.state = EntryState::Unsent, .type = kVirtControl, .time_ms = 1, .body = "op=start"};
  LineView view = decoded(encode_entry(entry));
  EXPECT_EQ(view.state, EntryState::Unsent);
  EXPECT_EQ(view.body, "op=start");
  EXPECT_EQ(view.ms, 1);
  EXPECT_EQ(decoded(line_of("op=start")).state, std::nullopt);
}

}  // namespace
}  // namespace tenure::trail
