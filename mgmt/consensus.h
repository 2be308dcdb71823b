#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "brick/base/id.h"
#include "brick/base/result.h"
#include "mgmt/tls.h"

// The replicated log, behind a narrow interface. consensus.cc, voter_io.cc and raft_transport.cc are the only files that
// know libraft and libuv.
namespace voldfs::mgmt {

// What the log is applied to. Called on the log's thread alone.
class StateMachine {
 public:
  virtual ~StateMachine() = default;
  virtual void apply(uint64_t index, std::string_view command) = 0;
  // Everything that the cluster has agreed on, as far as its leader has told, is applied. Called again and again.
  virtual void caught_up() {}
  virtual std::string snapshot() = 0;
  virtual Explained<void> restore(std::string_view snapshot) = 0;
};

struct Endpoint {
  std::string address;  // literal
  uint16_t port = 0;
};

struct ConsensusOptions {
  std::string directory;          // the log's own; exists
  std::string memory_path;        // the second copy of what this voter promised, outside `directory`
  Id cluster;
  std::shared_ptr<const Tls> tls; // of this node, for the connections between voters
  uint64_t voter = 0;
  Endpoint listen;
  bool bootstrap = false;         // a new log whose only member is this voter
  bool recover = false;           // the other voters are lost for good: this one alone goes on with its log
  bool must_exist = true;         // this voter has a log, and an empty directory has lost it
  uint32_t election_ms = 1000, heartbeat_ms = 100;
  // Where a voter is; called on the log's thread. None: not known.
  std::function<std::optional<Endpoint>(uint64_t voter)> resolve;
  // Voters that are refused: they lost their memory, or left.
  std::function<bool(uint64_t voter)> refuse;
  // For tests: whom no message reaches, or none with new entries of the log. Null: all are reached.
  std::function<bool(uint64_t voter, bool entries)> cut_off;
};

enum class MemberRole { kVoter, kStandby, kSpare };

struct Member {
  uint64_t voter = 0;
  MemberRole role = MemberRole::kSpare;
};

struct ConsensusStatus {
  bool leading = false;
  uint64_t leader = 0;             // 0: none known, so no majority was in contact lately
  uint64_t term = 0, last_index = 0, applied = 0;
  uint64_t last_term = 0;          // of the last entry
  uint64_t snapshots = 0;          // taken since the start
  int64_t snapshot_us = 0;         // that the last one took, from the state to the disk
  int64_t led_until_ms = 0;        // boottime_ms() when there was a leader last; 0: never
  std::vector<Member> members;
};

enum class Outcome {
  kCommitted,
  kNotLeading,  // nothing happened
  kNoSpace,     // nothing happened: the log's file system is full
  kUnknown,     // it may have happened, or may yet: ask again with the same command id
};

// Why a log did not start.
struct LogFailure {
  bool forgotten = false;  // it is damaged or lost something: this voter must not vote any more
  std::string sentence;
};

// A running log, on a thread of its own. Any thread.
class Consensus {
 public:
  static tl::expected<std::unique_ptr<Consensus>, LogFailure> start(ConsensusOptions options, StateMachine& machine);
  ~Consensus();  // stops: callbacks that wait are called with kUnknown

  using Done = std::function<void(Outcome)>;  // on the log's thread
  // When `done` says kCommitted, the command has been applied here.
  void propose(std::string command, Done done);

  // Changes of the members, one at a time; the leader alone. add() makes a spare, promote() brings it up to date and
  // makes it a voter.
  void add(uint64_t voter, Done done);
  void assign(uint64_t voter, MemberRole role, Done done);
  void remove(uint64_t voter, Done done);
  void transfer(uint64_t voter);  // gives the lead away; 0: to any

  ConsensusStatus status() const;

 private:
  struct Impl;
  explicit Consensus(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace voldfs::mgmt
