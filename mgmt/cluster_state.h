#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "dht/volume_map.h"

// What a cluster agrees on: peers, volumes, bricks, options. A deterministic state machine: the same commands in
// the same order give the same state, byte by byte, on every node. Pure: no clock, no random number, no I/O; what
// a command needs of those is in the command.
namespace voldfs::mgmt {

using Json = nlohmann::json;

enum class PeerRole { kVoter, kStandby };

struct Peer {
  Id id;                      // the node's identity, for good
  std::string name;           // for people, and the HOST of HOST:/PATH
  std::string address;        // literal; can be changed
  uint16_t api_port = 0;      // HTTP
  uint16_t raft_port = 0;     // the log
  uint16_t brick_port_first = 24200;
  uint64_t voter = 0;         // its number in the log's configuration; a node that lost its memory gets a new one
  PeerRole role = PeerRole::kVoter;
  bool witness = false;       // votes, holds no bricks

  bool operator==(const Peer&) const = default;
};

// A text that is made when it is first asked for, and kept. A copy begins without one. Any thread.
class KeptText {
 public:
  KeptText() = default;
  KeptText(const KeptText&) {}
  KeptText& operator=(const KeptText&) = delete;
  template <class Make>
  const std::string& get(Make make) const {
    const std::lock_guard lock(mutex_);
    if (text_.empty()) text_ = make();
    return text_;
  }

 private:
  mutable std::mutex mutex_;
  mutable std::string text_;  // guarded by mutex_
};

// Immutable once it is in a state: shared by copies of it, with its text.
struct Volume {
  dht::VolumeMap map;          // map.started: its bricks are to be served
  std::string secret;          // 64 hexadecimal digits
  std::map<Id, Id> owners;     // brick: peer
  std::set<Id> ready;          // bricks whose directory has been made
  int64_t created = 0;         // seconds since 1970, of the proposer's clock
  KeptText text;               // its JSON, compact
};
using VolumePtr = std::shared_ptr<const Volume>;

// Bounds of what a cluster may hold.
inline constexpr size_t kPeersMax = 64;
inline constexpr size_t kVotersMax = 5;
inline constexpr size_t kVolumesMax = 4096;
inline constexpr size_t kBricksPerVolumeMax = 1023;  // ordinals end there
inline constexpr size_t kPortsPerPeer = 4096;        // from brick_port_first up
inline constexpr size_t kNameMax = 63;
inline constexpr size_t kOptionValueMax = 4096;
inline constexpr size_t kRememberedMax = 1024;       // commands whose result is kept for a retry
inline constexpr size_t kWebhooksMax = 16;
inline constexpr size_t kWebhookUrlMax = 1024;
inline constexpr uint32_t kStateFormat = 1;

// A value; volumes and results are shared between copies, so that a copy is cheap and a reader keeps one without a lock.
class ClusterState {
 public:
  // Applies one command, {"id": UUID, "op": NAME, ...}, and returns its result: {"ok": true, ...} or
  // {"ok": false, "error": sentence}. A refused command changes nothing but the list of results. A command whose id
  // was applied before changes nothing and returns the first result. Takes any JSON.
  Json apply(const Json& command);
  // The result of a command applied before; null: not known.
  const Json* result_of(const Id& command) const;

  Json to_json() const;        // the whole state, secrets included
  static Explained<ClusterState> from_json(const Json& json);
  std::string snapshot() const;  // of to_json(): same state, same bytes
  // What readers are told: without secrets and results; with one volume alone if it is named (with none if that is "").
  std::string public_text(const std::optional<std::string>& volume = std::nullopt) const;
  static Explained<ClusterState> restore(std::string_view snapshot);
  bool operator==(const ClusterState& other) const { return snapshot() == other.snapshot(); }

  // Readers.
  const Peer* peer(const Id& id) const;
  const Peer* peer_of_voter(uint64_t voter) const;
  const Peer* peer_named(std::string_view name_or_address) const;
  VolumePtr volume(std::string_view name) const;

  Id cluster;
  Id incarnation, parent_incarnation;
  uint64_t version = 0;        // counts commands that changed something
  std::map<Id, Peer> peers;
  std::map<std::string, VolumePtr, std::less<>> volumes;
  std::set<uint64_t> retired;  // voters that must never vote again
  std::set<std::string> webhooks;  // URLs that events are posted to

 private:
  friend struct Commands;
  struct Remembered {
    Id command;
    std::shared_ptr<const Json> result;
  };
  Json head() const;           // all but the volumes and the results
  std::deque<Remembered> remembered_;  // oldest first
};

// A volume's or node's name: letters, digits, '-', '_' and (inside) '.', at most kNameMax, no "all".
bool valid_name(std::string_view name);

Json peer_to_json(const Peer& peer);
Explained<Peer> peer_from_json(const Json& json);

}  // namespace voldfs::mgmt
