#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "brick/base/result.h"

// voldctl: a noun a file (map, brick, ...), each of which adds its verbs to the command line. A verb only says what it
// would do; main does it when the whole line has been understood.
namespace voldfs::ctl {

inline constexpr int kExitDone = 0;
inline constexpr int kExitFailed = 1;  // the error is a sentence on stderr; with --json also {"error": SENTENCE} on stdout
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // by Ctrl-C, while a change was under way; 128 + SIGINT, as the shell has it
inline constexpr int kExitPartial = 3; // a read that could not be complete: no quorum, or a node that did not answer; see stderr

// What a verb has to say: for people, and the same for programs.
struct Report {
  std::string text;
  nlohmann::json json;
  std::string note = {};       // how well it is known, if not completely; for people, on stderr
  int exit_code = kExitDone;
  bool printed = false;        // the verb has printed by itself, a line at a time
};

using Action = std::function<Explained<Report>()>;

// Where the verb that was on the command line leaves its action.
struct Chosen {
  Action action;
};

// Every noun, in the order of the help. The options that they fill in live as long as `app`.
void add_map_commands(CLI::App& app, Chosen& chosen);
void add_brick_commands(CLI::App& app, Chosen& chosen);
// Those of the management plane: only where mgmt/ is built.
struct Place;
void add_volume_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place);
void add_peer_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place);  // and pool, get-state
void add_cluster_commands(CLI::App& app, Chosen& chosen, const std::shared_ptr<Place>& place);  // backup, restore, events, webhook, doctor

// The whole program: understands the command line, does it, prints, and returns the exit code.
int run(int argc, const char* const* argv);

}  // namespace voldfs::ctl
