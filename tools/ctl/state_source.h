#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>

#include "brick/base/result.h"
#include "tools/ctl/command.h"

namespace voldfs::ctl {

using Json = nlohmann::json;

// Where this node's management is: its daemon's socket, and the files for when there is no daemon.
struct Place {
  std::string run_dir = "/run/voldfs";
  std::string state_dir = "/var/lib/voldfs";
  std::string conf_dir = "/etc/voldfs";
  bool script = false;  // --mode=script: no questions
  bool json = false;    // --json, for verbs that print by themselves
};

inline constexpr int kReadTimeoutMs = 2000;  // of a daemon that is there; none is noticed at once

// What is known of the cluster, and how well.
struct Reading {
  Json state;            // as GET /v1/state has it
  Json status;           // {bricks, peers, missing}; null if it was not asked for
  std::string self;      // id of this node
  bool from_files = false;
  std::string trouble;   // why it is from files
  bool quorum = false;
  int64_t age_ms = 0;    // -1: not known
  bool complete() const { return quorum && (status.is_null() || status.value("missing", Json::array()).empty()); }
  std::string note() const;  // for people, when it is not complete; else empty
  Json about() const;        // the same for programs
};

// From the daemon; with none, from the state directory, and the bricks are asked themselves. Answers within a second.
// `volume`: with that one alone in it (none, if it is ""), which is much less where there are thousands.
Explained<Reading> read_cluster(const Place& place, bool with_status, const std::optional<std::string>& volume = std::nullopt);
// Their names alone: in `state` each volume is null.
Explained<Reading> read_volume_names(const Place& place);

// One change. Tried again under the same id when the answer was lost. Nothing is changed without a daemon.
Explained<Json> change_cluster(const Place& place, const std::string& op, Json fields);
// One request to the daemon; an answer with "error" is one.
Explained<Json> get(const Place& place, const std::string& path, int timeout_ms);
Explained<Json> post(const Place& place, const std::string& path, const Json& body, int timeout_ms);

// The secret of this node, {token, api_token}.
Explained<Json> mgmt_token(const Place& place);

// "y" from the terminal, or script mode. Without a terminal nobody can answer: no.
bool confirm(const Place& place, const std::string& question);
tl::unexpected<std::string> declined(const std::string& verb);

// A report that says how well it is known.
Report report_of(const Reading& reading, std::string text, Json json);

}  // namespace voldfs::ctl
