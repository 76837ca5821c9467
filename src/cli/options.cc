// SPDX-License-Identifier: Apache-2.0
#include "cli/options.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iterator>
#include <sstream>
#include <variant>

#include "base/text.h"
#include "cli/exit_code.h"

namespace tenure::cli {
namespace {

// Where an option's value goes.
using Target =
    std::variant<bool Options::*, std::string Options::*, std::vector<std::string> Options::*,
                 uint64_t Options::*, std::optional<uint64_t> Options::*>;

struct OptionSpec {
  const char* flags;    // CLI11's form; the first long name is the option's name in CommandSpec
  const char* metavar;  // "" for flags
  const char* help;
  Target target;
  const char* choices = "";  // blank-separated words that are allowed; "" allows everything
};

const OptionSpec kGlobal[] = {
    {"--root", "DIR", "Use the instance below DIR (default $TENURE_ROOT, else this machine's)",
     &Options::root},
    {"-o,--output", "FORMAT", "table, short, json, csv, raw or text", &Options::output_word,
     "table short json csv raw text"},
    {"-q,--quiet", "", "No notices, errors only", &Options::quiet},
    {"--no-legend", "", "No header and no summary lines", &Options::no_legend},
    {"-N,--numeric", "", "Ids as numbers, no user names", &Options::numeric},
};

const OptionSpec kOptions[] = {
    {"-p,--property", "KEY", "Only this property; may be repeated", &Options::properties},
    {"--xml", "", "The domain XML as it was defined", &Options::xml},
    {"--running", "", "The XML of the run, with what joined and left it since", &Options::running},
    {"--dry-run", "", "Print command line, claims and records; touch nothing", &Options::dry_run},
    {"--require-fence", "yes|no", "no: start even where no device fence can be had (recorded)",
     &Options::require_fence, "yes no"},
    {"--fence", "auto|v1|v2", "Which device controller fences the guest", &Options::fence,
     "auto v1 v2"},
    {"--timeout", "SECONDS", "How long to wait for the guest (default: stop 60, else 10)",
     &Options::timeout_s},
    {"--save", "", "Keep its state, and restore that at its next start", &Options::save},
    {"--discard-saved", "", "Forget the state that stop --save has kept", &Options::discard_saved},
    {"--force", "", "Revoke what the guest has not given back in time; open a locked tray at once",
     &Options::force},
    {"--target", "NAME", "The disk's name in the guest (vdb), or the interface's on the host",
     &Options::target},
    {"--format", "FORMAT",
     "Of an image (default raw; never guessed), a dump (elf), a picture (ppm)",
     &Options::image_format},
    {"--bus", "BUS", "virtio, scsi or usb (default by the target's name)", &Options::bus},
    {"--mac", "MAC", "Address of the interface (default one made from the guest's uuid)",
     &Options::mac},
    {"--model", "MODEL", "Model of the interface (default virtio)", &Options::model},
    {"--readonly", "", "The guest may not write to it", &Options::readonly},
    {"--existing", "", "The image is there already, made for this", &Options::existing},
    {"--top", "PATH", "The image to commit (default the disk's own)", &Options::top},
    {"--base", "PATH", "The image to commit into, or to keep (default the lowest, or none)",
     &Options::base},
    {"--shallow", "", "Only into the next image; only the disk's own image", &Options::shallow},
    {"--pivot", "", "The guest goes on with the other image; waits for the end", &Options::pivot},
    {"--finish,--keep-overlay", "", "The guest goes on with its own image; waits for the end",
     &Options::finish},
    {"--abort", "", "End the job without its work", &Options::abort},
    {"--wait", "", "Return when the job has ended", &Options::wait},
    {"--bandwidth", "MIB", "MiB a second at most; 0 for no limit", &Options::bandwidth},
    {"--live", "", "Also compare the open tenures with the kernel", &Options::live},
    {"--record", "", "Have tenured verify its ledger as well, and record the result",
     &Options::record},
    {"--proof", "FILE", "Check the inclusion proof in FILE", &Options::proof_file},
    {"--key", "FILE", "Public key to check signatures with", &Options::key_file},
    {"--dir", "LEDGER", "The ledger's folder (default that of the instance)", &Options::ledger_dir},
    {"--log", "PATH",
     "Read this log, journal export, ledger or folder; - is stdin; may be repeated",
     &Options::logs},
    {"--journal", "", "Read the system's journal by running journalctl", &Options::journal},
    {"-S,--since", "TIME", "From TIME on: journalctl's or ausearch's time words (also -ts)",
     &Options::since},
    {"-U,--until", "TIME", "Up to TIME (also -te)", &Options::until},
    {"--at", "TIME", "Only what was held at TIME", &Options::at},
    {"--node", "NAME", "Only records of this host (node=)", &Options::node},
    {"--glob", "", "GUEST is a shell pattern", &Options::glob},
    {"--runs", "", "The runs (lives) of the guests instead of their tenures", &Options::runs},
    {"--blind-spots", "", "What this trail cannot tell", &Options::blind_spots},
    {"-f,--follow", "", "Go on and print new records as they come", &Options::follow},
    {"-n,--lines", "N", "Only the last N records (default 10 with -f, else all)", &Options::lines},
    {"-r,--reverse", "", "Newest first", &Options::reverse},
    {"--who", "WHO", "Only what this user asked for: name or audit uid", &Options::filter_who},
    {"--guest", "GUEST", "Only this guest: name, uuid or unique uuid prefix",
     &Options::filter_guest},
    {"--resource", "RESOURCE", "Only this resource", &Options::filter_resource},
    {"--result", "success|failed", "Only records with this result", &Options::filter_result,
     "success failed"},
    {"--kind", "KIND", "Only this kind of record (disk, net, cgroup, control …)",
     &Options::filter_kind},
    {"--cursor-file", "FILE", "Go on where the last call with FILE ended, and store the new place",
     &Options::cursor_file},
    {"--by", "guest|resource|who|day", "What the report's lines are (default guest)", &Options::by,
     "guest resource who day"},
    {"--html", "FILE", "Write a page with timeline and table to FILE instead (- is stdout)",
     &Options::html},
};

#define TENURE_SOURCES "--log --journal --since --until --node "

struct CommandSpec {
  const char* name;
  const char* help;
  const char* argument;  // "" if none, "[GUEST]" if it may be left out
  Target argument_target = &Options::guest;
  const char* options = "";    // names in kOptions
  const char* canonical = "";  // of a hidden alias
  const char* rest = "";       // words after the argument, one or more, into Options::words
};

const CommandSpec kCommands[] = {
    {"define", "Keep a guest's domain XML", "FILE", &Options::file},
    {"undefine", "Forget a guest's definition", "GUEST", &Options::guest, "--discard-saved"},
    {"list", "The guests", ""},
    {"status", "One guest, for people", "GUEST"},
    {"show", "A guest's domain XML, or with -p its properties as KEY=VALUE", "GUEST",
     &Options::guest, "--property --xml --running"},
    {"edit", "Change a guest's definition in $EDITOR", "GUEST"},
    {"start", "Start a guest", "GUEST|FILE", &Options::guest,
     "--dry-run --require-fence --fence --discard-saved"},
    {"stop", "Ask a guest to shut down", "GUEST", &Options::guest, "--timeout --save"},
    {"save", "Write a guest's state to a file, and end it", "GUEST", &Options::guest, "", "",
     "FILE"},
    {"restore", "Start a guest from the file of save", "FILE", &Options::file,
     "--require-fence --fence --discard-saved"},
    {"dump", "Write a guest's memory to a file", "GUEST", &Options::guest, "--format", "", "FILE"},
    {"screenshot", "Write a guest's first screen to a file", "GUEST", &Options::guest, "--format",
     "", "FILE"},
    {"kill", "End a guest at once", "GUEST"},
    {"destroy", "End a guest at once", "GUEST", &Options::guest, "", "kill"},
    {"pause", "Stop a guest's vCPUs", "GUEST"},
    {"resume", "Let a paused guest go on", "GUEST"},
    {"reboot", "Press a guest's power button, and begin anew once it is off", "GUEST"},
    {"reset", "Reset a guest as its reset button would", "GUEST"},
    {"inject-nmi", "Send a guest a non-maskable interrupt", "GUEST"},
    {"console", "Connect to a guest's serial console", "GUEST"},
    {"attach", "Give a running guest a device: XML, or a short form such as disk PATH", "GUEST",
     &Options::guest, "--target --format --bus --mac --model --readonly", "",
     "FILE|disk PATH|cdrom PATH|interface KIND NAME|rng PATH|memory SIZE"},
    {"detach", "Take a device from a running guest: alias, target, path, MAC, or XML", "GUEST",
     &Options::guest, "--timeout --force", "", "DEVICE|FILE"},
    {"set", "Change a running guest's memory (by the balloon), vCPUs or iothreads", "GUEST",
     &Options::guest, "--timeout", "", "memory=SIZE|vcpus=N|iothreads=N"},
    {"update", "Change a device of a running guest: XML with its medium, link state or bridge",
     "GUEST", &Options::guest, "--timeout --force", "", "FILE|XML"},
    {"eject", "Take the medium out of a cdrom or floppy drive", "GUEST", &Options::guest,
     "--timeout --force", "", "TARGET"},
    {"insert", "Put a medium into a cdrom or floppy drive", "GUEST", &Options::guest,
     "--timeout --force --format --readonly", "", "TARGET PATH"},
    {"snapshot", "Let a running guest write to new images; those of now become their backing",
     "GUEST", &Options::guest, "--existing", "", "DISK FILE|DISK=FILE"},
    {"blockcommit", "Merge images of a running guest's disk into one below them", "GUEST",
     &Options::guest, "--top --base --shallow --pivot --finish --bandwidth --wait", "", "DISK"},
    {"blockpull", "Merge the images below a running guest's disk into its own", "GUEST",
     &Options::guest, "--base --bandwidth --wait", "", "DISK"},
    {"blockcopy", "Copy a running guest's disk, and let it go on with the copy", "GUEST",
     &Options::guest, "--format --shallow --existing --pivot --finish --bandwidth --wait", "",
     "DISK DEST"},
    {"blockjob", "Show or steer the job on a running guest's disk", "GUEST", &Options::guest,
     "--abort --pivot --finish --bandwidth", "", "DISK"},
    {"who", "Who held a resource, since when, by whose leave", "RESOURCE", &Options::resource,
     TENURE_SOURCES "--at --guest"},
    {"history", "What a guest held, and from when to when", "[GUEST]", &Options::guest,
     TENURE_SOURCES "--at --glob --runs --blind-spots"},
    {"log", "The records", "", &Options::guest,
     TENURE_SOURCES "--follow --lines --reverse --who --guest --resource --result --kind "
                    "--cursor-file"},
    {"denials", "What the fence refused, and what would have allowed it", "[GUEST]",
     &Options::guest, TENURE_SOURCES "--follow"},
    {"report", "Summaries", "", &Options::guest, TENURE_SOURCES "--by --guest --html"},
    {"verify", "Check the ledger: signatures, tree, order", "", &Options::guest,
     "--live --record --guest --proof --key --dir --log"},
    {"doctor", "Whether this host can keep a true and complete trail", ""},
    {"prove", "Print the inclusion proof of a record", "RECORD", &Options::entry, "--dir"},
};

#undef TENURE_SOURCES

std::string long_name(const OptionSpec& spec) {
  const std::string flags = spec.flags;
  const size_t begin = flags.find("--");
  return flags.substr(begin, flags.find(',', begin) - begin);
}

const OptionSpec* find_option(std::string_view name) {
  for (const OptionSpec& spec : kOptions) {
    if (long_name(spec) == name)
      return &spec;
  }
  return nullptr;
}

CLI::Option* add_flag(CLI::App& app, const OptionSpec& spec, bool& value) {
  return app.add_flag(spec.flags, value, spec.help);
}

// CLI11's own conversion accepts "-1" and "1e3" for unsigned numbers; ours takes digits only.
template <class Number>
CLI::Option* add_number(CLI::App& app, const OptionSpec& spec, Number& value) {
  const auto take = [&value](const std::string& text) {
    const auto number = parse_int<uint64_t>(text);
    if (number)
      value = *number;
    return number.has_value() ? std::string() : "'" + text + "' is not a number";
  };
  return app.add_option_function<std::string>(
                spec.flags, [](const std::string&) {}, spec.help)
      ->check(CLI::Validator(take, ""));
}

CLI::Option* add_named(CLI::App& app, const OptionSpec& spec, Options& out) {
  struct Add {
    CLI::App& app;
    const OptionSpec& spec;
    Options& out;
    CLI::Option* operator()(bool Options::* to) const { return add_flag(app, spec, out.*to); }
    CLI::Option* operator()(std::string Options::* to) const {
      return app.add_option(spec.flags, out.*to, spec.help);
    }
    CLI::Option* operator()(std::vector<std::string> Options::* to) const {
      return app.add_option(spec.flags, out.*to, spec.help)->allow_extra_args(false);
    }
    CLI::Option* operator()(uint64_t Options::* to) const { return add_number(app, spec, out.*to); }
    CLI::Option* operator()(std::optional<uint64_t> Options::* to) const {
      return add_number(app, spec, out.*to);
    }
  };
  return std::visit(Add{app, spec, out}, spec.target);
}

void add_option(CLI::App& app, const OptionSpec& spec, Options& out) {
  CLI::Option* option = add_named(app, spec, out);
  if (*spec.metavar != '\0')
    option->type_name(spec.metavar);
  if (*spec.choices == '\0')
    return;
  std::istringstream words(spec.choices);
  const std::vector<std::string> allowed{std::istream_iterator<std::string>(words), {}};
  const auto check = [allowed, text = std::string(spec.choices)](const std::string& word) {
    const bool known = std::find(allowed.begin(), allowed.end(), word) != allowed.end();
    return known ? std::string() : "'" + word + "' is not one of: " + text;
  };
  option->check(CLI::Validator(check, ""));
}

void add_argument(CLI::App& app, const CommandSpec& spec, Options& out) {
  std::string name = spec.argument;
  if (name.empty())
    return;
  const bool optional = name.front() == '[';
  if (optional)
    name = name.substr(1, name.size() - 2);
  CLI::Option* argument = nullptr;
  // A device number may be typed as two words: `who b 8:16`.
  if (auto* words = std::get_if<std::vector<std::string> Options::*>(&spec.argument_target)) {
    argument = app.add_option("argument", out.**words)->expected(1, 2);
  } else {
    argument =
        app.add_option("argument", out.*std::get<std::string Options::*>(spec.argument_target));
  }
  argument->option_text(name)->required(!optional);
  if (*spec.rest != '\0')
    app.add_option("words", out.words)->option_text(spec.rest)->required()->expected(1, -1);
}

// Without `named`, what the help of the program says of it alone.
void add_command(CLI::App& app, const CommandSpec& spec, bool named, Options& out) {
  CLI::App* sub = app.add_subcommand(spec.name, spec.help);
  sub->fallthrough();  // `tenure list -o json` as well as `tenure -o json list`
  if (*spec.canonical != '\0')
    sub->group("");
  if (!named)
    return;
  add_argument(*sub, spec, out);
  std::istringstream names(spec.options);
  for (std::string name; names >> name;) add_option(*sub, *find_option(name), out);
}

bool clock_word(std::string_view word) {
  return !word.empty() && word.find(':') != std::string_view::npos &&
         word.find_first_not_of("0123456789:.") == std::string_view::npos;
}

// ausearch's -ts and -te, whose time may be two words (date time), as --since and --until.
std::vector<std::string> without_ausearch_forms(const std::vector<std::string>& args) {
  std::vector<std::string> out;
  for (size_t i = 0; i < args.size(); ++i) {
    const bool since = args[i] == "-ts";
    if (!since && args[i] != "-te") {
      out.push_back(args[i]);
      continue;
    }
    out.emplace_back(since ? "--since" : "--until");
    if (i + 1 < args.size())
      out.push_back(args[++i]);
    if (i + 1 < args.size() && !clock_word(args[i]) && clock_word(args[i + 1])) {
      out.back() += " " + args[++i];
    }
  }
  return out;
}

Parsed finish(const CLI::App& app, const CLI::ParseError& error) {
  std::ostringstream out;
  std::ostringstream err;
  const bool good = app.exit(error, out, err) == 0;
  Parsed parsed;
  parsed.exit_code = to_int(good ? ExitCode::Ok : ExitCode::Usage);
  parsed.text = good ? out.str() : "tenure: " + std::string(trim(err.str())) + "\n";
  return parsed;
}

void name_command(const CLI::App& app, Options& options) {
  const std::string& name = app.get_subcommands().front()->get_name();
  for (const CommandSpec& spec : kCommands) {
    if (spec.name == name)
      options.command = *spec.canonical != '\0' ? spec.canonical : spec.name;
  }
}

}  // namespace

OutputFormat Options::output(OutputFormat fallback) const {
  static constexpr std::pair<std::string_view, OutputFormat> kWords[] = {
      {"table", OutputFormat::Table}, {"short", OutputFormat::Short}, {"json", OutputFormat::Json},
      {"csv", OutputFormat::Csv},     {"raw", OutputFormat::Raw},     {"text", OutputFormat::Text}};
  for (const auto& [word, format] : kWords) {
    if (word == output_word)
      return format;
  }
  return fallback;
}

Parsed parse_options(std::vector<std::string> args) {
  CLI::App app{"Who holds what of this host, since when, by whose leave.", "tenure"};
  app.set_version_flag("--version", "tenure " TENURE_VERSION);
  app.require_subcommand(1);
  Options options;
  for (const OptionSpec& spec : kGlobal) add_option(app, spec, options);
  args = without_ausearch_forms(args);
  const auto is_named = [&args](const CommandSpec& spec) {
    return std::find(args.begin(), args.end(), spec.name) != args.end();
  };
  // To tell CLI11 of all commands takes longer than what most of them do.
  const bool any = std::any_of(std::begin(kCommands), std::end(kCommands), is_named);
  for (const CommandSpec& spec : kCommands) {
    if (is_named(spec) || !any)
      add_command(app, spec, any, options);
  }
  std::reverse(args.begin(), args.end());  // CLI11 takes the words from the back
  try {
    app.parse(std::move(args));
  } catch (const CLI::ParseError& error) {
    return finish(app, error);
  }
  name_command(app, options);
  return Parsed{.options = std::move(options), .exit_code = 0, .text = {}};
}

std::vector<std::string_view> command_names() {
  std::vector<std::string_view> names;
  for (const CommandSpec& spec : kCommands) {
    if (*spec.canonical == '\0')
      names.emplace_back(spec.name);
  }
  return names;
}

}  // namespace tenure::cli
